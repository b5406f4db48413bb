//! What decisions are made from, on the host: all of it in one transfer from the device.

use super::step::Search;
use crate::models::Architecture;
use crate::space::Size;
use crate::supernet::{DimensionState, UnitOrder};
use crate::tensors::to_host;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// α, order of units and effects of one dimension.
#[derive(Debug)]
pub(super) struct DimensionReadout {
    /// α of every candidate.
    pub(super) alpha: Vec<f64>,
    /// Order of its units.
    pub(super) order: UnitOrder,
    /// √B·e of every unit, step by step; empty without evidence.
    pub(super) effects: Vec<f64>,
}

impl DimensionReadout {
    /// Returns the flat indices of the units that pruning to `size` keeps: those of a fade-out to that
    /// size, else those with the highest importance.
    pub(super) fn kept_units(&self, state: &DimensionState, size: Size) -> Vec<i64> {
        match state.fade_out.as_ref().filter(|fade_out| fade_out.size == size) {
            Some(fade_out) => fade_out.kept().to_vec(),
            None => self.order.kept(size),
        }
    }
}

impl<A: Architecture> Search<A> {
    /// Reads α, order of units and effects of all dimensions from the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a score or an α is not finite.
    pub(super) fn read_out(&self) -> Result<Vec<DimensionReadout>> {
        let states = self.supernet.states();
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let effects = self.evidence.of_dimensions(self.supernet.space())?;
        let numbers = crate::autograd::no_grad(|| {
            let double = |own: &Tensor| own.f_reshape([-1])?.f_to_kind(Kind::Double);
            let mut parts = Vec::with_capacity(4 * states.len());
            for (at, state) in states.iter().enumerate() {
                parts.push(double(&state.alpha)?);
                // A sum of absolute values is finite if, and only if, all scores are, within f64.
                parts.push(double(&state.score)?.f_abs()?.f_sum(None)?.f_reshape([1])?);
                parts.push(UnitOrder::ranks(state)?);
                parts.extend(effects.get(at).map(double).transpose()?);
            }
            to_host(&Tensor::f_cat(&parts, 0)?)
        })?;
        let mut rest = &numbers[..];
        let mut take = |length: usize| {
            let (own, others) = rest.split_at(length.min(rest.len()));
            rest = others;
            own.to_vec()
        };
        let own = states.iter().enumerate().map(|(at, state)| {
            let alpha = take(state.candidates().len());
            let scores = take(1);
            expect_finite("alpha", &state.name, &alpha)?;
            expect_finite("score", &state.name, &scores)?;
            let ranks = take(UnitOrder::length(state));
            let order = UnitOrder::from_host(&ranks, state.candidates().heads());
            let effects = effects.get(at).map_or(0, Tensor::numel);
            Ok(DimensionReadout { alpha, order, effects: take(effects) })
        });
        own.collect()
    }
}

fn expect_finite(name: &str, dimension: &str, numbers: &[f64]) -> Result<()> {
    match numbers.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(Error::NonFinite { name: name.into(), dimension: dimension.into() }),
    }
}
