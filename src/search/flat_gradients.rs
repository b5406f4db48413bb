//! Gradients of parameters in one buffer.

use crate::autograd;
use crate::optim::{FlatTensors, Layout};
use crate::supernet::Weights;
use crate::Result;
use std::collections::BTreeSet;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Gradients of parameters in one buffer, f32, and the parameters that a loss depends on; the others
/// have zeros, and are not updated.
#[derive(Debug)]
pub(super) struct FlatGradients {
    pub(super) tensors: FlatTensors,
    pub(super) reached: BTreeSet<String>,
}

impl FlatGradients {
    /// Returns gradients that no loss reaches.
    pub(super) fn none(layout: &Arc<Layout>, device: Device) -> Result<Self> {
        let tensors = FlatTensors::zeros(layout, Kind::Float, device)?;
        Ok(Self { tensors, reached: BTreeSet::new() })
    }

    /// Copies gradients, given in the order of `names`, into one buffer. Undefined ones are of
    /// parameters that the loss does not depend on.
    pub(super) fn gather(
        layout: &Arc<Layout>,
        device: Device,
        names: &[String],
        computed: Vec<Tensor>,
    ) -> Result<Self> {
        let defined = names.iter().zip(computed).filter(|(_, gradient)| gradient.defined());
        let named = defined.map(|(name, gradient)| (name.clone(), gradient)).collect();
        Self::named_like(layout, device, &named)
    }

    /// Copies gradients by parameter name into one buffer; a parameter without one is not reached.
    pub(super) fn named_like(
        layout: &Arc<Layout>,
        device: Device,
        gradients: &Weights,
    ) -> Result<Self> {
        let tensors = FlatTensors::gather(layout, device, |own| gradients.get(&own.name))?;
        let names = layout.segments().iter().map(|own| &own.name);
        let reached = names.filter(|name| gradients.contains_key(*name)).cloned().collect();
        Ok(Self { tensors, reached })
    }

    /// Adds gradients of the same parameters to a sum.
    pub(super) fn add(sum: &mut Option<Self>, other: Self) -> Result<()> {
        match sum {
            None => *sum = Some(other),
            Some(sum) => sum.add_to(other)?,
        }
        Ok(())
    }

    /// Adds gradients of the same parameters.
    pub(super) fn add_to(&mut self, other: Self) -> Result<()> {
        self.reached.extend(other.reached);
        let mut sum = self.tensors.data().shallow_clone();
        let _ = autograd::no_grad(|| sum.f_add_(other.tensors.data()))?;
        Ok(())
    }

    /// Sets the gradients of parameters that are not learned to zero; no loss reaches these then.
    pub(super) fn leave_out(&mut self, names: &[&String]) -> Result<()> {
        for name in names {
            if self.reached.remove(*name) {
                if let Some(own) = self.tensors.get(name)? {
                    let _ = autograd::no_grad(|| own.shallow_clone().f_zero_())?;
                }
            }
        }
        Ok(())
    }

    /// Returns the gradients of the parameters that a loss reaches, by name; they share memory with
    /// the buffer.
    pub(super) fn named(&self) -> Result<Weights> {
        let mut all = self.tensors.tensors()?;
        all.retain(|name, _| self.reached.contains(name));
        Ok(all)
    }
}
