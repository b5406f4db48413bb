//! Forward passes of a network as it would be after pruning, without pruning it.

use super::reshaping::assemble;
use super::{Narrowing, Supernet, Weights};
use crate::error::expect_shape;
use crate::models::{Architecture, Network};
use crate::space::{Binding, Dimension, DimensionKind, Size};
use crate::tensors::convert;
use crate::{Error, Result};
use tch::Tensor;

impl<A: Architecture> Supernet<A> {
    /// Runs `run` with the logits, in evaluation mode, of the network as it would be if dimensions
    /// were pruned to the given sizes, as (index, size), and nothing else changed. The most important
    /// units are kept.
    ///
    /// The network is that of the last [`materialise`](Self::materialise). Without an embedding among
    /// the dimensions, the weights that gates multiply are zero for the units to prune while `run`
    /// runs, which computes what a network without them does. Norms run over an embedding, so there a
    /// network is built at the smaller sizes, with sliced weights; its initialisation draws from
    /// libtorch's generator. θ, scores, α and optimiser state are never touched, and the network's
    /// variables have their former values when `run` has returned, or failed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a dimension index or size out of range, or while gates fade out; those of
    /// building the network and of `run`.
    pub(crate) fn with_pruned<T>(
        &self,
        sizes: &[(usize, Size)],
        run: impl FnOnce(&dyn Fn(&Tensor) -> Result<Tensor>) -> Result<T>,
    ) -> Result<T> {
        self.expect_dimensions(sizes)?;
        self.expect_no_fade_out()?;
        let smaller = |(at, size): &&(usize, Size)| self.states[*at].candidates().full() != *size;
        let sizes: Vec<(usize, Size)> = sizes.iter().filter(smaller).copied().collect();
        let embedding =
            |(at, _): &(usize, Size)| self.space.dimensions[*at].kind == DimensionKind::Embedding;
        if sizes.iter().any(embedding) {
            return self.with_built(&sizes, run);
        }
        let before = self.gated_values(&sizes)?;
        let value =
            self.zero_pruned(&sizes).and_then(|()| run(&|images| self.network_logits(images)));
        crate::autograd::no_grad(|| {
            before.iter().try_for_each(|(name, values)| {
                let Some(variable) = self.variables.get(name) else { return Ok(()) };
                Ok::<_, Error>(variable.shallow_clone().f_copy_(values).map(drop)?)
            })
        })?;
        value
    }

    /// Refuses a gate fade-out in progress, whose factors are no part of the network after pruning.
    fn expect_no_fade_out(&self) -> Result<()> {
        let fading =
            |state: &&super::DimensionState| state.fade_out.as_ref().is_some_and(|f| !f.in_place);
        let Some(state) = self.states.iter().find(fading) else { return Ok(()) };
        let name = format!("gate fade-out of {}", state.name);
        let expected = "none; measure before it begins or after it has ended";
        Err(Error::invalid(name, expected, "one in progress"))
    }

    /// Returns copies of the variables that the gates of these dimensions multiply; those that vanished with a removed
    /// branch have none.
    fn gated_values(&self, sizes: &[(usize, Size)]) -> Result<Weights> {
        let dimensions = sizes.iter().map(|&(at, _)| &self.space.dimensions[at]);
        let gated = dimensions.flat_map(gated);
        crate::autograd::no_grad(|| {
            let present = gated.filter_map(|own| self.variables.get_key_value(&own.variable));
            present.map(|(name, own)| Ok((name.clone(), own.f_detach_copy()?))).collect()
        })
    }

