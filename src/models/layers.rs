//! The few layers a vision transformer is made of, with fallible tensor calls only.

use super::block::BlockConfig;
use crate::Result;
use tch::{nn, Tensor};

/// y = x·Wᵀ + b.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Weights normal with std 0.02 (DeiT), bias zero.
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

/// Non-overlapping patches, projected: `[B, C, H, W]` → `[B, N, E]`.
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

/// Attention within windows of tokens; a ViT has one, of all tokens.
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

    /// `[B·windows, N, E]` → the same; `bias`, `[1, windows·heads, N, N]`, is added to the logits.
    ///
    /// Windows stand beside heads in attention, so that a bias is not copied for every image.
    pub(super) fn forward(&self, x: &Tensor, windows: i64, bias: Option<Tensor>) -> Result<Tensor> {
        let (all, tokens, _) = x.size3()?;
        let (batch, heads) = (all / windows, windows * self.heads);
        let shape = [batch, windows, tokens, 3, self.heads, self.head_dim];
        let qkv = self.qkv.forward(x)?.f_view(shape)?.f_permute([3, 0, 1, 4, 2, 5])?;
        let part = |index| qkv.f_select(0, index)?.f_flatten(1, 2);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let bias = bias.map(|bias| bias.f_expand([batch, heads, tokens, tokens], false));
        let mixed = Tensor::f_scaled_dot_product_attention(
            &q,
            &k,
            &v,
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

/// The hidden layer of a transformer block.
#[derive(Debug)]
pub(super) struct Mlp {
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

/// A residual branch times a learned vector, or as it is (Touvron et al. 2021, CaiT).
#[derive(Debug)]
pub(super) struct LayerScale {
    gamma: Option<Tensor>,
}

impl LayerScale {
    pub(super) fn new(path: &nn::Path, width: i64, start: Option<f64>) -> Result<Self> {
        let gamma = |start| path.f_var("gamma", &[width], nn::Init::Const(start));
        Ok(Self { gamma: start.map(gamma).transpose()? })
    }

    pub(super) fn forward(&self, branch: Tensor) -> Result<Tensor> {
        match &self.gamma {
            None => Ok(branch),
            Some(gamma) => Ok(branch.f_mul(gamma)?),
        }
    }
}

/// Drops whole residual branches of single images, and scales the rest up (stochastic depth).
pub(super) fn drop_path(branch: Tensor, rate: f64, train: bool) -> Result<Tensor> {
    if !train || rate == 0.0 {
        return Ok(branch);
    }
    let mut shape = vec![1; branch.dim()];
    shape[0] = branch.size()[0];
    let keep = Tensor::f_rand(&shape[..], (branch.kind(), branch.device()))?.f_ge(rate)?;
    Ok(branch.f_mul(&keep.f_to_kind(branch.kind())?)?.f_div_scalar(1.0 - rate)?)
}
