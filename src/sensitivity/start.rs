//! α from measured sensitivity.

use super::{DimensionSensitivity, Sensitivity};
use crate::models::Architecture;
use crate::range::Range;
use crate::search::{Decisions, Search};
use crate::supernet::{DimensionState, Supernet};
use crate::{Error, Result};
use tch::Tensor;

/// Temperatures: −rise/temperature stays finite in f32.
const TEMPERATURE: Range<f64> = Range::closed(1e-6, 1e6);

impl Sensitivity {
    /// Sets α = −rise/temperature of every candidate, before the first step of a search.
    ///
    /// Σ ln p of a choice of sizes is then minus its summed rise, over the temperature and up to a
    /// constant, so projection onto the budgets chooses the smallest sum, at any temperature. The
    /// temperature, in units of the loss, sets how far p = softmax(α) is from uniform when the search
    /// begins: at 1, a candidate whose rise is 0.1 is 10 % less probable. With
    /// `optimiser.alpha_rate = 0` sizes are decided by the measurement alone.
    ///
    /// With `init.preserve_dense`, θ is divided by the new gates in place of the old ones, so the
    /// network still starts with the dense network's function. Dropped candidates that were not
    /// measured get the least α of the measured ones.
    ///
    /// # Errors
    /// [`Error::Invalid`] after the first step, for a search that decides by estimated losses, for a
    /// temperature outside [1e-6, 1e6], for an active candidate that was not measured, or for new gates that are no divisors
    /// ([`Supernet::divide_by_gates`]): raise the temperature; [`Error::NonFinite`] for an α beyond f32; [`Error::Unknown`]
    /// for a dimension that was not measured; nothing is changed then.
    pub fn start_alpha<A: Architecture>(
        &self,
        search: &mut Search<A>,
        temperature: f64,
    ) -> Result<()> {
        TEMPERATURE.check("temperature of α", temperature)?;
        if search.steps_done() > 0 {
            let expected = "0; set α before the first step";
            return Err(Error::invalid("steps done", expected, search.steps_done()));
        }
        if search.options().decisions == Decisions::Estimated {
            let expected = "learned, as by SearchOptions::learned: estimates replace every α";
            return Err(Error::invalid("decisions", expected, "estimated"));
        }
        let states = search.supernet().states().iter();
        let alphas = states.map(|state| alpha(state, self.dimension(&state.name)?, temperature));
        let alphas: Vec<Tensor> = alphas.collect::<Result<_>>()?;
        let states = search.supernet().states().iter();
        let former: Vec<Tensor> =
            states.map(|own| Ok(own.alpha.f_detach_copy()?)).collect::<Result<_>>()?;
        if let Err(error) = replace(search, &alphas) {
            set(search, &former)?;
            return Err(error);
        }
        search.materialise()
    }
}

/// Sets α, and divides θ by the new gates in place of the old ones where the search begins as the dense network.
fn replace<A: Architecture>(search: &mut Search<A>, alphas: &[Tensor]) -> Result<()> {
    let lambda = search.lambda();
    let before = gates(search.supernet(), lambda)?;
    set(search, alphas)?;
    if !search.options().init.preserve_dense {
        return Ok(());
    }
    let after = gates(search.supernet(), lambda)?;
    let ratio = after.iter().zip(&before).map(|(after, before)| after.f_div(before));
    let ratio: Vec<Tensor> = ratio.collect::<Result<_, _>>()?;
    search.supernet().divide_by_gates(&ratio)
}

fn set<A: Architecture>(search: &mut Search<A>, alphas: &[Tensor]) -> Result<()> {
    let states = search.supernet_mut().states_mut().iter_mut();
    states.zip(alphas).try_for_each(|(state, alpha)| state.set_alpha(alpha))
}

fn gates<A: Architecture>(supernet: &Supernet<A>, lambda: f64) -> Result<Vec<Tensor>> {
    let masks = crate::autograd::no_grad(|| supernet.masks(lambda))?;
    Ok(masks.into_iter().map(|mask| mask.mask).collect())
}

/// Returns α of one dimension, shaped like its own.
fn alpha(
    state: &DimensionState,
    measured: &DimensionSensitivity,
    temperature: f64,
) -> Result<Tensor> {
    let all = measured.candidates.iter().map(|candidate| -candidate.rise.mean);
    let least = all.fold(f64::INFINITY, f64::min);
    let sizes = state.candidates().sizes().zip(state.active.flags());
    let alpha = sizes.map(|(size, &active)| match measured.rise(size) {
        Ok(rise) => Ok((-rise.mean / temperature) as f32),
        Err(error) if active => Err(error),
        Err(_) => Ok((least / temperature) as f32),
    });
    let alpha: Vec<f32> = alpha.collect::<Result<_>>()?;
    Ok(Tensor::f_from_slice(&alpha)?.f_view_as(&state.alpha)?.f_to_device(state.alpha.device())?)
}
