//! Ranks, kept units and bi-masks against the oracle, in f32, f16 and bf16.

mod support;

use half::{bf16, f16};
use ndarray::Array2;
use once_for_both::components::{
    head_ranks, most_important, ranks, survival_by_rank, BiMask, Mask, RankedBiMask, UnitState,
};
use once_for_both::cost::{ExpectedCost, Metric};
use once_for_both::oracle::{self, Units};
use once_for_both::space::{ActiveSet, ActiveSets, Candidates, Size};
use once_for_both::strategies::{scores, units};
use once_for_both::Error;
use proptest::prelude::*;
use support::{
    array, from_numbers, gradients, in_words, leaf, numbers, test_device, TestResult, Tolerance,
};
use tch::{Kind, Tensor};

/// 1e-6 of each number, because only numbers of one sign are added; 1e-7 for those near 0 in f32.
const MASK: Tolerance = Tolerance { relative: 1e-6, absolute: 1e-7 };

/// Unit roundoff of f32.
const F32: f64 = 6e-8;

fn active_set(units: &Units) -> TestResult<ActiveSet> {
    let flags = units.active().iter().copied().collect();
    Ok(ActiveSet::new(units.candidates(), flags, test_device())?)
}

/// Whether rounding cannot exchange the ranks of two heads: their importance differs by more than
/// 16 roundings, or their scores are equal.
fn heads_are_apart(units: &Units, roundoff: f64) -> bool {
    let sums = units.head_importance();
    let score = |head: usize| units.score().row(head);
    (0..sums.len()).all(|a| {
        (0..a).all(|b| (sums[a] - sums[b]).abs() > 16.0 * roundoff || score(a) == score(b))
    })
}

/// Flat indices of the units kept at `size`, ascending, computed from the ranks.
fn kept_units(units: &Units, size: Size) -> Vec<f64> {
    let (heads, channels) = (units.head_ranks(), units.channel_ranks());
    let is_kept = |(head, channel): (usize, usize)| {
        (heads[head] as i64) < size.heads && (channels[(head, channel)] as i64) < size.channels
    };
    let all = channels.indexed_iter().map(|(at, _)| at).enumerate();
    all.filter(|&(_, at)| is_kept(at)).map(|(unit, _)| unit as f64).collect()
}

/// Central differences of `f` in every entry, in f64.
fn central_differences(at: &Array2<f64>, f: impl Fn(Array2<f64>) -> f64) -> Vec<f64> {
    let step = 1e-5;
    let moved = |index: (usize, usize), by: f64| {
        let mut values = at.clone();
        values[index] += by;
        f(values)
    };
    at.indexed_iter().map(|(i, _)| (moved(i, step) - moved(i, -step)) / (2.0 * step)).collect()
}

/// Weights of a weighted sum of gates, different for every unit.
fn upstream(units: &Units) -> Array2<f64> {
    let (heads, channels) = units.score().dim();
    Array2::from_shape_fn((heads, channels), |(h, c)| ((h * channels + c) as f64 * 0.7).sin())
}

