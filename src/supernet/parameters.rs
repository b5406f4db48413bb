//! Trainable parameters of a supernet.

use tch::Tensor;

/// Kind of a parameter; it selects learning rate and AdamW options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// Weight θ of the network.
    Weight,
    /// Mask token and decoder of PMIM.
    Reconstruction,
    /// Importance scores s.
    Score,
    /// Candidate logits α.
    Alpha,
}

/// One trainable parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Unique name: that of the variable, or of the dimension followed by `.score` or `.alpha`.
    pub name: String,
    /// Kind.
    pub kind: ParameterKind,
    /// Leaf of the autograd graph: θ ⊙ gates for a weight.
    pub leaf: Tensor,
    /// Tensor that the optimiser updates: θ where the leaf is θ ⊙ gates, else the leaf itself.
    pub value: Tensor,
}

impl Parameter {
    /// Whether weight decay applies: to α, and to tensors of two or more axes whose name ends in
    /// `weight`; not to biases, scales of norms, tokens, position embeddings or scores.
    pub fn decays(&self) -> bool {
        decays(self.kind, &self.name, &self.value.size())
    }
}

/// Whether weight decay applies to a parameter ([`Parameter::decays`]).
pub(crate) fn decays(kind: ParameterKind, name: &str, shape: &[i64]) -> bool {
    match kind {
        ParameterKind::Score => false,
        ParameterKind::Alpha => true,
        ParameterKind::Weight | ParameterKind::Reconstruction => {
            shape.len() >= 2 && name.ends_with("weight")
        }
    }
}
