//! What decisions are made from, on the host: all of it in one transfer from the device.

use super::step::Search;
use crate::models::Architecture;
use crate::space::Size;
use crate::supernet::{DimensionState, UnitOrder};
use crate::tensors::ToHost;
use crate::{Error, Result};
use std::ops::Range;
use tch::Kind;

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
        crate::autograd::no_grad(|| {
            let mut all = ToHost::default();
            let push = |(at, state): (usize, &DimensionState)| {
                let alpha = all.push(&state.alpha)?;
                // A sum of absolute values is finite if, and only if, all scores are, within f64.
                let scores =
                    all.push(&state.score.f_to_kind(Kind::Double)?.f_abs()?.f_sum(None)?)?;
                let order = all.push(&UnitOrder::ranks(state)?)?;
                let effects = effects.get(at).map(|own| all.push(own)).transpose()?;
                Ok([alpha, scores, order, effects.unwrap_or_default()])
            };
            let places: Vec<[Range<usize>; 4]> =
                states.iter().enumerate().map(push).collect::<Result<_>>()?;
            let numbers = all.numbers()?;
            let own = states.iter().zip(places).map(|(state, own)| {
                let [alpha, scores, order, effects] = own.map(|own| &numbers[own]);
                expect_finite("alpha", &state.name, alpha)?;
                expect_finite("score", &state.name, scores)?;
                let order = UnitOrder::from_host(order, state.candidates().heads());
                Ok(DimensionReadout { alpha: alpha.to_vec(), order, effects: effects.to_vec() })
            });
            own.collect()
        })
    }
}

fn expect_finite(name: &str, dimension: &str, numbers: &[f64]) -> Result<()> {
    match numbers.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(Error::NonFinite { name: name.into(), dimension: dimension.into() }),
    }
}