/// Importance of the pruned channels of each head, as a tensor.
fn pruned_importance(units: &Units) -> TestResult<Option<Tensor>> {
    let numbers = units.pruned_importance().map(|all| all.to_vec());
    numbers.map(|all| from_numbers(&all, &[all.len() as i64])).transpose()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn ranks_of_any_scores_match_the_oracle(score in scores(40)) {
        let tensor = in_words(from_numbers(&score, &[1, 40]))?;
        let found = ranks(&tensor)?;
        prop_assert_eq!(found.kind(), Kind::Int64);
        let expected = oracle::ranks(ndarray::ArrayView1::from(&score));
        let expected: Vec<f64> = expected.iter().map(|&rank| rank as f64).collect();
        prop_assert_eq!(in_words(numbers(&found))?, expected);
    }

    #[test]
    fn most_important_units_are_the_best_channels_of_the_best_heads(units in units()) {
        prop_assume!(heads_are_apart(&units, F32));
        let score = in_words(array(units.score()))?;
        let pruned_importance = in_words(pruned_importance(&units))?;
        let heads = head_ranks(&RankedBiMask.importance(&score)?, pruned_importance.as_ref())?;
        for size in units.candidates().sizes() {
            let found = in_words(numbers(&most_important(&score, &heads, size)?))?;
            prop_assert_eq!(found, kept_units(&units, size), "at {:?}", size);
        }
    }

    #[test]
    fn bi_mask_of_any_units_matches_the_oracle(units in units(), lambda in 0.0..=1.0f64) {
        prop_assume!(heads_are_apart(&units, F32));
        let (score, alpha) = (in_words(array(units.score()))?, in_words(array(units.alpha()))?);
        let (active, pruned_importance) = (in_words(active_set(&units))?, in_words(pruned_importance(&units))?);
        let by_rank = survival_by_rank(&alpha, &active)?;
        in_words(MASK.check_array("V by rank", &by_rank, &units.survival_by_rank()))?;

        let state = UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance: pruned_importance.as_ref() };
        let found = RankedBiMask.mask(state, lambda)?;
        let expected = units.mask(lambda)?;
        in_words(MASK.check_array("S", &found.importance, &expected.importance))?;
        in_words(MASK.check_array("V", &found.sparsity, &expected.sparsity))?;
        in_words(MASK.check_array("m", &found.mask, &expected.mask))?;
    }

    #[test]
    fn bi_mask_gradients_match_central_differences_of_the_oracle(units in units(), lambda in 0.0..=1.0f64) {
        prop_assume!(heads_are_apart(&units, F32));
        let (score, alpha) =
            (leaf(&in_words(array(units.score()))?), leaf(&in_words(array(units.alpha()))?));
        let (active, pruned_importance) = (in_words(active_set(&units))?, in_words(pruned_importance(&units))?);
        let state = UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance: pruned_importance.as_ref() };
        let weights = upstream(&units);
        let Mask { mask, .. } = RankedBiMask.mask(state, lambda)?;
        let sum = (mask * in_words(array(&weights))?).f_sum(None)?;
        let found = in_words(gradients(&sum, &[&score, &alpha]))?;

        // Ranks are constants to autograd: S depends on scores alone, V on α alone.
        let with = |score: &Array2<f64>, alpha: &Array2<f64>| {
            units.like(score.clone(), alpha.clone(), units.active().clone())
        };
        let close = Tolerance { relative: 1e-5, absolute: 1e-5 };
        let to_score = central_differences(units.score(), |score| {
            with(&score, units.alpha()).map_or(f64::NAN, |u| lambda * (u.importance() * &weights).sum())
        });
        in_words(close.check_against("gradient of the score", &found[0], &to_score))?;
        let to_alpha = central_differences(units.alpha(), |alpha| {
            let moved = with(units.score(), &alpha);
            moved.map_or(f64::NAN, |u| (1.0 - lambda) * (u.sparsity() * &weights).sum())
        });
        in_words(close.check_against("gradient of α", &found[1], &to_alpha))?;
    }

    #[test]
    fn bi_mask_in_half_precision_is_rounded_once(units in units(), lambda in 0.0..=1.0f64) {
        prop_assume!(heads_are_apart(&units, F32));
        let (active, pruned_importance) = (in_words(active_set(&units))?, in_words(pruned_importance(&units))?);
        // Scores and α are eighths or ±2¹³, which f16 and bf16 represent exactly.
        let rounded_to = |to: fn(f64) -> f64| {
            let (score, alpha) = (units.score().mapv(to), units.alpha().mapv(to));
            units.like(score, alpha, units.active().clone())
        };
        let kinds = [
            (Kind::Half, (|x| f16::from_f64(x).to_f64()) as fn(f64) -> f64, 11, 2f64.powi(-24)),
            (Kind::BFloat16, |x| bf16::from_f64(x).to_f64(), 8, 0.0),
        ];
        for (kind, to, digits, least) in kinds {
            let units = rounded_to(to)?;
            let host = |values: &Array2<f64>| array(values).map(|t| t.to_kind(kind));
            let (score, alpha) = (in_words(host(units.score()))?, in_words(host(units.alpha()))?);
            let state = UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance: pruned_importance.as_ref() };
            let found = RankedBiMask.mask(state, lambda)?;
            let expected = units.mask(lambda)?;
            let roundoff = 2f64.powi(-digits);
            let once = Tolerance { relative: roundoff + 2e-6, absolute: least + 1e-7 };
            let twice = Tolerance { relative: 2.0 * roundoff + 2e-6, absolute: 2.0 * least + 1e-7 };
            for tensor in [&found.importance, &found.sparsity, &found.mask] {
                prop_assert_eq!(tensor.kind(), kind);
            }
            in_words(once.check_array("S", &found.importance, &expected.importance))?;
            if heads_are_apart(&units, roundoff) {
                in_words(once.check_array("V", &found.sparsity, &expected.sparsity))?;
                in_words(twice.check_array("m", &found.mask, &expected.mask))?;
            }
            let by_rank = survival_by_rank(&alpha, &active)?;
            in_words(once.check_array("V by rank", &by_rank, &units.survival_by_rank()))?;
        }
    }

    #[test]
    fn bi_mask_of_decided_dimension_is_one_for_its_most_important_units(
        units in units(),
        pick in any::<prop::sample::Index>(),
    ) {
        let candidate = pick.index(units.candidates().len());
        let flags = (0..units.candidates().len()).map(|other| other == candidate).collect();
        let active = ActiveSet::new(units.candidates(), flags, test_device())?;
        let pruned_importance = in_words(pruned_importance(&units))?;
        let (score, alpha) = (in_words(array(units.score()))?, in_words(array(units.alpha()))?);
        let state = UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance: pruned_importance.as_ref() };
        let mask = RankedBiMask.mask(state, 0.0)?;
        let size = units.candidates().size(candidate);
        let kept = most_important(&score, &head_ranks(&mask.importance, pruned_importance.as_ref())?, size)?;
        let expected = mask.mask.zeros_like().flatten(0, -1).index_fill(0, &kept, 1.0);
        let exact = Tolerance::relative(0.0);
        in_words(exact.check("mask", &mask.mask.flatten(0, -1), &expected))?;
    }

    #[test]
    fn expected_cost_matches_the_oracle(units in units()) {
        let (space, model) = in_words(support::little::counting(units.candidates()))?;
        let cost = ExpectedCost::new(&model, &space, &[Metric::Macs, Metric::Params], test_device())?;
        let alpha = in_words(array(units.alpha()))?;
        let active = in_words(active_set(&units))?;
        let sets = ActiveSets::new(&[&active], test_device())?;
        let found = cost.costs(&[&alpha], &sets)?;
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        // This cost model has as many MACs as units and as many parameters as heads.
        in_words(close.check_against("units", &found[0], &[units.expected_size().units]))?;
        in_words(close.check_against("heads", &found[1], &[units.expected_size().heads]))?;
    }
}

