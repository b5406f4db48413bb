//! Properties of a bi-mask.

use super::dimension_units::units;
use super::runner::{
    active_set, expect_close, expect_finite, expect_true, failed, gradients, leaf, run, tensor,
    Counterexample, Verdict,
};
use crate::components::{BiMask, Mask, UnitState};
use crate::oracle::{ranks, Units};
use crate::space::{ActiveSet, ActiveSets};
use crate::tensors::to_host;
use ndarray::{Array1, Array2, ArrayView1, Axis};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// Units, λ and device of one case.
#[derive(Debug, Clone)]
pub struct BiMaskCase {
    /// Scores, α, active candidates and importance of pruned channels.
    pub units: Units,
    /// λ, the weight of importance, in [0, 1].
    pub lambda: f64,
    /// Device of the tensors.
    pub device: Device,
}

/// A property of a bi-mask in one case.
pub type BiMaskProperty = fn(&dyn BiMask, &BiMaskCase) -> Verdict;

/// All properties, with their names.
pub const BI_MASK_PROPERTIES: &[(&str, BiMaskProperty)] = &[
    ("S, V and m are in [0, 1]", stays_in_unit_interval),
    ("V does not increase with rank", falls_with_rank),
    ("permuting units permutes the gates", follows_permutations),
    ("m is S at λ = 1 and V at λ = 0", is_linear_in_lambda),
    ("V is 0 or 1 with one active candidate", is_decided_by_one_candidate),
    ("raising α of a candidate does not lower V of its units", rises_with_alpha),
    ("scores get no gradient from V, α gets none from S", keeps_gradients_apart),
    ("sum of V is the expected number of units", sums_to_expected_units),
    ("masks of several dimensions are those of each", masks_each_dimension_alone),
];

/// Checks all properties of [`BI_MASK_PROPERTIES`] on `cases` random inputs each.
///
/// # Errors
/// The smallest counterexample found, of the first property that does not hold.
pub fn check_bi_mask(mask: &dyn BiMask, cases: u32, device: Device) -> Result<(), Counterexample> {
    for (name, property) in BI_MASK_PROPERTIES {
        let lambdas = prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0];
        let strategy =
            (units(), lambdas).prop_map(|(units, lambda)| BiMaskCase { units, lambda, device });
        run(name, cases, strategy, |case| property(mask, &case))?;
    }
    Ok(())
}

/// Allowed rounding error of a sum of probabilities.
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
    on_state(case, |state| {
        let found = mask.mask(state, case.lambda)?;
        Ok(Numbers {
            importance: to_host(&found.importance)?,
            sparsity: to_host(&found.sparsity)?,
            mask: to_host(&found.mask)?,
        })
    })
}

/// Runs `compute` on the tensors of a case.
fn on_state<T>(
    case: &BiMaskCase,
    compute: impl Fn(UnitState) -> crate::Result<T>,
) -> Result<T, TestCaseError> {
    let run = || -> crate::Result<T> {
        let score = tensor(case.units.score(), Kind::Float, case.device)?;
        let alpha = tensor(case.units.alpha(), Kind::Float, case.device)?;
        let active = active_set(&case.units, case.device)?;
        let pruned_importance = pruned_importance(case)?;
        let pruned_importance = pruned_importance.as_ref();
        compute(UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance })
    };
    run().map_err(failed)
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

/// The case with scores clamped to [−4, 4] and different for all units, so that S differs too.
fn without_ties(case: &BiMaskCase) -> Result<BiMaskCase, TestCaseError> {
    let units = &case.units;
    let channels = units.score().ncols();
    let score = Array2::from_shape_fn(units.score().dim(), |(head, channel)| {
        let unit = (head * channels + channel) as f64;
        units.score()[(head, channel)].clamp(-4.0, 4.0) + unit / 1024.0
    });
    with_units(case, units.like(score, units.alpha().clone(), units.active().clone()))
}

/// S, V and m of every unit are in [0, 1]; NaN is not.
pub fn stays_in_unit_interval(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let found = numbers(mask, case)?;
    for (name, values) in [("S", found.importance), ("V", found.sparsity), ("m", found.mask)] {
        for (unit, value) in values.into_iter().enumerate() {
            prop_assert!(
                (0.0..=1.0).contains(&value),
                "{} of unit {}: got {}, expected within [0, 1]",
                name,
                unit,
                value
            );
        }
    }
    Ok(())
}

