//! The masked network in full: dropped units come back as zeros.

use super::flat::indices;
use super::{Supernet, Weights};
use crate::models::Architecture;
use crate::space::{Binding, DimensionKind, Over};
use crate::Result;
use tch::Tensor;

impl<A: Architecture> Supernet<A> {
    /// The network whose attention and hidden dimensions have their dense sizes, the kept units
    /// where they were in the dense network and zeros everywhere else; embeddings stay as they
    /// are. Weights are those of the last [`materialise`](Self::materialise).
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if a dense size is missing.
    pub fn masked_network(&self) -> Result<(A, Weights)> {
        let mut sizes = self.sizes();
        let mut weights = self.folded_weights();
        for (dimension, state) in self.declared_space().dimensions.iter().zip(self.states()) {
            if dimension.kind == DimensionKind::Embedding {
                continue;
            }
            let dense = crate::cost::size_in(&self.cost_model().dense, &dimension.name)?;
            let units = indices(&state.origin, self.device())?;
            let heads: Vec<i64> = state
                .origin
                .iter()
                .step_by(state.candidates().channels() as usize)
                .map(|unit| unit / dense.channels)
                .collect();
            let heads = indices(&heads, self.device())?;
            for binding in &dimension.bindings {
                let (kept, total) = match binding.over {
                    Over::Units => (&units, dense.units()),
                    Over::Heads => (&heads, dense.heads),
                };
                if let Some(weight) = weights.get_mut(&binding.variable) {
                    *weight = tch::no_grad(|| expand(weight, binding, kept, total))?;
                }
            }
            sizes.insert(dimension.name.clone(), dense);
        }
        Ok((self.architecture().resized(&sizes)?, weights))
    }
}

/// The inverse of a slice: kept entries at their old places along the bound axis, zeros between.
fn expand(tensor: &Tensor, binding: &Binding, kept: &Tensor, total: i64) -> Result<Tensor> {
    let mut shape = tensor.size();
    let [outer, _, inner] = binding.view(&shape);
    let view = tensor.f_detach()?.f_reshape(binding.view(&shape))?;
    let zeros = Tensor::f_zeros([outer, total, inner], (tensor.kind(), tensor.device()))?;
    shape[binding.axis] = binding.outer * total * binding.inner;
    Ok(zeros.f_index_copy(1, kept, &view)?.f_reshape(&shape[..])?)
}
