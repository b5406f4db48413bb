//! Transformer blocks of ViT and Swin: the residual branches around attention and MLP.

use super::attention::TokenMixing;
use super::block::BlockConfig;
use super::layers::{MlpLayer, NormLayer};
use super::options::BlockStyle;
use crate::randomness::for_images;
use crate::Result;
use tch::{nn, Kind, Tensor};

/// LayerScale (Touvron et al. 2021, CaiT): the product of a residual branch and a learned vector,
/// or the branch itself where there is none.
#[derive(Debug)]
struct LayerScale {
    gamma: Option<Tensor>,
}

impl LayerScale {
    pub(super) fn new(path: &nn::Path, width: i64, initial: Option<f64>) -> Result<Self> {
        let gamma = |initial| path.f_var("gamma", &[width], nn::Init::Const(initial));
        Ok(Self { gamma: initial.map(gamma).transpose()? })
    }

    fn forward(&self, branch: Tensor) -> Result<Tensor> {
        match &self.gamma {
            None => Ok(branch),
            Some(gamma) => Ok(branch.f_mul(gamma)?),
        }
    }
}

/// A residual branch of a block: scale ⊙ layers(norm(x)), or, once it has been removed, scale ⊙ bias.
#[derive(Debug)]
struct Branch<M> {
    layers: Layers<M>,
    scale: LayerScale,
    drop_path: f64,
}

#[derive(Debug)]
enum Layers<M> {
    Present {
        norm: NormLayer,
        layers: M,
    },
    /// The bias of the last layer, `[E]`: all that a branch without units adds.
    Removed {
        bias: Tensor,
    },
}

impl<M> Branch<M> {
    /// Returns `x` plus the branch. The constant of a removed branch has no stochastic depth.
    fn add_to(
        &self,
        x: &Tensor,
        train: bool,
        forward: impl FnOnce(&M, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let added = match &self.layers {
            Layers::Removed { bias } => self.scale.forward(bias.shallow_clone())?,
            Layers::Present { norm, layers } => {
                let output = self.scale.forward(forward(layers, &norm.forward(x)?)?)?;
                drop_path(output, self.drop_path, train)?
            }
        };
        Ok(x.f_add(&added)?)
    }
}

/// A pre-norm transformer block: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))).
#[derive(Debug)]
pub(super) struct Block<M> {
    attention: Branch<M>,
    mlp: Branch<MlpLayer>,
}

/// Sizes and style of a block, beside its attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockLayout {
    /// Width of the embedding.
    pub(super) width: i64,
    /// Sizes of the block.
    pub(super) sizes: BlockConfig,
    /// What it has in common with the other blocks.
    pub(super) style: BlockStyle,
    /// Rate of stochastic depth.
    pub(super) drop_path: f64,
}

impl BlockLayout {
    /// Adds the variables of a branch: norm, layers and scale, or bias and scale of a removed one.
    fn branch<M>(
        &self,
        path: &nn::Path,
        exists: bool,
        [norm, name, last, scale]: [&str; 4],
        layers: impl FnOnce(&nn::Path) -> Result<M>,
    ) -> Result<Branch<M>> {
        let Self { width, style, drop_path, .. } = *self;
        let layers = match exists {
            true => Layers::Present {
                norm: NormLayer::new(&(path / norm), width, style.norm, style.norm_eps)?,
                layers: layers(&(path / name))?,
            },
            false => Layers::Removed { bias: (path / name / last).f_zeros("bias", &[width])? },
        };
        let scale = LayerScale::new(&(path / scale), width, style.layer_scale)?;
        Ok(Branch { layers, scale, drop_path })
    }
}

impl<M: TokenMixing> Block<M> {
    /// Adds the variables of the block; `attention` adds those of its own at the path it is given.
    pub(super) fn new(
        path: &nn::Path,
        layout: BlockLayout,
        attention: impl FnOnce(&nn::Path) -> Result<M>,
    ) -> Result<Self> {
        let BlockLayout { width, sizes, style, .. } = layout;
        let mlp = |path: &nn::Path| MlpLayer::new(path, width, sizes.hidden_dim, &style);
        let (of_attention, of_mlp) =
            (["norm1", "attn", "proj", "ls1"], ["norm2", "mlp", "fc2", "ls2"]);
        Ok(Self {
            attention: layout.branch(path, sizes.has_attention(), of_attention, attention)?,
            mlp: layout.branch(path, sizes.has_mlp(), of_mlp, mlp)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.attention.add_to(x, train, |attention, x| attention.forward(x))?;
        self.mlp.add_to(&x, train, |mlp, x| mlp.forward(x))
    }
}

/// Stochastic depth: in training, sets the branch of an image to zero with probability `rate`, and
/// divides the others by 1 − `rate`.
fn drop_path(branch: Tensor, rate: f64, train: bool) -> Result<Tensor> {
    if !train || rate == 0.0 {
        return Ok(branch);
    }
    let mut shape = vec![1; branch.dim()];
    let random = for_images(branch.size()[0], |images| {
        shape[0] = images;
        // In bf16 uniform numbers are multiples of 1/256: too coarse for the rates of the first blocks.
        Ok(Tensor::f_rand(&shape[..], (Kind::Float, branch.device()))?)
    })?;
    let keep = random.f_ge(rate)?;
    Ok(branch.f_mul(&keep.f_to_kind(branch.kind())?)?.f_div_scalar(1.0 - rate)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn drop_path_in_bf16_drops_the_share_that_is_asked_for() -> Result<()> {
        let images = 1_000_000;
        for rate in [0.002, 0.1 / 11.0] {
            let branch = Tensor::f_ones([images, 1], (Kind::BFloat16, Device::Cpu))?;
            let kept = drop_path(branch, rate, true)?.f_ne(0.0)?.f_sum(None)?.f_int64_value(&[])?;
            let dropped = (images - kept) as f64 / images as f64;
            assert!((dropped / rate - 1.0).abs() < 0.1, "{dropped} {rate}");
        }
        Ok(())
    }
}
