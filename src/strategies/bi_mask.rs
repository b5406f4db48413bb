//! What a bi-mask has to be.

use super::checks::{
    active_set, expect_close, expect_finite, failed, gradients, leaf, run, tensor, Counterexample,
    Verdict,
};
use super::units::units;
use crate::components::{BiMask, UnitState};
use crate::oracle::{ranks, Units};
use crate::tensors::to_host;
use ndarray::{Array1, Array2, ArrayView1, Axis};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// Units, λ, and where to compute.
#[derive(Debug, Clone)]
pub struct BiMaskCase {
    /// Scores, α and active candidates.
    pub units: Units,
    /// The weight of importance.
    pub lambda: f64,
    /// The device.
    pub device: Device,
}

/// A property of a bi-mask in one case.
pub type BiMaskProperty = fn(&dyn BiMask, &BiMaskCase) -> Verdict;

/// All properties, with their names.
pub const BI_MASK_PROPERTIES: &[(&str, BiMaskProperty)] = &[
    ("mask stays in [0, 1]", stays_in_unit_interval),
    ("V is non-increasing in rank", falls_with_rank),
    ("permuting units permutes the mask", follows_permutations),
    ("λ = 1 is S and λ = 0 is V", has_two_ends),
    ("one active candidate gives a 0/1 V", is_decided_by_one_candidate),
    ("raising α of a candidate never lowers V of the units it keeps", rises_with_alpha),
    ("no gradient from V to scores, none from S to α", keeps_gradients_apart),
    ("sum of V equals the expected size", sums_to_the_expected_size),
];

/// Tries all properties on `cases` random inputs each.
///
/// # Errors
/// The smallest counterexample found, of the first property that breaks.
pub fn check_bi_mask(mask: &dyn BiMask, cases: u32, device: Device) -> Result<(), Counterexample> {
    for (name, property) in BI_MASK_PROPERTIES {
        let lambdas = prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0];
        let strategy =
            (units(), lambdas).prop_map(|(units, lambda)| BiMaskCase { units, lambda, device });
        run(name, cases, strategy, |case| property(mask, &case))?;
    }
    Ok(())
}

/// What rounding may add to sums of probabilities.
fn rounding(expected: f64) -> f64 {
    1e-5 * (1.0 + expected.abs())
}

/// S, V and m in memory order.
struct Numbers {
    importance: Vec<f64>,
    sparsity: Vec<f64>,
    mask: Vec<f64>,
}

fn numbers(mask: &dyn BiMask, case: &BiMaskCase) -> Result<Numbers, TestCaseError> {
    let compute = || -> crate::Result<Numbers> {
        let score = tensor(case.units.score(), Kind::Float, case.device)?;
        let alpha = tensor(case.units.alpha(), Kind::Float, case.device)?;
        let active = active_set(&case.units, case.device)?;
        let pruned_importance = pruned_importance(case)?;
        let pruned_importance = pruned_importance.as_ref();
        let state = UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance };
        let found = mask.mask(state, case.lambda)?;
        Ok(Numbers {
            importance: to_host(&found.importance)?,
            sparsity: to_host(&found.sparsity)?,
            mask: to_host(&found.mask)?,
        })
    };
    compute().map_err(failed)
}

fn pruned_importance(case: &BiMaskCase) -> crate::Result<Option<Tensor>> {
    let pruned_importance = case.units.pruned_importance();
    let on_device = |values: &Array1<f64>| -> crate::Result<Tensor> {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        Ok(Tensor::f_from_slice(&values)?.f_to_device(case.device)?)
    };
    pruned_importance.map(on_device).transpose()
}

fn with_units(case: &BiMaskCase, units: crate::Result<Units>) -> Result<BiMaskCase, TestCaseError> {
    Ok(BiMaskCase { units: units.map_err(failed)?, ..*case })
}

/// The scores without ties, nor so far out that S is the same for all.
fn without_ties(case: &BiMaskCase) -> Result<BiMaskCase, TestCaseError> {
    let units = &case.units;
    let channels = units.score().ncols();
    let score = Array2::from_shape_fn(units.score().dim(), |(head, channel)| {
        let unit = (head * channels + channel) as f64;
        units.score()[(head, channel)].clamp(-4.0, 4.0) + unit / 1024.0
    });
    with_units(case, units.like(score, units.alpha().clone(), units.active().clone()))
}