#[test]
fn bi_mask_of_f16_and_bf16_host_scores_is_computed() -> TestResult {
    let candidates = Candidates::flat(3, vec![1, 3])?;
    let active = ActiveSet::all(&candidates, test_device())?;
    let scores = [0.5, -2.0, 3.0];
    let half = Tensor::f_from_slice(&scores.map(f16::from_f64))?;
    let brain = Tensor::f_from_slice(&scores.map(bf16::from_f64))?;
    for score in [half, brain] {
        let score = score.view([1, 3]).to_device(test_device());
        let alpha = score.narrow(1, 0, 2).zeros_like();
        let state =
            UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance: None };
        let found = RankedBiMask.mask(state, 0.0)?;
        Tolerance::relative(0.0).check_against("V", &found.mask, &[0.5, 0.5, 1.0])?;
    }
    Ok(())
}

/// Score, α and active candidates of 2 heads of 4 channels with four candidates.
fn grid() -> TestResult<(Tensor, Tensor, ActiveSet)> {
    let candidates = Candidates::grid(2, 4, vec![1, 2], vec![2, 4])?;
    let active = ActiveSet::all(&candidates, test_device())?;
    Ok((from_numbers(&[0.0; 8], &[2, 4])?, from_numbers(&[0.0; 4], &[2, 2])?, active))
}

