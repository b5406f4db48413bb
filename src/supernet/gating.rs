//! Weight-space gates: θ ⊙ gates, and the gradients of θ and of the gates.
//!
//! The [module documentation](super) explains them. θ of all variables is one buffer
//! ([`FlatTensors`]), ordered so that gated variables with entries of equal length follow each other:
//! they are one matrix, each of whose rows has one factor, however many layers the network has.

use super::gate_rows::{arranged, Arranged, GateRows, UnitSums};
use super::{decays, pmim_modules, ParameterKind, Weights};
use crate::optim::FlatTensors;
use crate::space::SearchSpace;
use crate::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Factors of all gates in one step.
#[derive(Debug)]
pub(super) struct Factors<'a> {
    /// Gates of every dimension: the bi-mask m, in a fade-out r·m₀ + (1 − r)·m₁.
    pub(super) masks: &'a [Tensor],
    /// Factors of `Written` and of `Scaled` variables of every dimension in a fade-out
    /// ([`FadeOut::factor`](super::FadeOut)).
    pub(super) fade_out: BTreeMap<usize, [Tensor; 2]>,
}

impl Factors<'_> {
    /// Returns all factors in one vector, in the order of
    /// [`FactorPlaces`](super::gate_order::FactorPlaces): gates, 1, factors of fade-outs.
    fn joined(&self, one: &Tensor) -> Result<Tensor> {
        let fading = self.fade_out.values().flatten();
        let parts = self.masks.iter().map(|mask| mask.f_detach()?.f_reshape([-1]));
        let parts = parts.chain([Ok(one.shallow_clone())]);
        let parts = parts.chain(fading.map(|own| own.f_detach()?.f_reshape([-1])));
        Ok(Tensor::f_cat(&parts.collect::<std::result::Result<Vec<_>, _>>()?, 0)?)
    }
}

/// θ of a network, and the network's variables θ ⊙ gates.
#[derive(Debug)]
pub(super) struct Gating {
    /// θ, f32: the variables with gates first.
    theta: FlatTensors,
    /// Variables that are part of θ whether they have gates or not: those learned, and those with units that were frozen
    /// since the network was built.
    learned: BTreeSet<String>,
    /// Views of θ by name, and the f32 values of rounded buffers.
    raw: Weights,
    /// The network's own variables with gates, θ ⊙ gates, in the kind that it computes in; in half
    /// precision, all its variables.
    values: Tensor,
    /// Variables with gates, as matrices.
    rows: Vec<GateRows>,
    /// Elements of `values` without gates, which are θ rounded.
    rounded: Range<i64>,
    sums: UnitSums,
    one: Tensor,
    buffers: Vec<RoundedBuffer>,
}

impl Gating {
    /// Moves θ into one buffer, and makes the network's variables views of it, or of a second buffer
    /// where they are gated: θ of these is a copy, f32. Variables with the role `Written` or `Scaled`
    /// are gated only in dimensions whose gates fade out (`fade_out`). In half precision all variables
    /// are copied, so that their θ is f32. `learned`: variables of θ beside those with gates.
    pub(super) fn new(
        space: &SearchSpace,
        fade_out: &[bool],
        variables: &Weights,
        learned: BTreeSet<String>,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let Arranged { layout, rows, sums, gated } =
            arranged(space, fade_out, variables, &learned, device)?;
        let theta = FlatTensors::gather(&layout, device, |own| variables.get(&own.name))?;
        let copied = if kind == Kind::Float { gated } else { layout.length() };
        let values = crate::autograd::no_grad(|| {
            theta.range(&(0..copied))?.f_to_kind(kind)?.f_detach_copy().map_err(crate::Error::from)
        })?;
        for segment in layout.segments() {
            let source = if segment.end() <= copied { &values } else { theta.data() };
            let view = source.f_narrow(0, segment.start, segment.length())?;
            let mut variable = variables[&segment.name].shallow_clone();
            variable.f_set_data(&view.f_view(&segment.shape[..])?)?;
        }
        let mut raw = theta.tensors()?;
        let mut buffers = Vec::new();
        for (name, own) in variables.iter().filter(|(name, _)| layout.get(name).is_none()) {
            if own.is_floating_point() && own.kind() != Kind::Float {
                let buffer = RoundedBuffer::new(own)?;
                raw.insert(name.clone(), buffer.raw.shallow_clone());
                buffers.push(buffer);
            }
        }
        let one = Tensor::f_ones([1], (Kind::Float, device))?;
        Ok(Self { theta, learned, raw, values, rows, rounded: gated..copied, sums, one, buffers })
    }

    /// Returns θ.
    pub(super) fn theta(&self) -> &FlatTensors {
        &self.theta
    }

    /// Returns the variables that were learned, or had units and were frozen since the network was built, when θ was
    /// laid out, in order.
    pub(super) fn learned(&self) -> &BTreeSet<String> {
        &self.learned
    }