/// V does not increase from one channel rank of a head to the next, nor, at equal channel rank,
/// from one head rank to the next. Heads rank by Σ S of their channels, pruned ones included.
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
        // Rounding could exchange the ranks of closer heads.
        if sums[better] - sums[worse] > 1e-5 {
            for rank in 0..shape.1 {
                let (v, w) = (by_rank[(better, rank)], by_rank[(worse, rank)]);
                prop_assert!(
                    w <= v,
                    "V at channel rank {}: got {} in head {}, expected at most {} as in head {}",
                    rank,
                    w,
                    worse,
                    v,
                    better
                );
            }
        }
    }
    Ok(())
}

fn failed_shape(error: &ndarray::ShapeError) -> TestCaseError {
    TestCaseError::fail(format!("length of S or V: {error}"))
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (0..count).map(move |b| (a, b)))
}

fn falls(head: usize, by_rank: ArrayView1<f64>) -> Verdict {
    for (rank, pair) in by_rank.windows(2).into_iter().enumerate() {
        let (v, next) = (pair[0], pair[1]);
        prop_assert!(
            next <= v,
            "V of head {} at rank {}: got {}, expected at most {} as at rank {}",
            head,
            rank + 1,
            next,
            v,
            rank
        );
    }
    Ok(())
}

/// Heads reversed, channels reversed, or the first two channels exchanged give the gates in that
/// order.
pub fn follows_permutations(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let case = &without_ties(case)?;
    let units = &case.units;
    let (heads, channels) = units.score().dim();
    let sums = units.head_importance();
    if pairs(heads).any(|(a, b)| a != b && (sums[a] - sums[b]).abs() < 1e-5) {
        return Ok(()); // Rounding could exchange the ranks of these heads.
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
        expect_close("permuted gate of unit", &after, &expected, rounding)?;
    }
    Ok(())
}

/// m = λ·S + (1 − λ)·V: S at λ = 1, V at λ = 0.
pub fn is_linear_in_lambda(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    for lambda in [0.0, 1.0, case.lambda] {
        let found = numbers(mask, &BiMaskCase { lambda, ..case.clone() })?;
        let halves = found.importance.iter().zip(&found.sparsity);
        let expected: Vec<f64> = halves.map(|(s, v)| lambda * s + (1.0 - lambda) * v).collect();
        expect_close("gate of unit", &found.mask, &expected, rounding)?;
    }
    Ok(())
}

/// [`BiMask::masks`] of a dimension twice is [`BiMask::mask`] of it, twice: S, V, m and the gradients of scores and α.
pub fn masks_each_dimension_alone(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let expected = learned_numbers(case, 1, |states| {
        states.iter().map(|state| mask.mask(*state, case.lambda)).collect()
    })?;
    let found = learned_numbers(case, 2, |states| {
        let active: Vec<&ActiveSet> = states.iter().map(|state| state.active).collect();
        mask.masks(states, &ActiveSets::new(&active, case.device)?, case.lambda)
    })?;
    expect_true(found.len() == 2, || {
        format!("bi-masks of two dimensions: got {}, expected 2", found.len())
    })?;
    let names = ["S of unit", "V of unit", "gate of unit", "gradient of score", "gradient of α"];
    for own in &found {
        for ((name, own), expected) in names.iter().zip(own).zip(&expected[0]) {
            expect_close(name, own, expected, |expected| 10.0 * rounding(expected))?;
        }
    }
    Ok(())
}

