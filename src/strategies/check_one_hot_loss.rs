//! Properties of an adaptive one-hot loss.

use super::dimension_units::{alphas, extreme_alphas, units_with};
use super::runner::{
    active_set, expect_close, expect_finite, failed, gradients, leaf, run, tensor, Counterexample,
    Verdict,
};
use crate::components::AdaptiveOneHotLoss;
use crate::oracle::Units;
use crate::space::{ActiveSets, DimensionKind};
use crate::tensors::to_host;
use ndarray::Array2;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// A property of a one-hot loss on one dimension.
pub type OneHotProperty = fn(&dyn AdaptiveOneHotLoss, &Units, Device) -> Verdict;

/// All properties, with their names.
pub const ONE_HOT_PROPERTIES: &[(&str, OneHotProperty)] = &[
    ("loss does not rise as p sharpens", falls_as_p_sharpens),
    ("loss and gradient are finite for every finite α", is_finite),
    ("loss and gradient of a decided dimension are 0", is_zero_when_decided),
    ("dropped candidates change neither loss nor gradient", ignores_dropped_candidates),
    (
        "importance loss is finite and does not fall as importance rises",
        importance_loss_does_not_fall,
    ),
    ("loss of several dimensions is the sum over each", sums_over_dimensions),
];

/// Checks all properties of [`ONE_HOT_PROPERTIES`] on `cases` random inputs each, half of them with
/// α of any finite f32.
///
/// # Errors
/// The smallest counterexample found, of the first property that does not hold.
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

/// Returns the loss on α and its gradient.
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

/// The loss at 1.5·α, where p is sharper, is not larger than at α.
pub fn falls_as_p_sharpens(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    // Beyond ±30 a probability is 0 or 1 in f32.
    let blunt = with_alpha(units, units.alpha().mapv(|alpha| alpha.clamp(-30.0, 30.0)))?;
    let sharp = with_alpha(units, blunt.alpha() * 1.5)?;
    let (before, _) = value_and_gradient(loss, &blunt, device)?;
    let (after, _) = value_and_gradient(loss, &sharp, device)?;
    let rounding = 1e-5 * (1.0 + before.abs());
    prop_assert!(
        after <= before + rounding,
        "loss at 1.5·α: got {}, expected at most {} as at α",
        after,
        before
    );
    Ok(())
}

/// [`AdaptiveOneHotLoss::alpha_losses`] of a dimension twice is twice its loss, and
/// [`AdaptiveOneHotLoss::importance_losses`] of dimensions of two kinds the sum of theirs; so are the gradients.
pub fn sums_over_dimensions(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    let rounding = |expected: f64| 1e-4 * (1.0 + expected.abs());
    let active = active_set(units, device).map_err(failed)?;
    let (alone, slope) = value_and_gradient(loss, units, device)?;
    let sum = |alphas: &[&Tensor]| {
        loss.alpha_losses(alphas, &ActiveSets::new(&[&active, &active], device)?)
    };
    let (found, slopes) = value_and_gradients_of_two(units.alpha(), device, sum)?;
    expect_close("loss", &[found], &[2.0 * alone], rounding)?;
    expect_close("gradient of candidate", &slopes, &[&slope[..], &slope].concat(), rounding)?;
    let kinds = [DimensionKind::Attention, DimensionKind::Hidden];
    let each = |own: &[&Tensor]| {
        let [one, other] = [0, 1].map(|at| loss.importance_loss(kinds[at], own[at]));
        Ok(one?.f_add(&other?)?)
    };
    let all = |own: &[&Tensor]| loss.importance_losses(&[(kinds[0], own[0]), (kinds[1], own[1])]);
    let importance = units.importance();
    let (alone, expected) = value_and_gradients_of_two(&importance, device, each)?;
    let (found, slopes) = value_and_gradients_of_two(&importance, device, all)?;
    expect_close("importance loss", &[found], &[alone], rounding)?;
    expect_close("gradient of importance", &slopes, &expected, rounding)
}

/// Returns a loss of two tensors of these values, and its gradients in one and the other.
fn value_and_gradients_of_two(
    values: &Array2<f64>,
    device: Device,
    loss: impl Fn(&[&Tensor]) -> crate::Result<Tensor>,
) -> Result<(f64, Vec<f64>), TestCaseError> {
    let compute = || -> crate::Result<(f64, Vec<f64>)> {
        let own = tensor(values, Kind::Float, device)?;
        let (one, other) = (leaf(&own)?, leaf(&own)?);
        let value = loss(&[&one, &other])?;
        let slopes = gradients(&value, &[&one, &other])?;
        let slopes = slopes.iter().map(to_host).collect::<crate::Result<Vec<_>>>()?;
        Ok((to_host(&value)?.iter().sum(), slopes.concat()))
    };
    compute().map_err(failed)
}

/// Loss and gradient are finite.
pub fn is_finite(loss: &dyn AdaptiveOneHotLoss, units: &Units, device: Device) -> Verdict {
    let (value, gradient) = value_and_gradient(loss, units, device)?;
    expect_finite("loss", &[value])?;
    expect_finite("gradient of candidate", &gradient)
}

/// With one active candidate, loss and gradient are exactly 0.
pub fn is_zero_when_decided(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    let mut left = true;
    let only = units.active().mapv(|active| active && std::mem::take(&mut left));
    let decided = units.like(units.score().clone(), units.alpha().clone(), only).map_err(failed)?;
    let (value, gradient) = value_and_gradient(loss, &decided, device)?;
    prop_assert!(value == 0.0, "loss of a decided dimension: got {}, expected 0", value);
    prop_assert!(
        gradient.iter().all(|&g| g == 0.0),
        "its gradient: got {:?}, expected 0",
        gradient
    );
    Ok(())
}

/// α of a dropped candidate does not change the loss, and its gradient is exactly 0.
pub fn ignores_dropped_candidates(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    let (before, gradient) = value_and_gradient(loss, units, device)?;
    for (candidate, (&active, g)) in units.active().iter().zip(&gradient).enumerate() {
        prop_assert!(
            active || *g == 0.0,
            "gradient of dropped candidate {}: got {}, expected 0",
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
    expect_close("loss of dimension", &[after], &[before], |_| 0.0)
}

/// The importance loss is one finite number in every kind of dimension, and not smaller where every
/// unit is more important.
pub fn importance_loss_does_not_fall(
    loss: &dyn AdaptiveOneHotLoss,
    units: &Units,
    device: Device,
) -> Verdict {
    for kind in [DimensionKind::Embedding, DimensionKind::Attention, DimensionKind::Hidden] {
        let cost = |importance: &Array2<f64>| -> crate::Result<Vec<f64>> {
            to_host(&loss.importance_loss(kind, &tensor(importance, Kind::Float, device)?)?)
        };
        let importance = units.importance();
        let more = importance.mapv(|s| (1.0 + s) / 2.0);
        let (less, more) = (cost(&importance).map_err(failed)?, cost(&more).map_err(failed)?);
        prop_assert!(
            less.len() == 1,
            "numbers of the importance loss: got {}, expected 1",
            less.len()
        );
        expect_finite("importance loss", &less)?;
        let rounding = 1e-5 * (1.0 + less[0].abs());
        prop_assert!(
            more[0] >= less[0] - rounding,
            "importance loss at larger S: got {}, expected at least {}",
            more[0],
            less[0]
        );
    }
    Ok(())
}
