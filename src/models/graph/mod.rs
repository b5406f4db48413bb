//! Forward pass of a network in evaluation, as a graph of operations, for export.
//!
//! A family describes its forward pass once; the exports to TorchScript and ONNX translate each
//! operation. The batch size appears nowhere, so that exported files take any batch.

mod blocks;
mod operation;

pub(super) use blocks::BlockSteps;
pub use operation::{HeadNorms, HeadRotation, Operation};

pub use super::heads::HeadSizes;

use super::options::{BlockStyle, Norm};

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

/// An operation and its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The operation.
    pub operation: Operation,
    /// One value, or two for [`Operation::Add`], [`Operation::Concatenate`],
    /// [`Operation::Mean`], and an attention whose queries and keys have a width of their own.
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
            matches!(
                step.operation,
                Operation::Token { .. }
                    | Operation::MeanToken { .. }
                    | Operation::LatentAttention { .. }
            )
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

    /// Adds a norm over the last axis, of this width.
    pub(in crate::models) fn norm(
        &mut self,
        input: Value,
        name: impl Into<String>,
        width: i64,
        style: &BlockStyle,
    ) -> Value {
        let (parameters, eps) = (name.into(), style.norm_eps);
        self.then(
            input,
            match style.norm {
                Norm::Layer => Operation::LayerNorm { parameters, width, eps },
                Norm::Rms => Operation::RmsNorm { parameters, width, eps },
            },
        )
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

    /// Adds an operation on these values, and returns its result.
    pub(in crate::models) fn push(&mut self, operation: Operation, inputs: Vec<Value>) -> Value {
        self.steps.push(Step { operation, inputs });
        self.output()
    }
}
