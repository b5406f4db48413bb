//! The adaptive one-hot loss against the oracle, and at the ends of its tangent term.

mod support;

use ndarray::Array2;
use once_for_both::components::{AdaptiveOneHotLoss, EntropyVarianceLoss};
use once_for_both::oracle::{one_hot_loss, Units};
use once_for_both::space::{ActiveSet, Candidates, DimensionKind};
use once_for_both::strategies::units;
use once_for_both::Error;
use proptest::prelude::*;
use std::f64::consts::PI;
use support::{
    array, from_numbers, gradients, in_words, leaf, numbers, softmax, test_device, TestResult,
    Tolerance,
};

/// Seven flat candidates, all active, and the paper's loss.
fn seven_candidates() -> TestResult<(ActiveSet, EntropyVarianceLoss)> {
    let active = ActiveSet::all(&Candidates::flat(7, (1..=7).collect())?, test_device())?;
    Ok((active, EntropyVarianceLoss::paper()))
}

fn value_and_gradient(
    loss: &EntropyVarianceLoss,
    alpha: &[f64],
    active: &ActiveSet,
) -> TestResult<(f64, Vec<f64>)> {
    let alpha = leaf(&from_numbers(alpha, &[1, alpha.len() as i64])?);
    let value = loss.alpha_loss(&alpha, active)?;
    Ok((value.double_value(&[]), numbers(&gradients(&value, &[&alpha])?[0])?))
}

/// x = σ²/(1 − 1/n).
fn normalised_variance(units: &Units) -> f64 {
    let n = units.active_count() as f64;
    let p = units.probabilities();
    let active = p.iter().zip(units.active()).filter(|(_, &active)| active);
    active.map(|(p, _)| (p - 1.0 / n).powi(2)).sum::<f64>() / (1.0 - 1.0 / n)
}

/// The loss with all three terms, and with each term alone.
fn term_variants(delta: f64) -> [EntropyVarianceLoss; 4] {
    let all = EntropyVarianceLoss { delta, ..EntropyVarianceLoss::paper() };
    let none = EntropyVarianceLoss { entropy: false, tangent: false, importance: false, ..all };
    [
        all,
        EntropyVarianceLoss { entropy: true, ..none },
        EntropyVarianceLoss { tangent: true, ..none },
        EntropyVarianceLoss { importance: true, ..none },
    ]
}