/// S, V and m lie in [0, 1] and are numbers.
pub fn stays_in_unit_interval(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let found = numbers(mask, case)?;
    for (name, values) in [("S", found.importance), ("V", found.sparsity), ("m", found.mask)] {
        for (unit, value) in values.into_iter().enumerate() {
            prop_assert!((0.0..=1.0).contains(&value), "{} of unit {} is {}", name, unit, value);
        }
    }
    Ok(())
}

/// In a head, a better channel has no smaller V; of two heads, the better one has none at equal
/// channel ranks.
pub fn falls_with_rank(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let found = numbers(mask, case)?;
    let shape = case.units.score().dim();
    let grid = |values| Array2::from_shape_vec(shape, values).map_err(|e| failed_shape(&e));
    let (importance, sparsity) = (grid(found.importance)?, grid(found.sparsity)?);
    let mut by_rank = Array2::zeros(shape);
    for (head, score) in case.units.score().rows().into_iter().enumerate() {
        for (channel, &rank) in ranks(score).iter().enumerate() {
            by_rank[(head, rank)] = sparsity[(head, channel)];
        }
        falls(head, by_rank.row(head))?;
    }
    let mut sums = importance.sum_axis(Axis(1));
    if let Some(pruned_importance) = case.units.pruned_importance() {
        sums += pruned_importance;
    }
    let order = ranks(sums.view());
    for (better, worse) in pairs(shape.0).filter(|&(a, b)| order[a] < order[b]) {
        // Sums that rounding may exchange say nothing.
        if sums[better] - sums[worse] > 1e-5 {
            for rank in 0..shape.1 {
                let (v, w) = (by_rank[(better, rank)], by_rank[(worse, rank)]);
                prop_assert!(w <= v, "V is {} in head {} but {} in {}", v, better, w, worse);
            }
        }
    }
    Ok(())
}

fn failed_shape(error: &ndarray::ShapeError) -> TestCaseError {
    TestCaseError::fail(format!("as many numbers as units: {error}"))
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (0..count).map(move |b| (a, b)))
}

fn falls(head: usize, by_rank: ArrayView1<f64>) -> Verdict {
    for (rank, pair) in by_rank.windows(2).into_iter().enumerate() {
        let (v, next) = (pair[0], pair[1]);
        prop_assert!(next <= v, "V of head {}: {} at rank {}, {} at the next", head, v, rank, next);
    }
    Ok(())
}

/// Mirrored heads, mirrored channels, and the first two channels exchanged: together they make
/// every permutation.
pub fn follows_permutations(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let case = &without_ties(case)?;
    let units = &case.units;
    let (heads, channels) = units.score().dim();
    let sums = units.head_importance();
    if pairs(heads).any(|(a, b)| a != b && (sums[a] - sums[b]).abs() < 1e-5) {
        return Ok(()); // Rounding orders them.
    }
    let found = numbers(mask, case)?.mask;
    let exchanged = |channel| match channel {
        0 if channels > 1 => 1,
        1 => 0,
        other => other,
    };
    let moves: [&dyn Fn(usize, usize) -> (usize, usize); 3] = [
        &|head, channel| (heads - 1 - head, channel),
        &|head, channel| (head, channels - 1 - channel),
        &|head, channel| (head, exchanged(channel)),
    ];
    for moved in moves {
        let from = |(head, channel)| moved(head, channel);
        let score = Array2::from_shape_fn((heads, channels), |at| units.score()[from(at)]);
        let permuted = units.like(score, units.alpha().clone(), units.active().clone());
        let permuted = match units.pruned_importance() {
            None => permuted,
            Some(pruned_importance) => {
                let moved =
                    Array1::from_shape_fn(heads, |head| pruned_importance[from((head, 0)).0]);
                permuted.and_then(|units| units.with_pruned_importance(moved))
            }
        };
        let after = numbers(mask, &with_units(case, permuted)?)?.mask;
        let expected: Vec<f64> = (0..heads * channels)
            .map(|unit| from((unit / channels, unit % channels)))
            .map(|(head, channel)| found[head * channels + channel])
            .collect();
        expect_close("the permuted mask", &after, &expected, rounding)?;
    }
    Ok(())
}

/// m is S at λ = 1, V at λ = 0, and the mean in between.
pub fn has_two_ends(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    for lambda in [0.0, 1.0, case.lambda] {
        let found = numbers(mask, &BiMaskCase { lambda, ..case.clone() })?;
        let halves = found.importance.iter().zip(&found.sparsity);
        let expected: Vec<f64> = halves.map(|(s, v)| lambda * s + (1.0 - lambda) * v).collect();
        expect_close("the mask", &found.mask, &expected, rounding)?;
    }
    Ok(())
}

