//! The masked network at dense attention and hidden sizes, with zeros for pruned units.

use super::flat::indices;
use super::{Supernet, Weights};
use crate::models::Architecture;
use crate::space::{Binding, DimensionKind, Over};
use crate::Result;
use tch::Tensor;

impl<A: Architecture> Supernet<A> {
    /// Returns architecture and weights of the masked network: attention and hidden dimensions have
    /// their dense sizes, with the kept units at their places in the dense network and zeros for
    /// pruned units. Embeddings keep their present size, because zeros in them would change what
    /// LayerNorm computes. Weights are those of the last [`materialise`](Self::materialise).
    ///
    /// Verification compares the extracted subnet with this network.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if the cost model has no dense size of a dimension.
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
                    *weight = crate::autograd::no_grad(|| expand(weight, binding, kept, total))?;
                }
            }
            sizes.insert(dimension.name.clone(), dense);
        }
        Ok((self.architecture().resized(&sizes)?, weights))
    }
}

/// Returns the inverse of a slice: entries at the indices `kept` of an axis of `total`, else zeros.
fn expand(tensor: &Tensor, binding: &Binding, kept: &Tensor, total: i64) -> Result<Tensor> {
    let mut shape = tensor.size();
    let [outer, _, inner] = binding.view(&shape);
    let view = tensor.f_detach()?.f_reshape(binding.view(&shape))?;
    let zeros = Tensor::f_zeros([outer, total, inner], (tensor.kind(), tensor.device()))?;
    shape[binding.axis] = binding.outer * total * binding.inner;
    Ok(zeros.f_index_copy(1, kept, &view)?.f_reshape(&shape[..])?)
}