/// Allowed rounding error of the loss in f32: 1e-5 of the value, and six roundings of x times the
/// slope of the tangent term.
fn allowed_error(units: &Units, loss: &EntropyVarianceLoss, value: f64) -> f64 {
    let x = normalised_variance(units).clamp(loss.delta, 1.0 - loss.delta);
    let steepness = PI / (PI * x).sin().powi(2) / units.active_count() as f64;
    1e-5 * value.abs() + 1e-6 + if loss.tangent { 4e-7 * steepness } else { 0.0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn one_hot_loss_of_any_units_matches_the_oracle(
        units in units(),
        kind in prop_oneof![Just(DimensionKind::Attention), Just(DimensionKind::Hidden)],
        delta in prop_oneof![Just(1e-4), Just(1e-3), 1e-2..0.49],
    ) {
        let flags = units.active().iter().copied().collect();
        let active = ActiveSet::new(units.candidates(), flags, test_device())?;
        let (score, alpha) = (in_words(array(units.score()))?, in_words(array(units.alpha()))?);
        for loss in term_variants(delta) {
            let found = loss.loss(kind, &alpha, &active, &score.f_sigmoid()?)?;
            let expected = one_hot_loss(&loss, kind, &units).total();
            let close = Tolerance { relative: 0.0, absolute: allowed_error(&units, &loss, expected) };
            in_words(close.check_number("loss", found.double_value(&[]), expected))?;
        }
    }

    #[test]
    fn one_hot_loss_gradient_matches_central_differences_of_the_oracle(units in units(), delta in 1e-2..0.4f64) {
        let x = normalised_variance(&units);
        // The second derivative jumps at x = δ and x = 1 − δ.
        prop_assume!((x - delta).abs() > 1e-3 && (x - 1.0 + delta).abs() > 1e-3);
        let flags = units.active().iter().copied().collect();
        let active = ActiveSet::new(units.candidates(), flags, test_device())?;
        let loss = EntropyVarianceLoss { delta, importance: false, ..EntropyVarianceLoss::paper() };
        let alpha = leaf(&in_words(array(units.alpha()))?);
        let value = loss.alpha_loss(&alpha, &active)?;
        let found = in_words(gradients(&value, &[&alpha]))?;
        let at = |alpha: Array2<f64>| {
            let (candidates, score, flags) = (units.candidates(), units.score(), units.active());
            Units::new(candidates.clone(), score.clone(), alpha, flags.clone())
                .map_or(f64::NAN, |u| one_hot_loss(&loss, DimensionKind::Hidden, &u).total())
        };
        let slope = |index: (usize, usize)| {
            let (mut up, mut down) = (units.alpha().clone(), units.alpha().clone());
            up[index] += 1e-5;
            down[index] -= 1e-5;
            (at(up) - at(down)) / 2e-5
        };
        let expected: Vec<f64> = units.alpha().indexed_iter().map(|(i, _)| slope(i)).collect();
        let scale = expected.iter().fold(1.0, |scale: f64, slope| scale.max(slope.abs()));
        // The f32 gradient and the f64 difference both round, and x has fewer digits than p.
        let close = Tolerance { relative: 0.0, absolute: 1e-5 * scale / delta };
        in_words(close.check_against("gradient", &found[0], &expected))?;
    }
}

/// Compares value and gradient just inside and just outside of x = δ and x = 1 − δ.
#[test]
fn tangent_term_value_and_gradient_are_continuous_at_delta() -> TestResult {
    let (active, paper) = seven_candidates()?;
    let loss = EntropyVarianceLoss { entropy: false, delta: 0.2, ..paper };
    // x rises with the first α; bisection finds where x crosses each end.
    for end in [0.2, 0.8] {
        let x = |first: f64| {
            let p = softmax(&[first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[true; 7]);
            p.iter().map(|p| (p - 1.0 / 7.0).powi(2)).sum::<f64>() / (1.0 - 1.0 / 7.0)
        };
        let (mut low, mut high) = (0.0, 20.0);
        while high - low > 1e-9 {
            let middle = (low + high) / 2.0;
            *(if x(middle) < end { &mut low } else { &mut high }) = middle;
        }
        let at =
            |first: f64| value_and_gradient(&loss, &[first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &active);
        let ((left, left_gradient), (right, right_gradient)) = (at(low - 1e-3)?, at(low + 1e-3)?);
        let close = Tolerance { relative: 1e-2, absolute: 1e-3 };
        close.check_number("value", left, right)?;
        close.check_number("gradient", left_gradient[0], right_gradient[0])?;
    }
    Ok(())
}

#[test]
fn one_hot_loss_falls_from_uniform_to_one_hot() -> TestResult {
    let (active, loss) = seven_candidates()?;
    // p of the first candidate goes from 1/7 to nearly 1, x from 0 past δ and 1 − δ.
    let values = (0..200).map(|step| {
        let alpha = [f64::from(step) * 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        Ok(value_and_gradient(&loss, &alpha, &active)?.0)
    });
    let values = values.collect::<TestResult<Vec<f64>>>()?;
    for (step, pair) in values.windows(2).enumerate() {
        // From α = 10 on, 1 − p is only a few roundings of f32.
        let slack = if step < 100 { 0.0 } else { 2e-3 * pair[0].abs() };
        assert!(pair[1] < pair[0] + slack, "step {step}: {pair:?}");
    }
    assert!(values[199] < values[100] - 10.0);
    Ok(())
}

/// Compares with the tangent line at the nearer end of [δ, 1 − δ], for a large δ.
#[test]
fn tangent_term_outside_delta_is_linear() -> TestResult {
    let (active, paper) = seven_candidates()?;
    let loss = EntropyVarianceLoss { entropy: false, delta: 0.2, ..paper };
    for first in [0.5, 1.0, 1.2, 6.0] {
        let alpha = [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let numbers = |values: &[f64]| Array2::from_shape_vec((1, 7), values.to_vec());
        let (score, alphas) = (numbers(&[0.0; 7])?, numbers(&alpha)?);
        let x = normalised_variance(&Units::new(
            active.candidates().clone(),
            score,
            alphas,
            Array2::from_elem((1, 7), true),
        )?);
        assert!(!(0.2..=0.8).contains(&x), "x: got {x}, expected outside [0.2, 0.8]");
        let end = if x < 0.5 { 0.2 } else { 0.8 };
        let line = 1.0 / (PI * end).tan() - PI / (PI * end).sin().powi(2) * (x - end);
        let (value, _) = value_and_gradient(&loss, &alpha, &active)?;
        Tolerance::relative(1e-4).check_number("line", value, line / 7.0)?;
    }
    Ok(())
}

#[test]
fn one_hot_loss_of_decided_dimension_is_zero() -> TestResult {
    let candidates = Candidates::flat(4, vec![2, 4])?;
    let active = ActiveSet::new(&candidates, vec![false, true], test_device())?;
    let (_, loss) = seven_candidates()?;
    let alpha = leaf(&from_numbers(&[3.0, -2.0], &[1, 2])?);
    let importance = leaf(&from_numbers(&[0.5; 4], &[1, 4])?);
    let value = loss.loss(DimensionKind::Attention, &alpha, &active, &importance)?;
    assert_eq!(value.double_value(&[]), 0.0);
    let found = gradients(&value, &[&alpha, &importance])?;
    assert!(found.iter().all(|gradient| gradient.abs().max().double_value(&[]) == 0.0));
    Ok(())
}

#[test]
fn one_hot_loss_with_parameters_out_of_range_is_refused() -> TestResult {
    let (_, paper) = seven_candidates()?;
    paper.check()?;
    for delta in [0.0, 1e-8, 0.5, -1.0, f64::NAN] {
        assert_refused!(EntropyVarianceLoss { delta, ..paper }.check(), Error::Invalid { .. });
    }
    let endless = EntropyVarianceLoss { attention_weight: f64::INFINITY, ..paper };
    assert_refused!(endless.check(), Error::Invalid { .. });
    Ok(())
}

#[test]
fn one_hot_loss_with_alpha_of_another_shape_is_refused() -> TestResult {
    let (active, loss) = seven_candidates()?;
    let short = from_numbers(&[0.0; 6], &[1, 6])?;
    assert_refused!(
        loss.alpha_loss(&short, &active),
        Error::Shape { ref actual, .. } if actual == &[1, 6]
    );
    Ok(())
}