/// With a single candidate left, V is 1 for as many units as the candidate has, and 0 for the others.
pub fn is_decided_by_one_candidate(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let units = &case.units;
    for candidate in [0, units.candidates().len() - 1] {
        let columns = units.active().ncols();
        let only =
            Array2::from_shape_fn(units.active().dim(), |(a, b)| a * columns + b == candidate);
        let decided = units.like(units.score().clone(), units.alpha().clone(), only);
        let v = numbers(mask, &with_units(case, decided)?)?.sparsity;
        for (unit, &value) in v.iter().enumerate() {
            prop_assert!(value == 0.0 || value == 1.0, "V of unit {} is {}", unit, value);
        }
        let (kept, size) =
            (v.iter().sum::<f64>(), units.candidates().size(candidate).units() as f64);
        prop_assert!(kept == size, "{} units kept by a candidate of {}", kept, size);
    }
    Ok(())
}

/// Raising α of an active candidate never lowers V of a unit that the candidate keeps, and never raises V of
/// another. (The widest candidate keeps every unit that any keeps.)
pub fn rises_with_alpha(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let units = &case.units;
    let columns = units.alpha().ncols();
    let active: Vec<usize> = (0..units.candidates().len())
        .filter(|candidate| units.active()[(candidate / columns, candidate % columns)])
        .collect();
    let before = numbers(mask, case)?.sparsity;
    for &candidate in [active[0], active[active.len() / 2], active[active.len() - 1]].iter() {
        let mut alpha = units.alpha().clone();
        alpha[(candidate / columns, candidate % columns)] += 0.5;
        let (score, flags) = (units.score(), units.active());
        let raised = units.like(score.clone(), alpha, flags.clone());
        let after = numbers(mask, &with_units(case, raised)?)?.sparsity;
        let only = Array2::from_shape_fn(flags.dim(), |(a, b)| a * columns + b == candidate);
        let alone = units.like(score.clone(), units.alpha().clone(), only);
        let kept = numbers(mask, &with_units(case, alone)?)?.sparsity;
        for (unit, (&before, &after)) in before.iter().zip(&after).enumerate() {
            let rise = after - before;
            let wrong = if kept[unit] > 0.5 { rise < -1e-6 } else { rise > 1e-6 };
            prop_assert!(
                !wrong,
                "candidate {}: V of unit {} from {} to {}",
                candidate,
                unit,
                before,
                after
            );
        }
    }
    Ok(())
}

/// At λ = 0 scores have no gradient, at λ = 1 α has none, and both are finite in between; with λ
/// above 0, a score that does not saturate S has one.
pub fn keeps_gradients_apart(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    for lambda in [0.0, 1.0, case.lambda] {
        let compute = || -> crate::Result<(Vec<f64>, Vec<f64>)> {
            let score = leaf(&tensor(case.units.score(), Kind::Float, case.device)?)?;
            let alpha = leaf(&tensor(case.units.alpha(), Kind::Float, case.device)?)?;
            let (active, pruned_importance) =
                (active_set(&case.units, case.device)?, pruned_importance(case)?);
            let pruned_importance = pruned_importance.as_ref();
            let state =
                UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance };
            // Squares, so that the gradient depends on every unit's mask.
            let sum = mask.mask(state, lambda)?.mask.f_square()?.f_sum(None)?;
            let found = gradients(&sum, &[&score, &alpha])?;
            Ok((to_host(&found[0])?, to_host(&found[1])?))
        };
        let (to_score, to_alpha) = compute().map_err(failed)?;
        expect_finite("the gradient of score", &to_score)?;
        expect_finite("the gradient of α", &to_alpha)?;
        let (from_v, from_s) = (lambda == 0.0, lambda == 1.0);
        prop_assert!(!from_v || to_score.iter().all(|&g| g == 0.0), "V to scores: {:?}", to_score);
        prop_assert!(!from_s || to_alpha.iter().all(|&g| g == 0.0), "S to α: {:?}", to_alpha);
        for (unit, (score, g)) in case.units.score().iter().zip(&to_score).enumerate() {
            let learns = lambda < 1e-3 || score.abs() > 4.0 || *g != 0.0;
            prop_assert!(learns, "unit {} has no gradient to its score, λ = {}", unit, lambda);
        }
    }
    Ok(())
}

/// Σ V is the expected number of units.
pub fn sums_to_the_expected_size(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let sum: f64 = numbers(mask, case)?.sparsity.iter().sum();
    expect_close("Σ V", &[sum], &[case.units.expected_size().units], rounding)
}
