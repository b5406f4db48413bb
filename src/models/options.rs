//! Choices that the transformer blocks of a network have in common.

use super::rotary::Rotary;
use serde::{Deserialize, Serialize};

/// Norm over the channels of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// LayerNorm (Ba et al. 2016): (x − mean)/√(variance + ε)·weight + bias.
    #[default]
    Layer,
    /// RMSNorm (Zhang and Sennrich 2019): x/√(mean of x² + ε)·weight, without bias.
    Rms,
}

impl Norm {
    /// Returns the names of its parameters, each as long as the axis.
    pub(super) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Layer => &["weight", "bias"],
            Self::Rms => &["weight"],
        }
    }
}

/// Activation function of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GELU, x·Φ(x) (`nn.GELU`; transformers' `gelu`).
    #[default]
    Gelu,
    /// GELU by the approximation x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2
    /// (`nn.GELU(approximate="tanh")`; transformers' `gelu_pytorch_tanh`).
    GeluTanh,
    /// x·σ(1.702·x), as in OpenAI's CLIP (transformers' `quick_gelu`).
    QuickGelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// Returns its name in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Gelu => "GELU, exact",
            Self::GeluTanh => "GELU, tanh approximation",
            Self::QuickGelu => "QuickGELU",
            Self::Relu => "ReLU",
        }
    }
}

/// MLP of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mlp {
    /// fc2(activation(fc1(x))).
    #[default]
    Plain,
    /// SwiGLU (Shazeer 2020): fc2(SiLU(g)·v) with \[g, v\] = fc1(x). The rows of fc1 are those of the
    /// gate g, then those of the value v; neuron i is row i of both. The activation is always SiLU.
    SwiGlu,
}

impl Mlp {
    /// Returns the rows of fc1 for each hidden neuron.
    pub(super) fn parts(self) -> i64 {
        match self {
            Self::Plain => 1,
            Self::SwiGlu => 2,
        }
    }
}

/// Bias of the projections to queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkvBias {
    /// For queries, keys and values: `attn.qkv.bias`.
    #[default]
    Full,
    /// None.
    None,
    /// For queries and values, as in BEiT and EVA: `attn.q_bias` and `attn.v_bias`.
    QueryValue,
}

/// What the blocks of a network have in common, beside their sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BlockStyle {
    pub(super) norm: Norm,
    /// ε of every norm.
    pub(super) norm_eps: f64,
    pub(super) activation: Activation,
    pub(super) mlp: Mlp,
    pub(super) qkv_bias: QkvBias,
    /// Norm of queries and keys over the channels of a head.
    pub(super) qk_norm: Option<Norm>,
    /// Initial LayerScale, if there is one.
    pub(super) layer_scale: Option<f64>,
    /// Rotation of queries and keys by their position, pair by pair of channels.
    pub(super) rotary: Option<Rotary>,
}

impl BlockStyle {
    /// Returns the blocks of the first ViT, and of Swin: LayerNorm, GELU, all biases.
    pub(super) fn plain(norm_eps: f64) -> Self {
        Self {
            norm: Norm::Layer,
            norm_eps,
            activation: Activation::Gelu,
            mlp: Mlp::Plain,
            qkv_bias: QkvBias::Full,
            qk_norm: None,
            layer_scale: None,
            rotary: None,
        }
    }

    /// Returns the style of an attention pooling: its MLP is never gated.
    pub(super) fn of_pool(self) -> Self {
        Self { mlp: Mlp::Plain, ..self }
    }

    /// Returns the channels of a prunable unit of attention: both of a pair that is rotated.
    pub(super) fn unit(&self) -> i64 {
        match self.rotary {
            Some(_) => 2,
            None => 1,
        }
    }

    /// Returns the names of the norms of queries and keys below `attn.`.
    pub(super) fn qk_norms(&self) -> impl Iterator<Item = String> {
        let parameters = self.qk_norm.map_or(&[][..], Norm::parameters);
        let norms = ["q_norm", "k_norm"].into_iter();
        norms.flat_map(|norm| parameters.iter().map(move |own| format!("{norm}.{own}")))
    }
}