/// Returns S, V and m of every bi-mask that `compute` makes of a dimension, given `count` times, and the gradients of
/// Σ S² + V² + m² in scores and α.
fn learned_numbers(
    case: &BiMaskCase,
    count: usize,
    compute: impl Fn(&[UnitState]) -> crate::Result<Vec<Mask>>,
) -> Result<Vec<[Vec<f64>; 5]>, TestCaseError> {
    let run = || -> crate::Result<Vec<[Vec<f64>; 5]>> {
        let leaves = |values: &Array2<f64>| -> crate::Result<Vec<Tensor>> {
            (0..count).map(|_| leaf(&tensor(values, Kind::Float, case.device)?)).collect()
        };
        let (scores, alphas) = (leaves(case.units.score())?, leaves(case.units.alpha())?);
        let (active, pruned) = (active_set(&case.units, case.device)?, pruned_importance(case)?);
        let (active, pruned_importance) = (&active, pruned.as_ref());
        let pairs = scores.iter().zip(&alphas);
        let states: Vec<UnitState> = pairs
            .map(|(score, alpha)| UnitState { score, alpha, active, pruned_importance })
            .collect();
        let masks = compute(&states)?;
        let terms = masks.iter().flat_map(|own| [&own.importance, &own.sparsity, &own.mask]);
        let squares = terms.map(|own| Ok(own.f_square()?.f_sum(None)?));
        let squares = squares.collect::<crate::Result<Vec<Tensor>>>()?;
        if squares.is_empty() {
            return Ok(Vec::new());
        }
        let inputs: Vec<&Tensor> = scores.iter().chain(&alphas).collect();
        let slopes = gradients(&Tensor::f_stack(&squares, 0)?.f_sum(None)?, &inputs)?;
        let (of_scores, of_alphas) = slopes.split_at(count);
        let own = masks.iter().zip(of_scores.iter().zip(of_alphas));
        own.map(|(own, (score, alpha))| {
            let [s, v, m] = [&own.importance, &own.sparsity, &own.mask].map(to_host);
            Ok([s?, v?, m?, to_host(score)?, to_host(alpha)?])
        })
        .collect()
    };
    run().map_err(failed)
}

/// With one active candidate, V is 1 for as many units as the candidate has, and 0 for the others.
pub fn is_decided_by_one_candidate(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let units = &case.units;
    for candidate in [0, units.candidates().len() - 1] {
        let columns = units.active().ncols();
        let only =
            Array2::from_shape_fn(units.active().dim(), |(a, b)| a * columns + b == candidate);
        let decided = units.like(units.score().clone(), units.alpha().clone(), only);
        let v = numbers(mask, &with_units(case, decided)?)?.sparsity;
        for (unit, &value) in v.iter().enumerate() {
            prop_assert!(
                value == 0.0 || value == 1.0,
                "V of unit {}: got {}, expected 0 or 1",
                unit,
                value
            );
        }
        let (kept, size) =
            (v.iter().sum::<f64>(), units.candidates().size(candidate).units() as f64);
        prop_assert!(
            kept == size,
            "units with V = 1: got {}, expected {} as in the candidate",
            kept,
            size
        );
    }
    Ok(())
}

/// Raising α of an active candidate does not lower V of the units that the candidate keeps, nor
/// raise V of the others.
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
                "V of unit {}: got {} after raising α of candidate {}, before {}",
                unit,
                after,
                candidate,
                before
            );
        }
    }
    Ok(())
}

/// The gradient of scores is 0 at λ = 0, that of α is 0 at λ = 1, and both are finite. Above
/// λ = 0.001, a score in [−4, 4] has a gradient other than 0.
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
            // Of squares: the gradient of a plain sum would not depend on the gates.
            let sum = mask.mask(state, lambda)?.mask.f_square()?.f_sum(None)?;
            let found = gradients(&sum, &[&score, &alpha])?;
            Ok((to_host(&found[0])?, to_host(&found[1])?))
        };
        let (to_score, to_alpha) = compute().map_err(failed)?;
        expect_finite("gradient of score", &to_score)?;
        expect_finite("gradient of α", &to_alpha)?;
        let (from_v, from_s) = (lambda == 0.0, lambda == 1.0);
        prop_assert!(
            !from_v || to_score.iter().all(|&g| g == 0.0),
            "gradient of scores at λ = 0: got {:?}, expected 0",
            to_score
        );
        prop_assert!(
            !from_s || to_alpha.iter().all(|&g| g == 0.0),
            "gradient of α at λ = 1: got {:?}, expected 0",
            to_alpha
        );
        for (unit, (score, g)) in case.units.score().iter().zip(&to_score).enumerate() {
            let learns = lambda < 1e-3 || score.abs() > 4.0 || *g != 0.0;
            prop_assert!(learns, "gradient of score {}: got 0 at λ = {}", unit, lambda);
        }
    }
    Ok(())
}

/// Σ V = Σ p · units of the candidate.
pub fn sums_to_expected_units(mask: &dyn BiMask, case: &BiMaskCase) -> Verdict {
    let sum: f64 = numbers(mask, case)?.sparsity.iter().sum();
    expect_close("Σ V of dimension", &[sum], &[case.units.expected_size().units], rounding)
}
