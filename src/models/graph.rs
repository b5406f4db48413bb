//! Forward pass of a network in evaluation, as a graph of operations, for export.
//!
//! A family describes its forward pass once; the exports to TorchScript and ONNX translate each
//! operation. The batch size appears nowhere, so that exported files take any batch.

use super::Windows;

/// Result of a step, or the input images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(usize);

impl Value {
    /// The images, `[B, C, H, W]`.
    pub const IMAGES: Self = Self(0);

    /// Returns the index among all values: 0 for the images, then the steps in order.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Operation of a step. Parameters are given by name: `parameters` stands for
/// `{parameters}.weight` and `{parameters}.bias`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Linear projection of non-overlapping patches: `[B, C, H, W]` → `[B, N, E]`.
    Patches {
        /// Weight and bias of the convolution.
        parameters: String,
        /// Side of a patch, in pixels.
        patch: i64,
    },
    /// A learned token `[1, 1, E]` in front of all others: `[B, N, E]` → `[B, N + 1, E]`.
    Prepend {
        /// Name of the token.
        token: String,
    },
    /// Sum with a parameter that is broadcast over the batch, such as positions `[1, N, E]`.
    AddParameter {
        /// Name of the parameter.
        parameter: String,
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
    /// x·Wᵀ + b over the last axis.
    Linear {
        /// Weight W and bias b.
        parameters: String,
    },
    /// GELU, x·Φ(x), not its tanh approximation.
    Gelu,
    /// softmax(scale·q·kᵀ)·v of every head: `[B, N, 3·heads·head_dim]`, laid out as
    /// 3 × heads × channels, → `[B, N, heads·head_dim]`.
    Attention {
        /// Number of heads.
        heads: i64,
        /// Channels of a head.
        head_dim: i64,
        /// Factor on q·kᵀ.
        scale: f64,
    },
    /// Tokens of a grid, row by row, reordered window by window: `[B, N, E]` → `[B, N, E]`.
    WindowPartition(Windows),
    /// Inverse of [`WindowPartition`](Self::WindowPartition).
    WindowReverse(Windows),
    /// [`Attention`](Self::Attention) within each window, over tokens ordered window by window,
    /// with a learned bias for the relative position of two tokens.
    WindowAttention {
        /// The windows.
        windows: Windows,
        /// Name of the bias table, `[relative positions, heads]`.
        table: String,
        /// Heads.
        heads: i64,
        /// Channels of a head.
        head_dim: i64,
        /// Factor on q·kᵀ.
        scale: f64,
    },
    /// Concatenated channels of every 2 × 2 tokens of a grid, columns before rows:
    /// `[B, N, E]` → `[B, N/4, 4·E]`.
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

/// An operation and its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The operation.
    pub operation: Operation,
    /// One value, or two for [`Operation::Add`], [`Operation::Concatenate`] and
    /// [`Operation::Mean`].
    pub inputs: Vec<Value>,
}

/// Steps from images to the prediction, each on results of earlier ones. The last result is the
/// prediction, `[B, classes]`, or `[B, tokens, classes]` of a network of features.
///
/// ```
/// use once_for_both::models::{Architecture, VitConfig};
///
/// let graph = VitConfig::deit_tiny().graph()?;
/// assert_eq!(graph.input(), [3, 224, 224]);
/// # Ok::<(), once_for_both::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    input: [i64; 3],
    steps: Vec<Step>,
}

impl Graph {
    /// Returns an empty graph over images of these channels, height and width.
    pub fn new(input: [i64; 3]) -> Self {
        Self { input, steps: Vec::new() }
    }

    /// Returns channels, height and width of an image.
    pub fn input(&self) -> [i64; 3] {
        self.input
    }

    /// Returns the steps, each with its result.
    pub fn steps(&self) -> impl Iterator<Item = (Value, &Step)> {
        self.steps.iter().enumerate().map(|(index, step)| (Value(index + 1), step))
    }

    /// Returns whether the prediction is `[B, tokens, classes]`: no step has reduced the tokens to one.
    pub fn output_has_tokens(&self) -> bool {
        let pooled = |step: &Step| {
            matches!(step.operation, Operation::Token { .. } | Operation::MeanToken { .. })
        };
        !self.steps.iter().any(pooled)
    }

    /// Returns the prediction, which is the last value.
    pub fn output(&self) -> Value {
        Value(self.steps.len())
    }

    /// Adds an operation on one value, and returns its result.
    pub fn then(&mut self, input: Value, operation: Operation) -> Value {
        self.push(operation, vec![input])
    }

    /// Adds `{name}.weight` and `{name}.bias` as a linear map.
    pub fn linear(&mut self, input: Value, name: impl Into<String>) -> Value {
        self.then(input, Operation::Linear { parameters: name.into() })
    }

    /// Adds the MLP of a transformer block: `{name}.fc1`, GELU, `{name}.fc2`.
    pub fn mlp(&mut self, input: Value, name: &str) -> Value {
        let hidden = self.linear(input, format!("{name}.fc1"));
        let active = self.then(hidden, Operation::Gelu);
        self.linear(active, format!("{name}.fc2"))
    }

    /// Adds the sum of two values of one shape.
    pub fn add(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Add, vec![left, right])
    }

    /// Adds the concatenation of two values along their last axis.
    pub fn concatenate(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Concatenate, vec![left, right])
    }

    /// Adds the mean of two values of one shape.
    pub fn mean(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Mean, vec![left, right])
    }

    /// Adds a pre-norm transformer block, x + ls1(attention(norm1(x))), then
    /// x + ls2(mlp(norm2(x))). `attention` adds its steps.
    pub(super) fn block(
        &mut self,
        x: Value,
        own: &BlockSteps,
        attention: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let BlockSteps { name, .. } = own;
        let normed = self.then(x, own.norm("norm1"));
        let attended = attention(self, normed);
        let attended = own.scaled(self, attended, "ls1");
        let x = self.add(x, attended);
        let normed = self.then(x, own.norm("norm2"));
        let output = self.mlp(normed, &format!("{name}.mlp"));
        let output = own.scaled(self, output, "ls2");
        self.add(x, output)
    }

    fn push(&mut self, operation: Operation, inputs: Vec<Value>) -> Value {
        self.steps.push(Step { operation, inputs });
        self.output()
    }
}

/// What two transformer blocks of a graph differ in, beside their attention.
pub(super) struct BlockSteps {
    /// Prefix of all parameter names.
    pub(super) name: String,
    /// Width of the embedding.
    pub(super) width: i64,
    /// ε of the LayerNorms.
    pub(super) eps: f64,
    /// Whether there is LayerScale.
    pub(super) layer_scale: bool,
}

impl BlockSteps {
    fn norm(&self, layer: &str) -> Operation {
        let parameters = format!("{}.{layer}", self.name);
        Operation::LayerNorm { parameters, width: self.width, eps: self.eps }
    }

    fn scaled(&self, graph: &mut Graph, branch: Value, layer: &str) -> Value {
        if !self.layer_scale {
            return branch;
        }
        let parameter = format!("{}.{layer}.gamma", self.name);
        graph.then(branch, Operation::ScaleParameter { parameter })
    }
}
