//! What an adaptive one-hot loss has to be.

use super::checks::{
    active_set, expect_close, expect_finite, failed, gradients, leaf, run, tensor, Counterexample,
    Verdict,
};
use super::units::{alphas, extreme_alphas, units_with};
use crate::components::AdaptiveOneHotLoss;
use crate::oracle::Units;
use crate::space::DimensionKind;
use crate::tensors::to_host;
use ndarray::Array2;
use proptest::prelude::*;
use tch::{Device, Kind};

/// A property of a one-hot loss on one dimension.
pub type OneHotProperty = fn(&dyn AdaptiveOneHotLoss, &Units, Device) -> Verdict;

/// All properties, with their names.
pub const ONE_HOT_PROPERTIES: &[(&str, OneHotProperty)] = &[
    ("loss falls as p sharpens", falls_as_p_sharpens),
    ("loss and gradient finite for every finite α", is_finite),
    ("decided dimension costs nothing", costs_nothing_when_decided),
    ("inactive candidates have no say", ignores_inactive_candidates),
    ("importance costs a finite number, and more of it no less", importance_costs),
];

/// Tries all properties on `cases` random inputs each; half of them with α of any finite f32.
///
/// # Errors
/// The smallest counterexample found, of the first property that breaks.
pub fn check_one_hot_loss(
    loss: &dyn AdaptiveOneHotLoss,
    cases: u32,
    device: Device,
) -> Result<(), Counterexample> {
    for (name, property) in ONE_HOT_PROPERTIES {
        let strategy = prop_oneof![units_with(alphas(32)), units_with(extreme_alphas(32))];
        run(name, cases, strategy, |units| property(loss, &units, device))?;
    }
    Ok(())
}

/// The loss and its gradient in α.
fn value_and_gradient(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Result<(f64, Vec<f64>), TestCaseError> {
    let compute = || -> crate::Result<(f64, Vec<f64>)> {
        let alpha = leaf(&tensor(units.alpha(), Kind::Float, device)?)?;
        let value = loss.alpha_loss(&alpha, &active_set(units, device)?)?;
        let gradient = gradients(&value, &[&alpha])?;
        Ok((to_host(&value)?.iter().sum(), to_host(&gradient[0])?))
    };
    compute().map_err(failed)
}

fn with_alpha(units: &Units, alpha: Array2<f64>) -> Result<Units, TestCaseError> {
    units.like(units.score().clone(), alpha, units.active().clone()).map_err(failed)
}

/// Half as much α again makes p sharper, and the loss no larger.
pub fn falls_as_p_sharpens(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    // Beyond ±30 a probability is 0 or 1 already.
    let blunt = with_alpha(units, units.alpha().mapv(|alpha| alpha.clamp(-30.0, 30.0)))?;
    let sharp = with_alpha(units, blunt.alpha() * 1.5)?;
    let (before, _) = value_and_gradient(loss, &blunt, device)?;
    let (after, _) = value_and_gradient(loss, &sharp, device)?;
    let rounding = 1e-5 * (1.0 + before.abs());
    prop_assert!(after <= before + rounding, "from {} to {} at 1.5 α", before, after);
    Ok(())
}

/// Value and gradient are numbers.
pub fn is_finite(loss: &dyn AdaptiveOneHotLoss, units: &Units, device: Device) -> Verdict {
    let (value, gradient) = value_and_gradient(loss, units, device)?;
    expect_finite("loss", &[value])?;
    expect_finite("gradient of candidate", &gradient)
}

/// With a single candidate left, loss and gradient are 0.
pub fn costs_nothing_when_decided(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    let mut left = true;
    let only = units.active().mapv(|active| active && std::mem::take(&mut left));
    let decided = units.like(units.score().clone(), units.alpha().clone(), only).map_err(failed)?;
    let (value, gradient) = value_and_gradient(loss, &decided, device)?;
    prop_assert!(value == 0.0, "a decided dimension costs {}", value);
    prop_assert!(gradient.iter().all(|&g| g == 0.0), "and has the gradient {:?}", gradient);
    Ok(())
}

/// α of an inactive candidate changes nothing, and has no gradient.
pub fn ignores_inactive_candidates(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    let (before, gradient) = value_and_gradient(loss, units, device)?;
    for (candidate, (&active, g)) in units.active().iter().zip(&gradient).enumerate() {
        prop_assert!(
            active || *g == 0.0,
            "inactive candidate {} has the gradient {}",
            candidate,
            g
        );
    }
    let mut alpha = units.alpha().clone();
    ndarray::Zip::from(&mut alpha).and(units.active()).for_each(|alpha, &active| {
        if !active {
            *alpha = 7.0;
        }
    });
    let (after, _) = value_and_gradient(loss, &with_alpha(units, alpha)?, device)?;
    expect_close("the loss", &[after], &[before], |_| 0.0)
}

/// The loss on importance is one finite number in every kind of dimension, and no smaller where all
/// units are more important.
pub fn importance_costs(loss: &dyn AdaptiveOneHotLoss, units: &Units, device: Device) -> Verdict {
    for kind in [DimensionKind::Embedding, DimensionKind::Attention, DimensionKind::Hidden] {
        let cost = |importance: &Array2<f64>| -> crate::Result<Vec<f64>> {
            to_host(&loss.importance_loss(kind, &tensor(importance, Kind::Float, device)?)?)
        };
        let importance = units.importance();
        let more = importance.mapv(|s| (1.0 + s) / 2.0);
        let (less, more) = (cost(&importance).map_err(failed)?, cost(&more).map_err(failed)?);
        prop_assert!(less.len() == 1, "{} numbers, expected one", less.len());
        expect_finite("loss on importance", &less)?;
        let rounding = 1e-5 * (1.0 + less[0].abs());
        prop_assert!(more[0] >= less[0] - rounding, "{} for more, {}", more[0], less[0]);
    }
    Ok(())
}
