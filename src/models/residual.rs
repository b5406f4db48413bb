//! Transformer blocks of ViT and Swin: the residual branches around attention and MLP.

use super::attention::TokenMixing;
use super::layers::{MlpLayer, NormLayer};
use super::options::BlockStyle;
use crate::randomness::for_images;
use crate::Result;
use tch::{nn, Tensor};

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

/// A pre-norm transformer block: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))).
#[derive(Debug)]
pub(super) struct Block<M> {
    norm1: NormLayer,
    attn: M,
    ls1: LayerScale,
    norm2: NormLayer,
    mlp: MlpLayer,
    ls2: LayerScale,
    drop_path: f64,
}

/// Sizes and style of a block, beside its attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockLayout {
    /// Width of the embedding.
    pub(super) width: i64,
    /// Hidden width of the MLP.
    pub(super) hidden_dim: i64,
    /// What it has in common with the other blocks.
    pub(super) style: BlockStyle,
    /// Rate of stochastic depth.
    pub(super) drop_path: f64,
}

impl<M: TokenMixing> Block<M> {
    /// Adds the variables of the block; `attention` adds those of its own at the path it is given.
    pub(super) fn new(
        path: &nn::Path,
        layout: BlockLayout,
        attention: impl FnOnce(&nn::Path) -> Result<M>,
    ) -> Result<Self> {
        let BlockLayout { width, hidden_dim, style, drop_path } = layout;
        let norm = |name| NormLayer::new(&(path / name), width, style.norm, style.norm_eps);
        Ok(Self {
            norm1: norm("norm1")?,
            attn: attention(&(path / "attn"))?,
            ls1: LayerScale::new(&(path / "ls1"), width, style.layer_scale)?,
            norm2: norm("norm2")?,
            mlp: MlpLayer::new(&(path / "mlp"), width, hidden_dim, &style)?,
            ls2: LayerScale::new(&(path / "ls2"), width, style.layer_scale)?,
            drop_path,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let attended = self.ls1.forward(self.attn.forward(&self.norm1.forward(x)?)?)?;
        let x = x.f_add(&drop_path(attended, self.drop_path, train)?)?;
        let hidden = self.ls2.forward(self.mlp.forward(&self.norm2.forward(&x)?)?)?;
        Ok(x.f_add(&drop_path(hidden, self.drop_path, train)?)?)
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
        Ok(Tensor::f_rand(&shape[..], (branch.kind(), branch.device()))?)
    })?;
    let keep = random.f_ge(rate)?;
    Ok(branch.f_mul(&keep.f_to_kind(branch.kind())?)?.f_div_scalar(1.0 - rate)?)
}
