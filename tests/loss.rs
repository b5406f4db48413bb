//! The one-hot loss where the tangent would run to infinity, and the task loss against sums.

mod support;

use once_for_both::loss::{task_loss, AdaptiveOneHotLoss, EntropyVarianceLoss, Targets};
use once_for_both::space::{ActiveSet, Cells, DimensionKind};
use once_for_both::Error;
use proptest::collection::vec;
use proptest::prelude::*;
use std::f64::consts::PI;
use support::{
    from_numbers, gradients, in_words, leaf, numbers, softmax, test_device, TestResult, Tolerance,
};
use tch::Tensor;

/// Seven flat cells, all active, and the paper's loss on them.
fn seven() -> TestResult<(ActiveSet, EntropyVarianceLoss)> {
    let active = ActiveSet::all(&Cells::flat(7, (1..=7).collect())?, test_device())?;
    Ok((active, EntropyVarianceLoss::paper(DimensionKind::Hidden)))
}

fn value_and_slope(
    loss: &EntropyVarianceLoss,
    alpha: &[f64],
    active: &ActiveSet,
) -> TestResult<(f64, Vec<f64>)> {
    let alpha = leaf(&from_numbers(alpha, &[1, alpha.len() as i64])?);
    let value = loss.sharpen(&alpha, active)?;
    Ok((value.double_value(&[]), numbers(&gradients(&value, &[&alpha])?[0])?))
}

