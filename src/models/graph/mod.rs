//! Forward pass of a network in evaluation, as a graph of operations, for export.
//!
//! A family describes its forward pass once; the exports to TorchScript and ONNX translate each
//! operation. The batch size appears nowhere, so that exported files take any batch.

mod blocks;
mod operation;

pub(super) use blocks::BlockSteps;
pub use operation::{HeadNorms, HeadRotation, Operation};

pub use super::heads::HeadSizes;

#[cfg(feature = "export")]
use super::limits::check_partition;
use super::options::{BlockStyle, Norm};
#[cfg(feature = "export")]
use crate::{Error, Result};

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

    /// Adds an attention whose queries and keys have a width of their own ([`HeadSizes::qk_dim`]): `attention` is an
    /// [`Operation::Attention`] or [`Operation::WindowAttention`]. The export refuses an operation that does not take two
    /// inputs.
    ///
    /// # Shapes
    /// `queries_keys`: `[B, N, 2·heads·qk_dim]`. `values`: `[B, N, heads·head_dim]`.
    pub fn attention_apart(
        &mut self,
        queries_keys: Value,
        values: Value,
        attention: Operation,
    ) -> Value {
        self.push(attention, vec![queries_keys, values])
    }

    /// Adds the concatenation of two values along their last axis.
    pub fn concatenate(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Concatenate, vec![left, right])
    }

    /// Adds the mean of two values of one shape.
    pub fn mean(&mut self, left: Value, right: Value) -> Value {
        self.push(Operation::Mean, vec![left, right])
    }

    /// Checks that every operation has as many inputs as it takes, and windows of possible sizes.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the first that has not.
    #[cfg(feature = "export")]
    pub(crate) fn check(&self) -> Result<()> {
        self.steps().try_for_each(|(value, step)| {
            let place = format!("step {} of the graph", value.index());
            expect_inputs(&place, step)?;
            step.operation.windows().map_or(Ok(()), |own| check_partition(&place, own))
        })
    }

    /// Adds an operation on these values, and returns its result.
    pub(in crate::models) fn push(&mut self, operation: Operation, inputs: Vec<Value>) -> Value {
        self.steps.push(Step { operation, inputs });
        self.output()
    }
}

/// Refuses a step with more or fewer inputs than its operation takes.
#[cfg(feature = "export")]
fn expect_inputs(place: &str, step: &Step) -> Result<()> {
    let count = step.operation.input_count();
    if step.inputs.len() == count {
        return Ok(());
    }
    let mut expected = count.to_string();
    if matches!(step.operation, Operation::Attention { .. } | Operation::WindowAttention { .. }) {
        expected += ": queries, keys and values, or with a qk_dim queries and keys first, then values; add that by \
                     Graph::attention_apart";
    }
    Err(Error::invalid(format!("number of inputs of {place}"), expected, step.inputs.len()))
}

#[cfg(all(test, feature = "export"))]
mod tests {
    use super::*;
    use crate::models::Windows;

    #[test]
    fn graph_with_windows_of_impossible_sizes_is_refused_by_its_step_and_the_size() {
        let error = |grid, side, shift| {
            let windows = Windows { grid, side, shift };
            let (table, sizes) = (String::new(), HeadSizes { heads: 2, head_dim: 4, qk_dim: None });
            [
                Operation::WindowPartition(windows),
                Operation::WindowReverse(windows),
                Operation::WindowAttention { windows, table, sizes, scale: 0.5 },
            ]
            .map(|operation| {
                let mut graph = Graph::new([3, 8, 8]);
                graph.then(Value::IMAGES, operation);
                graph.check().err().map(|error| error.to_string())
            })
        };
        assert_eq!(error(4, 2, 1), [None, None, None]);
        for (sizes, name) in
            [([4, 0, 0], "side"), ([0, 2, 0], "grid"), ([4, 2, 2], "shift"), ([4, 2, -1], "shift")]
        {
            let [grid, side, shift] = sizes;
            for found in error(grid, side, shift) {
                let found = found.unwrap_or_default();
                let expected = format!("windows.{name} of step 1 of the graph: got ");
                assert!(found.starts_with(&expected), "{sizes:?}: {found}");
            }
        }
    }

    #[test]
    fn graph_of_an_attention_with_too_few_or_too_many_inputs_is_refused_by_its_step() {
        let attention = |qk_dim| Operation::Attention {
            sizes: HeadSizes { heads: 2, head_dim: 4, qk_dim },
            scale: 0.5,
            norms: None,
            rotation: None,
        };
        let checked = |of: fn(&mut Graph, Operation) -> Value, qk_dim| {
            let mut graph = Graph::new([3, 8, 8]);
            of(&mut graph, attention(qk_dim));
            graph.check().map_err(|error| error.to_string())
        };
        let one = |graph: &mut Graph, own| graph.then(Value::IMAGES, own);
        let two = |graph: &mut Graph, own| graph.attention_apart(Value::IMAGES, Value::IMAGES, own);
        assert_eq!([checked(one, None), checked(two, Some(3))], [Ok(()), Ok(())]);
        for (refused, counts) in [
            (checked(one, Some(3)), "got 1, expected 2"),
            (checked(two, None), "got 2, expected 1"),
        ] {
            let error = refused.err().unwrap_or_default();
            assert!(error.contains("step 1 ") && error.contains(counts), "{error}");
        }
    }
}
