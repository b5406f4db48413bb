//! Linear maps, norms and MLPs of ViT and Swin, with fallible tensor calls only.

use super::options::{Activation, BlockStyle, Mlp, Norm};
use crate::Result;
use tch::{nn, Kind, Tensor};

/// Linear map y = x·Wᵀ + b, or without b.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Adds the variables: weights normal with std 0.02 (DeiT), bias zero.
    pub(super) fn new(path: &nn::Path, inputs: i64, outputs: i64) -> Result<Self> {
        Self::with_bias(path, inputs, outputs, true)
    }

    /// Adds the variables, with a bias or without.
    pub(super) fn with_bias(
        path: &nn::Path,
        inputs: i64,
        outputs: i64,
        bias: bool,
    ) -> Result<Self> {
        Self::with_axes(path, inputs, &[outputs], bias)
    }

    /// Adds the variables of a map whose outputs have these axes in W and b, and are one axis of y.
    pub(super) fn with_axes(
        path: &nn::Path,
        inputs: i64,
        outputs: &[i64],
        bias: bool,
    ) -> Result<Self> {
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            weight: path.f_var("weight", &[outputs, &[inputs]].concat(), normal)?,
            bias: bias.then(|| path.f_zeros("bias", outputs)).transpose()?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.weight.dim() == 2 {
            return Ok(x.f_linear(&self.weight, self.bias.as_ref())?);
        }
        let bias = self.bias.as_ref().map(|bias| bias.f_flatten(0, -1)).transpose()?;
        Ok(x.f_linear(&self.weight.f_flatten(0, -2)?, bias.as_ref())?)
    }
}

/// Norm over the last axis.
#[derive(Debug)]
pub(super) enum NormLayer {
    /// LayerNorm.
    Layer { weight: Tensor, bias: Tensor, eps: f64 },
    /// RMSNorm.
    Rms { weight: Tensor, eps: f64 },
}

impl NormLayer {
    pub(super) fn new(path: &nn::Path, width: i64, norm: Norm, eps: f64) -> Result<Self> {
        let weight = path.f_ones("weight", &[width])?;
        Ok(match norm {
            Norm::Layer => Self::Layer { weight, bias: path.f_zeros("bias", &[width])?, eps },
            Norm::Rms => Self::Rms { weight, eps },
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Layer { weight, bias, eps } => {
                x.f_layer_norm(&weight.size()[..], Some(weight), Some(bias), *eps, true)?
            }
            // In operators that every device has: libtorch's own is fused on CUDA, and its gradient is known there alone.
            Self::Rms { weight, eps } => {
                let wide = x.f_to_kind(Kind::Float)?;
                let mean = wide.f_square()?.f_mean_dim(&[-1i64][..], true, None::<Kind>)?;
                let scale = mean.f_add_scalar(*eps)?.f_rsqrt()?;
                wide.f_mul(&scale)?.f_to_kind(x.kind())?.f_mul(weight)?
            }
        })
    }
}

/// Linear projection of non-overlapping patches: `[B, C, H, W]` → `[B, N, E]`.
#[derive(Debug)]
pub(super) struct PatchEmbedding {
    weight: Tensor,
    bias: Option<Tensor>,
    patch: [i64; 2],
}

impl PatchEmbedding {
    pub(super) fn new(
        path: &nn::Path,
        channels: i64,
        patch: [i64; 2],
        width: i64,
        bias: bool,
    ) -> Result<Self> {
        let bound = 1.0 / ((channels * patch[0] * patch[1]) as f64).sqrt();
        let uniform = nn::Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            weight: path.f_var("weight", &[width, channels, patch[0], patch[1]], uniform)?,
            bias: bias.then(|| path.f_var("bias", &[width], uniform)).transpose()?,
            patch,
        })
    }

    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let grid =
            images.f_conv2d(&self.weight, self.bias.as_ref(), self.patch, [0, 0], [1, 1], 1)?;
        Ok(grid.f_flatten(2, 3)?.f_transpose(1, 2)?)
    }
}

/// MLP of a transformer block: fc2(activation(fc1(x))), or SwiGLU.
#[derive(Debug)]
pub(super) struct MlpLayer {
    fc1: Linear,
    fc2: Linear,
    mlp: Mlp,
    activation: Activation,
}

impl MlpLayer {
    pub(super) fn new(
        path: &nn::Path,
        width: i64,
        hidden: i64,
        style: &BlockStyle,
    ) -> Result<Self> {
        Ok(Self {
            fc1: Linear::new(&(path / "fc1"), width, style.mlp.parts() * hidden)?,
            fc2: Linear::new(&(path / "fc2"), hidden, width)?,
            mlp: style.mlp,
            activation: style.activation,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.fc1.forward(x)?;
        let active = match self.mlp {
            Mlp::Plain => activate(&hidden, self.activation)?,
            Mlp::SwiGlu => {
                let parts = hidden.f_chunk(2, -1)?;
                parts[0].f_silu()?.f_mul(&parts[1])?
            }
        };
        self.fc2.forward(&active)
    }
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    Ok(match activation {
        Activation::Gelu => x.f_gelu("none")?,
        Activation::GeluTanh => x.f_gelu("tanh")?,
        Activation::QuickGelu => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
        Activation::Relu => x.f_relu()?,
    })
}
