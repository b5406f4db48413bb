//! The masked network at dense attention and hidden sizes, with zeros for pruned units.

use super::flat::indices;
use super::{Supernet, Weights};
use crate::models::{Architecture, Shapes};
use crate::space::{Binding, DimensionKind};
use crate::Result;
use tch::{Kind, Tensor};

impl<A: Architecture> Supernet<A> {
    /// Returns architecture and weights of the masked network: attention and hidden dimensions have
    /// their dense sizes, with the kept units at their places in the dense network and zeros for
    /// pruned units; a removed branch is there again, all zeros but for the constant that it left. Embeddings keep their present size, because zeros in them would change what
    /// LayerNorm computes. Weights are those of the last [`materialise`](Self::materialise).
    ///
    /// Verification compares the extracted subnet with this network.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if the cost model has no dense size of a dimension.
    pub fn masked_network(&self) -> Result<(A, Weights)> {
        let mut sizes = self.sizes();
        let (mut weights, mut removed) = (self.folded_weights(), false);
        for (dimension, state) in self.declared_space().dimensions.iter().zip(self.states()) {
            if dimension.kind == DimensionKind::Embedding {
                continue;
            }
            removed |= state.candidates().full().is_removed();
            let dense = crate::cost::size_in(&self.cost_model().dense, &dimension.name)?;
            let units = indices(&state.origin, self.device())?;
            let size = state.candidates().full();
            for binding in &dimension.bindings {
                let kept = binding.entries_of(&units, size, dense.channels)?;
                let total = binding.entries(dense);
                if let Some(weight) = weights.get_mut(&binding.variable) {
                    *weight = crate::autograd::no_grad(|| expand(weight, binding, &kept, total))?;
                }
            }
            sizes.insert(dimension.name.clone(), dense);
        }
        let architecture = self.architecture().resized(&sizes)?;
        if removed {
            self.add_removed(&architecture.variables()?, &mut weights)?;
        }
        Ok((architecture, weights))
    }

    /// Adds zeros for the variables that went with a removed branch.
    fn add_removed(&self, dense: &Shapes, weights: &mut Weights) -> Result<()> {
        for (name, shape) in
            dense.iter().filter(|(name, _)| !weights.contains_key(*name)).collect::<Vec<_>>()
        {
            let zeros = Tensor::f_zeros(&shape[..], (Kind::Float, self.device()))?;
            weights.insert(name.clone(), zeros);
        }
        Ok(())
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