    /// Returns θ of a variable, or the f32 value of a rounded buffer; `None` for other buffers.
    pub(super) fn raw(&self, name: &str) -> Option<&Tensor> {
        self.raw.get(name)
    }

    /// Writes θ ⊙ gates into the network's variables.
    pub(super) fn materialise(&self, factors: &Factors) -> Result<()> {
        crate::autograd::no_grad(|| {
            self.buffers.iter().try_for_each(RoundedBuffer::round)?;
            if !self.rounded.is_empty() {
                let length = self.rounded.end - self.rounded.start;
                let mut target = self.values.f_narrow(0, self.rounded.start, length)?;
                target.f_copy_(&self.theta.range(&self.rounded)?)?;
            }
            if self.rows.is_empty() {
                return Ok(());
            }
            let factors = factors.joined(&self.one)?;
            for rows in &self.rows {
                let factor = rows.factor(&factors)?.f_unsqueeze(1)?;
                let target = rows.of(&self.values)?;
                let _ = rows.of(self.theta.data())?.f_mul_out(&target, &factor)?;
            }
            Ok(())
        })
    }

    /// Divides θ by the gates, so that θ ⊙ gates are the given weights (`init.preserve_dense`).
    pub(super) fn divide_by_gates(&self, factors: &Factors) -> Result<()> {
        crate::autograd::no_grad(|| {
            if self.rows.is_empty() {
                return Ok(());
            }
            let factors = factors.joined(&self.one)?;
            for rows in &self.rows {
                let factor = rows.factor(&factors)?.f_unsqueeze(1)?;
                let _ = rows.of(self.theta.data())?.f_div_(&factor)?;
            }
            Ok(())
        })
    }

    /// Turns the gradient of every variable into that of θ, in place, and returns the gradient of
    /// every bi-mask, shaped like it. Fade-out factors are constants and get no gradient.
    ///
    /// ∂L/∂θ = g ⊙ (product of all gates); ∂L/∂gate = Σ g ⊙ θ ⊙ (product of the other gates), summed
    /// over the entries that it multiplies.
    pub(super) fn pull_back(
        &self,
        gradients: &FlatTensors,
        factors: &Factors,
    ) -> Result<Vec<Tensor>> {
        crate::autograd::no_grad(|| {
            self.buffers.iter().try_for_each(RoundedBuffer::take_update)?;
            let mut dots = Vec::new();
            if !self.rows.is_empty() {
                let joined = factors.joined(&self.one)?;
                for rows in &self.rows {
                    let gradient = rows.of(gradients.data())?;
                    dots.extend(rows.dots(&gradient, &rows.of(self.theta.data())?, &joined)?);
                    let factor = rows.factor(&joined)?.f_unsqueeze(1)?;
                    let _ = gradient.shallow_clone().f_mul_(&factor)?;
                }
            }
            self.sums.of(&dots, factors.masks)
        })
    }
}

/// Returns whether a variable is learned.
pub(super) fn is_learned(variable: &Tensor) -> bool {
    variable.is_floating_point() && variable.requires_grad()
}

/// Order of the variables in θ: those of one class, and of one length of row, follow each other.
///
/// Variables with gates come first, and those without masked image modeling stand together, as do
/// those that decay.
pub(super) fn class(name: &str, variable: &Tensor, gated: bool, learned: bool) -> u8 {
    let decays = decays(ParameterKind::Weight, name, &variable.size());
    match (gated, learned, pmim_modules::owns(name), decays) {
        (true, false, _, _) => 0,
        (true, true, true, _) => 1,
        (true, true, false, false) => 2,
        (true, true, false, true) => 3,
        (false, _, false, true) => 4,
        (false, _, false, false) => 5,
        (false, _, true, false) => 6,
        (false, _, true, true) => 7,
    }
}

/// Buffer of the network in half precision, such as a running statistic, with its f32 value.
#[derive(Debug)]
struct RoundedBuffer {
    variable: Tensor,
    raw: Tensor,
}

impl RoundedBuffer {
    fn new(variable: &Tensor) -> Result<Self> {
        let raw = crate::autograd::no_grad(|| variable.f_detach_copy()?.f_to_kind(Kind::Float))?;
        Ok(Self { variable: variable.shallow_clone(), raw })
    }

    fn round(&self) -> Result<()> {
        Ok(self.variable.shallow_clone().f_copy_(&self.raw)?)
    }

    /// Copies what the network's forward pass changed. Entries that still equal the rounded value keep
    /// their f32 value, so a change of less than half a unit in the last place is lost. The difference is not added to the
    /// f32 value: an entry may be replaced by a far smaller one.
    fn take_update(&self) -> Result<()> {
        let unchanged = self.raw.f_to_kind(self.variable.kind())?.f_eq_tensor(&self.variable)?;
        let present = self.variable.f_to_kind(Kind::Float)?;
        let updated = self.raw.f_where_self(&unchanged, &present)?;
        Ok(self.raw.shallow_clone().f_copy_(&updated)?)
    }
}

#[cfg(test)]
mod tests;
