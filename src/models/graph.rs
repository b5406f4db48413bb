//! A network's evaluation as data: what an export into another format is written from.
//!
//! A family describes its forward pass once; TorchScript and ONNX are two ways of writing it down.
//! The batch size appears nowhere, so whatever is written is free in it.

use super::Windows;

/// The result of a step, or the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(usize);

impl Value {
    /// The images, `[B, C, H, W]`.
    pub const IMAGES: Self = Self(0);

    /// Place among all values; the images come first, then the steps in order.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a step does. Parameters are given by name: `parameters` stands for `{name}.weight` and
/// `{name}.bias`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Non-overlapping patches, projected: `[B, C, H, W]` → `[B, N, E]`.
    Patches {
        /// The projection, a convolution.
        parameters: String,
        /// Side of a patch.
        patch: i64,
    },
    /// A token `[1, 1, E]` put in front of all others: `[B, N, E]` → `[B, N + 1, E]`.
    Prepend {
        /// The token.
        token: String,
    },
    /// The same numbers added to every image, such as positions `[1, N, E]`.
    AddParameter {
        /// What is added.
        parameter: String,
    },
    /// Every token times the same numbers, `[E]`, as in LayerScale.
    ScaleParameter {
        /// What is multiplied by.
        parameter: String,
    },
    /// The sum of two values of one shape.
    Add,
    /// Layer normalisation over the last axis.
    LayerNorm {
        /// Scale and shift.
        parameters: String,
        /// Length of the last axis.
        width: i64,
        /// ε under the root.
        eps: f64,
    },
    /// x·Wᵀ + b over the last axis.
    Linear {
        /// W and b.
        parameters: String,
    },
    /// x·Φ(x), exactly (not its tanh approximation).
    Gelu,
    /// softmax(scale·q·kᵀ)·v of every head: `[B, N, 3·heads·head_dim]`, in the layout
    /// 3 × heads × channels → `[B, N, heads·head_dim]`.
    Attention {
        /// Heads.
        heads: i64,
        /// Channels of a head.
        head_dim: i64,
        /// What the products are multiplied by.
        scale: f64,
    },
    /// Tokens of a grid, row by row, put into the order of its windows: `[B, N, E]` → the same.
    CutWindows(Windows),
    /// What [`CutWindows`](Self::CutWindows) did, undone.
    JoinWindows(Windows),
    /// [`Attention`](Self::Attention) of each window for itself, over tokens in the order of the
    /// windows, with a bias for every distance of two tokens.
    WindowAttention {
        /// The windows.
        windows: Windows,
        /// The biases, `[distances, heads]`.
        table: String,
        /// Heads.
        heads: i64,
        /// Channels of a head.
        head_dim: i64,
        /// What the products are multiplied by.
        scale: f64,
    },
    /// Every 2 × 2 tokens of a grid side by side, columns before rows: `[B, N, E]` → `[B, N/4, 4·E]`.
    Merge {
        /// Tokens along a side of the grid.
        grid: i64,
        /// Channels of a token before.
        width: i64,
    },
    /// x·Wᵀ over the last axis.
    Project {
        /// W.
        parameter: String,
    },
    /// One token: `[B, N, E]` → `[B, E]`.
    Token {
        /// Which.
        index: i64,
    },
    /// The mean of all tokens from one on: `[B, N, E]` → `[B, E]`.
    MeanToken {
        /// The first of them.
        first: i64,
    },
    /// Two values side by side along their last axis.
    Concatenate,
    /// The mean of two values of one shape.
    Mean,
}

/// An operation and what it works on.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub operation: Operation,
    /// One value, or two for [`Operation::Add`], [`Operation::Concatenate`] and
    /// [`Operation::Mean`].
    pub inputs: Vec<Value>,
}

/// Steps from images to the prediction, each using what came before it. The last is the
/// prediction, `[B, classes]`.
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
    /// An empty graph over images of the given channels, height and width.
    pub fn new(input: [i64; 3]) -> Self {
        Self { input, steps: Vec::new() }
    }

    /// Channels, height and width of an image.
    pub fn input(&self) -> [i64; 3] {
        self.input
    }

    /// The steps, with the value each makes.
    pub fn steps(&self) -> impl Iterator<Item = (Value, &Step)> {
        self.steps.iter().enumerate().map(|(index, step)| (Value(index + 1), step))
    }

    /// The prediction: the last value.
    pub fn output(&self) -> Value {
        Value(self.steps.len())
    }

    /// Adds an operation on one value.
    pub fn then(&mut self, input: Value, operation: Operation) -> Value {
        self.push(operation, vec![input])
    }

    /// Adds `{name}.weight` and `{name}.bias` as a linear map.
    pub fn linear(&mut self, input: Value, name: impl Into<String>) -> Value {
        self.then(input, Operation::Linear { parameters: name.into() })
    }

    /// Adds `{name}.fc1`, GELU and `{name}.fc2`: the hidden layer of a transformer block.
    pub fn mlp(&mut self, input: Value, name: &str) -> Value {
        let hidden = self.linear(input, format!("{name}.fc1"));
        let active = self.then(hidden, Operation::Gelu);
        self.linear(active, format!("{name}.fc2"))
    }

    /// Adds the sum of two values.
    pub fn add(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Add, vec![left, right])
    }

    /// Adds two values side by side.
    pub fn concatenate(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Concatenate, vec![left, right])
    }

    /// Adds the mean of two values.
    pub fn mean(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Mean, vec![left, right])
    }

    fn push(&mut self, operation: Operation, inputs: Vec<Value>) -> Value {
        self.steps.push(Step { operation, inputs });
        self.output()
    }
}