#[test]
fn bi_mask_with_score_of_another_shape_is_refused() -> TestResult {
    let (score, alpha, active) = grid()?;
    for other in [score.view([4, 2]), score.view([8]), score.narrow(1, 0, 3)] {
        let state =
            UnitState { score: &other, alpha: &alpha, active: &active, pruned_importance: None };
        assert_refused!(
            RankedBiMask.mask(state, 0.5),
            Error::Shape { ref expected, .. } if expected == &[2, 4]
        );
    }
    Ok(())
}

#[test]
fn bi_mask_with_alpha_of_another_shape_is_refused() -> TestResult {
    let (score, _, active) = grid()?;
    let long = from_numbers(&[0.0; 6], &[2, 3])?;
    let state = UnitState { score: &score, alpha: &long, active: &active, pruned_importance: None };
    assert_refused!(
        RankedBiMask.mask(state, 0.5),
        Error::Shape { ref actual, .. } if actual == &[2, 3]
    );
    Ok(())
}

#[test]
fn bi_mask_with_lambda_outside_0_and_1_is_refused() -> TestResult {
    let (score, alpha, active) = grid()?;
    let state =
        UnitState { score: &score, alpha: &alpha, active: &active, pruned_importance: None };
    for lambda in [-0.1, 1.1, f64::NAN] {
        assert_refused!(RankedBiMask.mask(state, lambda), Error::Invalid { .. });
    }
    Ok(())
}

#[test]
fn active_set_without_active_candidate_is_refused() -> TestResult {
    let candidates = Candidates::flat(4, vec![2, 4])?;
    let refused = ActiveSet::new(&candidates, vec![false, false], test_device());
    assert_refused!(refused, Error::Invalid { ref name, .. } if name == "active candidates");
    let refused = ActiveSet::new(&candidates, vec![true], test_device());
    assert_refused!(refused, Error::Invalid { ref actual, .. } if actual == "1");
    Ok(())
}

#[test]
fn candidates_not_ascending_are_refused() {
    assert_refused!(Candidates::flat(8, vec![4, 2]), Error::Candidates { ref actual, .. } if actual == &[4, 2]);
    assert_refused!(Candidates::grid(4, 8, vec![2, 2], vec![4]), Error::Candidates { .. });
}

#[test]
fn candidates_larger_than_the_dimension_are_refused() {
    assert_refused!(Candidates::flat(8, vec![2, 9]), Error::Candidates { ref actual, .. } if actual == &[2, 9]);
    assert_refused!(Candidates::grid(4, 8, vec![5], vec![4]), Error::Candidates { .. });
    assert_refused!(Candidates::flat(8, vec![]), Error::Candidates { .. });
}

#[test]
fn oracle_units_with_wrong_arrays_are_refused() -> TestResult {
    let candidates = Candidates::flat(2, vec![1, 2])?;
    let numbers = |columns: usize| Array2::zeros((1, columns));
    let all = || Array2::from_elem((1, 2), true);
    let units = |score, alpha, active| Units::new(candidates.clone(), score, alpha, active);
    assert_refused!(units(numbers(3), numbers(2), all()), Error::Shape { ref name, .. } if name == "score");
    assert_refused!(units(numbers(2), numbers(1), all()), Error::Shape { ref name, .. } if name == "alpha");
    assert_refused!(units(numbers(2), numbers(2), all().mapv(|_| false)), Error::Invalid { .. });
    let endless = Array2::from_elem((1, 2), f64::INFINITY);
    assert_refused!(units(endless, numbers(2), all()), Error::NonFinite { .. });
    let whole = units(numbers(2), numbers(2), all())?;
    assert_refused!(whole.mask(1.5), Error::Invalid { .. });
    Ok(())
}
