//! A dimension declared as data: its units, its candidates, and where they sit in the weights.

use super::{Candidates, Size};
use crate::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a dimension is, as far as loss weights, reports and exactness of a cut care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DimensionKind {
    /// Width of the residual stream. Cutting it changes what LayerNorm sees.
    Embedding,
    /// Heads × channels of one attention. Cutting gated-off units is exact.
    Attention,
    /// Hidden width of one MLP. Cutting gated-off units is exact.
    Hidden,
}

/// What the length of a bound axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Units: heads × channels.
    Units,
    /// Heads only, as in a relative position table.
    Heads,
}

impl Over {
    /// What it counts at a size.
    pub fn of(self, size: Size) -> i64 {
        match self {
            Self::Units => size.units(),
            Self::Heads => size.heads,
        }
    }
}

/// How a dimension acts on the axis it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Multiplied by the bi-mask, and sliced at a cut.
    Gated,
    /// The scale of a norm over the dimension whose output is what is gated, as after the patches
    /// of a Swin: multiplied by the bi-mask, and turned down like [`Scaled`](Self::Scaled).
    GatedNorm,
    /// Writes into the dimension, and is sliced at a cut: goes to zero where units are fade-out.
    Written,
    /// The scale of a norm over the dimension: written, and turned down while units land, because
    /// the zeros they become have a share in what the norm divides by.
    Scaled,
    /// Sliced at a cut, nothing else.
    Narrowed,
}

/// One axis of one variable that a dimension indexes, laid out as outer × units × inner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Name of the variable in the model's `VarStore`.
    pub variable: String,
    /// Axis of the variable.
    pub axis: usize,
    /// Repetitions outside the units: 3 for the rows of a fused qkv.
    pub outer: i64,
    /// Repetitions inside a unit: p² where a unit spans a patch.
    pub inner: i64,
    /// What the axis counts.
    pub over: Over,
    /// What the dimension does to the axis.
    pub role: Role,
}

impl Binding {
    /// An axis that is multiplied by the gate.
    pub fn gated(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Gated)
    }

    /// The scale of a norm over the dimension, whose output is gated.
    pub fn gated_norm(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::GatedNorm)
    }

    /// An axis that writes into the dimension.
    pub fn written(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Written)
    }

    /// The scale of a norm over the dimension.
    pub fn scaled(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Scaled)
    }

    /// An axis that is only sliced.
    pub fn narrowed(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Narrowed)
    }

    fn new(variable: impl Into<String>, axis: usize, role: Role) -> Self {
        Self { variable: variable.into(), axis, outer: 1, inner: 1, over: Over::Units, role }
    }

    /// Sets the repetitions outside the units.
    pub fn outer(mut self, outer: i64) -> Self {
        self.outer = outer;
        self
    }

    /// Sets the repetitions inside a unit.
    pub fn inner(mut self, inner: i64) -> Self {
        self.inner = inner;
        self
    }

    /// Makes the axis count heads instead of units.
    pub fn over_heads(mut self) -> Self {
        self.over = Over::Heads;
        self
    }

    /// Length the axis must have.
    pub fn length(&self, candidates: &Candidates) -> i64 {
        let indexed = match self.over {
            Over::Units => candidates.units(),
            Over::Heads => candidates.heads(),
        };
        self.outer * indexed * self.inner
    }

    /// The variable's shape seen as `[before × outer, units, inner × after]`.
    ///
    /// Every gate, gradient and slice of the crate is written on this three-dimensional view.
    ///
    /// # Panics
    /// If the shape has no such axis; [`SearchSpace::validate`](super::SearchSpace::validate) refuses
    /// the binding then.
    pub fn view(&self, shape: &[i64]) -> [i64; 3] {
        let before: i64 = shape[..self.axis].iter().product();
        let after: i64 = shape[self.axis + 1..].iter().product();
        let units = shape[self.axis] / (self.outer * self.inner);
        [before * self.outer, units, self.inner * after]
    }

    /// Entries of the bound axis, in the order given: `index` numbers units (or heads), i64.
    pub(crate) fn select(&self, tensor: &Tensor, index: &Tensor) -> Result<Tensor> {
        let mut shape = tensor.size();
        let selected = tensor.f_reshape(self.view(&shape))?.f_index_select(1, index)?;
        shape[self.axis] = self.outer * index.size1()? * self.inner;
        Ok(selected.f_reshape(&shape[..])?)
    }
}

/// A set of units that live and die together everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimension {
    /// Unique name, also the name of its sizes in the cost model.
    pub name: String,
    /// What it is.
    pub kind: DimensionKind,
    /// Candidate sizes.
    pub candidates: Candidates,
    /// Where its units sit in the weights.
    pub bindings: Vec<Binding>,
}

impl Dimension {
    /// A dimension without bindings.
    pub fn new(name: impl Into<String>, kind: DimensionKind, candidates: Candidates) -> Self {
        Self { name: name.into(), kind, candidates, bindings: Vec::new() }
    }

    /// Adds a binding.
    pub fn bind(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self
    }
}