/// Entropy and tangent of the active cells, from the definition; none of δ.
fn slow_loss(alpha: &[f64], flags: &[bool]) -> (f64, f64) {
    let p = softmax(alpha, flags);
    let n = flags.iter().filter(|&&active| active).count() as f64;
    let active = || p.iter().zip(flags).filter(|(_, &active)| active).map(|(p, _)| *p);
    let entropy: f64 = active().map(|p| -p * p.ln()).sum();
    let x = active().map(|p| (p - 1.0 / n).powi(2)).sum::<f64>() / (1.0 - 1.0 / n);
    (x, entropy + (PI / 2.0 - PI * x).tan() / n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn between_the_ends_the_loss_is_the_formula(
        alpha in vec(-2.0..2.0f64, 7),
        mut flags in vec(any::<bool>(), 7),
        pair in 0..6usize,
    ) {
        (flags[pair], flags[pair + 1]) = (true, true);
        let (x, expected) = slow_loss(&alpha, &flags);
        prop_assume!((1e-3..0.99).contains(&x));
        let cells = Cells::flat(7, (1..=7).collect())?;
        let active = ActiveSet::new(&cells, flags.clone(), test_device())?;
        let (_, loss) = in_words(seven())?;
        let (value, slope) = in_words(value_and_slope(&loss, &alpha, &active))?;
        // Near 0 the tangent is 1/(π x): a rounding of p is a share of x.
        let close = Tolerance { relative: 1e-3, absolute: 1e-3 };
        in_words(close.check_number("loss", value, expected))?;
        for (slope, active) in slope.iter().zip(&flags) {
            prop_assert!(slope.is_finite() && (*active || *slope == 0.0), "{:?}", slope);
        }
    }

    #[test]
    fn the_task_loss_is_the_mean_cross_entropy(
        logits in vec(-3.0..3.0f64, 8),
        classes in [0..4i64, 0..4i64],
        smoothing in 0.0..0.5f64,
    ) {
        let tensor = in_words(from_numbers(&logits, &[2, 4]))?;
        let smooth = |class: i64, other: i64| {
            smoothing / 4.0 + if class == other { 1.0 - smoothing } else { 0.0 }
        };
        let targets: Vec<f64> =
            classes.iter().flat_map(|&class| (0..4).map(move |other| smooth(class, other))).collect();
        let all = [true; 4];
        let log_p = logits.chunks(4).flat_map(|row| softmax(row, &all)).map(f64::ln);
        let expected = -log_p.zip(&targets).map(|(log_p, t)| log_p * t).sum::<f64>() / 2.0;
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        let hard = Targets::Classes(Tensor::from_slice(&classes).to_device(test_device()));
        let soft = Targets::Probabilities(in_words(from_numbers(&targets, &[2, 4]))?);
        for (targets, smoothing) in [(hard, smoothing), (soft, 0.0)] {
            let found = task_loss(&tensor, &targets, smoothing)?;
            in_words(close.check_against("task loss", &found, &[expected]))?;
        }
    }
}

#[test]
fn value_and_slope_are_finite_for_every_alpha() -> TestResult {
    let (active, loss) = seven()?;
    for size in [0.0, 1e-6, 1e-3, 1.0, 10.0, 100.0, 1e4, 1e20, 1e38] {
        for other in [0.0, -size, size] {
            let alpha = [size, other, 0.0, 0.0, 0.0, 0.0, 0.0];
            let (value, slope) = value_and_slope(&loss, &alpha, &active)?;
            let finite = value.is_finite() && slope.iter().all(|slope| slope.is_finite());
            assert!(finite, "{alpha:?}: {value}, {slope:?}");
        }
    }
    Ok(())
}

#[test]
fn the_loss_falls_all_the_way_from_uniform_to_one_hot() -> TestResult {
    let (active, loss) = seven()?;
    // p of the first cell from 1/7 to nearly 1; x from 0 past both ends of the formula.
    let values = (0..200).map(|step| {
        let alpha = [f64::from(step) * 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        Ok(value_and_slope(&loss, &alpha, &active)?.0)
    });
    let values = values.collect::<TestResult<Vec<f64>>>()?;
    for (step, pair) in values.windows(2).enumerate() {
        // From α = 10 on, 1 − p is a few roundings of f32.
        let slack = if step < 100 { 0.0 } else { 2e-3 * pair[0].abs() };
        assert!(pair[1] < pair[0] + slack, "step {step}: {pair:?}");
    }
    assert!(values[199] < values[100] - 10.0);
    Ok(())
}

/// Outside [δ, 1 − δ] the tangent goes on along its line: with large δ that can be computed by
/// hand.
#[test]
fn beyond_its_ends_the_tangent_is_a_line() -> TestResult {
    let (active, paper) = seven()?;
    let loss = EntropyVarianceLoss { entropy: false, delta: 0.2, ..paper };
    for first in [0.5, 1.0, 1.2, 6.0] {
        let alpha = [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let (x, _) = slow_loss(&alpha, &[true; 7]);
        assert!(!(0.2..=0.8).contains(&x), "{x} lies inside");
        let end = if x < 0.5 { 0.2 } else { 0.8 };
        let line = 1.0 / (PI * end).tan() - PI / (PI * end).sin().powi(2) * (x - end);
        let (value, _) = value_and_slope(&loss, &alpha, &active)?;
        Tolerance::relative(1e-4).check_number("line", value, line / 7.0)?;
    }
    Ok(())
}

#[test]
fn a_decided_dimension_has_no_loss() -> TestResult {
    let cells = Cells::flat(4, vec![2, 4])?;
    let active = ActiveSet::new(&cells, vec![false, true], test_device())?;
    let (_, loss) = seven()?;
    let alpha = leaf(&from_numbers(&[3.0, -2.0], &[1, 2])?);
    let importance = leaf(&from_numbers(&[0.5; 4], &[1, 4])?);
    let value = loss.loss(&alpha, &active, &importance)?;
    assert_eq!(value.double_value(&[]), 0.0);
    let found = gradients(&value, &[&alpha, &importance])?;
    assert!(found.iter().all(|gradient| gradient.abs().max().double_value(&[]) == 0.0));
    Ok(())
}

#[test]
fn options_out_of_range_are_refused() -> TestResult {
    let (_, paper) = seven()?;
    paper.check()?;
    for delta in [0.0, 0.5, -1.0, f64::NAN] {
        assert_refused!(EntropyVarianceLoss { delta, ..paper }.check(), Error::Invalid { .. });
    }
    let endless = EntropyVarianceLoss { importance_weight: f64::INFINITY, ..paper };
    assert_refused!(endless.check(), Error::Invalid { .. });
    Ok(())
}