    /// Sets the gated weights of the units to prune to zero.
    fn zero_pruned(&self, sizes: &[(usize, Size)]) -> Result<()> {
        crate::autograd::no_grad(|| {
            for &(at, size) in sizes {
                let state = &self.states[at];
                let kept = state.kept_units(size)?;
                let channels = state.candidates().channels();
                for binding in gated(&self.space.dimensions[at]) {
                    let Some(variable) = self.variables.get(&binding.variable) else { continue };
                    let mut view = variable.f_view(binding.view(&variable.size()))?;
                    let kept = binding.entries_of(&kept, size, channels)?;
                    let keeps =
                        view.f_new_zeros([1, view.size()[1], 1], (view.kind(), view.device()))?;
                    let keeps = keeps.f_index_fill(1, &kept, 1.0)?;
                    let _ = view.f_mul_(&keeps)?;
                }
            }
            Ok(())
        })
    }

    /// Runs `run` with the logits of a network built at these sizes.
    fn with_built<T>(
        &self,
        sizes: &[(usize, Size)],
        run: impl FnOnce(&dyn Fn(&Tensor) -> Result<Tensor>) -> Result<T>,
    ) -> Result<T> {
        let narrowing = Narrowing::of_weights(&self.space, &self.states, sizes)?;
        let mut all = self.sizes();
        all.extend(sizes.iter().map(|&(at, size)| (self.states[at].name.clone(), size)));
        let architecture = self.architecture.resized(&all)?;
        let (network, _, variables) = assemble(&architecture, false, self.device)?;
        convert(variables.values(), self.compute)?;
        let folded = self.folded_weights();
        for (name, variable) in &variables {
            let weight = folded.get(name).ok_or_else(|| Error::missing("weight", name))?;
            let sliced = narrowing.apply(name, weight)?;
            expect_shape("prune for a measurement", name, &sliced, &variable.size())?;
            crate::autograd::no_grad(|| variable.shallow_clone().f_copy_(&sliced))?;
        }
        run(&|images| {
            crate::autograd::no_grad(|| {
                let images = images.f_to_kind(self.compute)?;
                network.forward(&images, false)?.widened()?.prediction()
            })
        })
    }
}

/// Returns the bindings that the gates multiply.
fn gated(dimension: &Dimension) -> impl Iterator<Item = &Binding> {
    dimension.bindings.iter().filter(|binding| binding.role.is_gated())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::VitConfig;
    use tch::{Device, Kind};

    /// An attention that also gates what the first layer of an MLP reads.
    #[test]
    fn trial_of_a_dimension_that_gates_a_removed_branch_leaves_its_variables_out() -> Result<()> {
        let vit = VitConfig::uniform(8, 2, 2).input(8, 3, 4).classes(3);
        let mut space = vit.space()?.without(&["embed"])?.removable_branches();
        let attention = space.dimension_mut("blocks.0.attn")?;
        attention.bindings.push(Binding::gated("blocks.1.mlp.fc1.weight", 1));
        let mut supernet = Supernet::new(vit, space, false, Device::Cpu)?;
        let mlp = supernet.states().iter().position(|own| own.name == "blocks.1.mlp");
        supernet.narrow(&[(mlp.unwrap_or_default(), Size::REMOVED)])?;
        let masks = supernet.masks(0.5)?.into_iter().map(|own| own.mask.detach());
        supernet.materialise(&masks.collect::<Vec<_>>())?;
        assert!(!supernet.variables.contains_key("blocks.1.mlp.fc1.weight"));
        let before = supernet.folded_weights();
        let before: Weights = before.iter().map(|(name, own)| (name.clone(), own.copy())).collect();
        let images = Tensor::f_randn([2, 3, 8, 8], (Kind::Float, Device::Cpu))?;
        let attention = supernet.states().iter().position(|own| own.name == "blocks.0.attn");
        let sizes = [(attention.unwrap_or_default(), Size { heads: 1, channels: 4 })];
        let dense = supernet.network_logits(&images)?;
        let pruned = supernet.with_pruned(&sizes, |logits| logits(&images))?;
        assert!(pruned.size() == [2, 3] && !pruned.equal(&dense));
        let after = supernet.folded_weights();
        assert!(before.iter().all(|(name, own)| own.equal(&after[name])));
        Ok(())
    }
}
