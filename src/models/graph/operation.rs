//! Operations of the forward pass of a network.

use crate::models::heads::HeadSizes;
use crate::models::{Activation, Norm, Windows};

/// Operation of a step. Parameters are given by name: `parameters` stands for
/// `{parameters}.weight` and `{parameters}.bias`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Linear projection of non-overlapping patches: `[B, C, H, W]` → `[B, N, E]`.
    Patches {
        /// Weight of the convolution, and its bias if there is one.
        parameters: String,
        /// Height and width of a patch, in pixels.
        patch: [i64; 2],
        /// Whether there is a bias.
        bias: bool,
    },
    /// Learned tokens `[1, R, E]` in front of all others: `[B, N, E]` → `[B, R + N, E]`.
    Prepend {
        /// Name of the tokens.
        token: String,
    },
    /// Sum with a parameter that is broadcast over the batch, such as positions `[1, N, E]`, or over batch and
    /// tokens, such as the constant `[E]` of a removed branch.
    AddParameter {
        /// Name of the parameter.
        parameter: String,
    },
    /// Sum with the product of two parameters `[E]`, the same for every token: what a removed branch leaves under
    /// LayerScale.
    AddScaledParameter {
        /// Name of the parameter.
        parameter: String,
        /// Name of its factor.
        scale: String,
    },
    /// Product with a parameter `[E]`, the same for every token, as in LayerScale.
    ScaleParameter {
        /// Name of the parameter.
        parameter: String,
    },
    /// Sum of two values of one shape.
    Add,
    /// Layer normalisation over the last axis.
    LayerNorm {
        /// Scale and bias.
        parameters: String,
        /// Length of the last axis.
        width: i64,
        /// ε in x/√(variance + ε).
        eps: f64,
    },
    /// RMSNorm over the last axis: x/√(mean of x² + ε)·weight.
    RmsNorm {
        /// Scale, `{parameters}.weight`; there is no bias.
        parameters: String,
        /// Length of the last axis.
        width: i64,
        /// ε.
        eps: f64,
    },
    /// x·Wᵀ + b over the last axis.
    Linear {
        /// Weight W and bias b.
        parameters: String,
    },
    /// x·Wᵀ + b over the last axis, with outputs that have several axes in W `[…, E]` and b, and are one axis of the
    /// result.
    LinearOfAxes {
        /// Weight W, and bias b if there is one.
        parameters: String,
        /// Whether there is a bias.
        bias: bool,
    },
    /// The activation function of an MLP.
    Activate(Activation),
    /// SiLU(g)·v, with g the first half of the last axis, and v the second:
    /// `[…, 2·width]` → `[…, width]`.
    SwiGlu {
        /// Length of either half.
        width: i64,
    },
    /// Sum of queries, keys and values, `[B, N, 3·inner]`, and the concatenation of a bias of
    /// queries, `inner` zeros and a bias of values.
    AddQueryValueBias {
        /// Name of the bias of queries, `[inner]`.
        query: String,
        /// Name of the bias of values, `[inner]`.
        value: String,
    },
    /// softmax(scale·q·kᵀ)·v of every head: `[B, N, 3·heads·head_dim]`, laid out as
    /// 3 × heads × channels, → `[B, N, heads·head_dim]`. With a width of their own, queries and keys are a first value,
    /// `[B, N, 2·heads·qk_dim]`, and values a second, `[B, N, heads·head_dim]`.
    Attention {
        /// Heads and their channels.
        sizes: HeadSizes,
        /// Factor on q·kᵀ.
        scale: f64,
        /// Norms of queries and keys over the channels of a head.
        norms: Option<HeadNorms>,
        /// Rotation of queries and keys, after their norms.
        rotation: Option<HeadRotation>,
    },
    /// Tokens of a grid, row by row, reordered window by window, with zeros for those of the padding:
    /// `[B, N, E]` → `[B, P, E]`, with P = [`padded`](Windows::padded)².
    WindowPartition(Windows),
    /// Inverse of [`WindowPartition`](Self::WindowPartition), without the padding.
    WindowReverse(Windows),
    /// [`Attention`](Self::Attention) within each window, over tokens ordered window by window,
    /// with a learned bias for the relative position of two tokens.
    WindowAttention {
        /// The windows.
        windows: Windows,
        /// Name of the bias table, `[relative positions, heads]`.
        table: String,
        /// Heads and their channels.
        sizes: HeadSizes,
        /// Factor on q·kᵀ.
        scale: f64,
    },
    /// Concatenated channels of every 2 × 2 tokens of a grid, columns before rows; a grid of odd side
    /// is padded with zeros: `[B, G², E]` → `[B, ⌈G/2⌉², 4·E]`.
    Merge {
        /// Tokens along a side of the grid.
        grid: i64,
        /// E, the channels of a token before merging.
        width: i64,
    },
    /// x·Wᵀ over the last axis.
    Project {
        /// Name of W.
        parameter: String,
    },
    /// A single token: `[B, N, E]` → `[B, E]`.
    Token {
        /// Index of the token.
        index: i64,
    },
    /// The tokens `first`, `first` + 1, …: `[B, N, E]` → `[B, N − first, E]`.
    Tokens {
        /// Index of the first token.
        first: i64,
    },
    /// softmax(scale·q·kᵀ)·v of every head, with the queries of one learned latent: keys and values,
    /// `[B, N, 2·heads·head_dim]`, laid out as 2 × heads × channels, → `[B, heads·head_dim]`.
    LatentAttention {
        /// Name of the latent, `[1, 1, L]`.
        latent: String,
        /// Weight and bias that map the latent to queries.
        query: String,
        /// Number of heads.
        heads: i64,
        /// Channels of a head.
        head_dim: i64,
        /// Factor on q·kᵀ.
        scale: f64,
    },
    /// Mean of the tokens `first`, `first` + 1, …: `[B, N, E]` → `[B, E]`.
    MeanToken {
        /// Index of the first token.
        first: i64,
    },
    /// Concatenation of two values along their last axis.
    Concatenate,
    /// Mean of two values of one shape.
    Mean,
}

/// Norms of queries and keys: `{name}.q_norm` and `{name}.k_norm`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadNorms {
    /// Name of the attention.
    pub name: String,
    /// Kind of both norms.
    pub norm: Norm,
    /// ε of both norms.
    pub eps: f64,
}

/// Rotation of the pairs of channels 2i and 2i + 1 of queries and keys: token t is rotated by the angles
/// y·f + x·g, with (y, x) its coordinates and (f, g) the frequencies of the pair.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadRotation {
    /// Name of the frequencies (f, g), `[2, heads · pairs]`.
    pub frequencies: String,
    /// (y, x) of every token.
    pub coordinates: Vec<[f32; 2]>,
}

#[cfg(feature = "export")]
impl Operation {
    /// The windows of an operation on windows.
    pub(super) fn windows(&self) -> Option<Windows> {
        match self {
            Self::WindowPartition(windows)
            | Self::WindowReverse(windows)
            | Self::WindowAttention { windows, .. } => Some(*windows),
            _ => None,
        }
    }

    /// Number of values that the operation takes.
    pub(super) fn input_count(&self) -> usize {
        match self {
            Self::Add | Self::Concatenate | Self::Mean => 2,
            Self::Attention { sizes, .. } | Self::WindowAttention { sizes, .. } => {
                sizes.projections().len()
            }
            _ => 1,
        }
    }
}
