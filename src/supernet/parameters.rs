//! The trainable parameters of a supernet, as an optimiser sees them.

use tch::Tensor;

/// What a parameter is to the optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// A weight of the network.
    Weight,
    /// Mask token and decoder of PMIM.
    Reconstruction,
    /// Importance scores.
    Score,
    /// Candidate logits.
    Alpha,
}

/// One trainable parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Unique name: the variable's, or that of a dimension with `.score` or `.alpha`.
    pub name: String,
    /// What it is.
    pub kind: ParameterKind,
    /// The leaf that autograd gives gradients to.
    pub leaf: Tensor,
    /// What the optimiser moves: θ where the leaf is θ ⊙ gates, the leaf itself elsewhere.
    pub value: Tensor,
}

impl Parameter {
    /// Whether weight decay applies: matrices and kernels whose name ends in `weight`, and α. Not 1-D tensors,
    /// biases, tokens, positions or scores.
    pub fn decays(&self) -> bool {
        match self.kind {
            ParameterKind::Score => false,
            ParameterKind::Alpha => true,
            _ => self.value.dim() >= 2 && self.name.ends_with("weight"),
        }
    }
}
