//! Layers of ViT and Swin, with fallible tensor calls only.

use super::block::BlockConfig;
use crate::randomness::for_images;
use crate::Result;
use tch::{nn, Tensor};

/// Linear map y = x·Wᵀ + b.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Adds the variables: weights normal with std 0.02 (DeiT), bias zero.
    pub(super) fn new(path: &nn::Path, inputs: i64, outputs: i64) -> Result<Self> {
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            weight: path.f_var("weight", &[outputs, inputs], normal)?,
            bias: path.f_zeros("bias", &[outputs])?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

/// Layer normalisation over the last axis.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn new(path: &nn::Path, width: i64, eps: f64) -> Result<Self> {
        let (weight, bias) = (path.f_ones("weight", &[width])?, path.f_zeros("bias", &[width])?);
        Ok(Self { weight, bias, eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.weight.size();
        Ok(x.f_layer_norm(&shape[..], Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

/// Linear projection of non-overlapping patches: `[B, C, H, W]` → `[B, N, E]`.
#[derive(Debug)]
pub(super) struct PatchEmbedding {
    weight: Tensor,
    bias: Tensor,
    patch: i64,
}

impl PatchEmbedding {
    pub(super) fn new(path: &nn::Path, channels: i64, patch: i64, width: i64) -> Result<Self> {
        let bound = 1.0 / ((channels * patch * patch) as f64).sqrt();
        let uniform = nn::Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            weight: path.f_var("weight", &[width, channels, patch, patch], uniform)?,
            bias: path.f_var("bias", &[width], uniform)?,
            patch,
        })
    }

    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let stride = [self.patch, self.patch];
        let grid = images.f_conv2d(&self.weight, Some(&self.bias), stride, [0, 0], [1, 1], 1)?;
        Ok(grid.f_flatten(2, 3)?.f_transpose(1, 2)?)
    }
}

/// Multi-head attention within windows of tokens; a ViT has one window of all tokens.
#[derive(Debug)]
pub(super) struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: i64,
    head_dim: i64,
    scale: f64,
}

impl Attention {
    pub(super) fn new(path: &nn::Path, width: i64, sizes: &BlockConfig) -> Result<Self> {
        let inner = sizes.attention_dim();
        Ok(Self {
            qkv: Linear::new(&(path / "qkv"), width, 3 * inner)?,
            proj: Linear::new(&(path / "proj"), inner, width)?,
            heads: sizes.heads,
            head_dim: sizes.head_dim,
            scale: sizes.attention_scale(),
        })
    }

    /// Attends within each of `windows` windows: `[B·windows, N, E]` → `[B·windows, N, E]`; `bias`,
    /// `[1, windows·heads, N, N]`, is added to the attention logits.
    ///
    /// Windows share an axis with heads, so that the bias is broadcast over images, not copied.
    pub(super) fn in_windows(
        &self,
        x: &Tensor,
        windows: i64,
        bias: Option<Tensor>,
    ) -> Result<Tensor> {
        let (all, tokens, _) = x.size3()?;
        let (batch, heads) = (all / windows, windows * self.heads);
        let shape = [batch, windows, tokens, 3, self.heads, self.head_dim];
        let qkv = self.qkv.forward(x)?.f_view(shape)?.f_permute([3, 0, 1, 4, 2, 5])?;
        // The gradient of unbind is written at once; those of three selects would each be as large as qkv, and summed.
        let parts: Vec<Tensor> = qkv
            .f_unbind(0)?
            .iter()
            .map(|part| part.f_flatten(1, 2))
            .collect::<std::result::Result<_, _>>()?;
        let bias = bias.map(|bias| bias.f_expand([batch, heads, tokens, tokens], false));
        let mixed = Tensor::f_scaled_dot_product_attention(
            &parts[0],
            &parts[1],
            &parts[2],
            bias.transpose()?,
            0.0,
            false,
            self.scale,
            false,
        )?;
        let mixed = mixed.f_view([batch, windows, self.heads, tokens, self.head_dim])?;
        let inner = self.heads * self.head_dim;
        self.proj.forward(&mixed.f_transpose(2, 3)?.f_reshape([all, tokens, inner])?)
    }
}

/// MLP of a transformer block: fc2(GELU(fc1(x))).
#[derive(Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    pub(super) fn new(path: &nn::Path, width: i64, hidden: i64) -> Result<Self> {
        Ok(Self {
            fc1: Linear::new(&(path / "fc1"), width, hidden)?,
            fc2: Linear::new(&(path / "fc2"), hidden, width)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward(x)?.f_gelu("none")?)
    }
}

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

/// Attention of a transformer block: `[B, N, E]` → `[B, N, E]`.
pub(super) trait TokenMixing {
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

impl TokenMixing for Attention {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.in_windows(x, 1, None)
    }
}

/// A pre-norm transformer block: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))).
#[derive(Debug)]
pub(super) struct Block<M> {
    norm1: LayerNorm,
    attn: M,
    ls1: LayerScale,
    norm2: LayerNorm,
    mlp: Mlp,
    ls2: LayerScale,
    drop_path: f64,
}

/// What the blocks of a network differ in, beside their attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockLayout {
    /// Width of the embedding.
    pub(super) width: i64,
    /// Hidden width of the MLP.
    pub(super) hidden_dim: i64,
    /// ε of the LayerNorms.
    pub(super) eps: f64,
    /// Initial LayerScale, if there is one.
    pub(super) layer_scale: Option<f64>,
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
        let BlockLayout { width, hidden_dim, eps, layer_scale, drop_path } = layout;
        Ok(Self {
            norm1: LayerNorm::new(&(path / "norm1"), width, eps)?,
            attn: attention(&(path / "attn"))?,
            ls1: LayerScale::new(&(path / "ls1"), width, layer_scale)?,
            norm2: LayerNorm::new(&(path / "norm2"), width, eps)?,
            mlp: Mlp::new(&(path / "mlp"), width, hidden_dim)?,
            ls2: LayerScale::new(&(path / "ls2"), width, layer_scale)?,
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
