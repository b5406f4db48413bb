//! AdamW compared with libtorch's, its moments when they are sliced and restored, and the EMA.

mod support;

use once_for_both::optim::{AdamW, AdamWOptions, Ema, Moments};
use once_for_both::Error;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{from_numbers, in_words, leaf, numbers, test_device, TestResult, Tolerance};
use tch::{nn, nn::OptimizerConfig, Tensor};

const SIZE: usize = 6;
const SHAPE: [i64; 2] = [2, 3];

/// For f32 parameters of magnitude 1 after a few steps.
const STEP: Tolerance = Tolerance { relative: 1e-6, absolute: 1e-6 };

/// The flag of a step that is applied.
fn applied() -> Tensor {
    Tensor::ones([0i64; 0], (tch::Kind::Float, test_device()))
}

/// Parameters after one libtorch AdamW step per gradient.
fn by_libtorch(
    start: &Tensor,
    gradients: &[Tensor],
    rate: f64,
    options: &AdamWOptions,
) -> TestResult<Tensor> {
    let AdamWOptions { beta1, beta2, eps, weight_decay } = *options;
    let store = nn::VarStore::new(test_device());
    let parameter = store.root().var_copy("parameter", start);
    let config = nn::AdamW { beta1, beta2, wd: weight_decay, eps, amsgrad: false };
    let mut optimiser = config.build(&store, rate)?;
    for gradient in gradients {
        optimiser.zero_grad();
        (&parameter * gradient).sum(None).backward();
        optimiser.step();
    }
    Ok(parameter.detach().copy())
}

/// Parameters and optimiser after one step of [`AdamW`] per gradient.
fn by_this_crate(
    start: &Tensor,
    gradients: &[Tensor],
    rate: f64,
    options: &AdamWOptions,
) -> TestResult<(Tensor, AdamW)> {
    let (mut parameter, mut optimiser) = (leaf(start), AdamW::new());
    for gradient in gradients {
        optimiser.update("parameter", &mut parameter, gradient, &applied(), rate, options)?;
    }
    Ok((parameter.detach(), optimiser))
}

/// One parameter after Loshchilov & Hutter's algorithm 2, in f64.
fn by_the_paper(start: f64, gradients: &[f64], rate: f64, options: &AdamWOptions) -> f64 {
    let AdamWOptions { beta1, beta2, eps, weight_decay } = *options;
    let (mut parameter, mut mean, mut square) = (start, 0.0, 0.0);
    for (step, gradient) in (1..).zip(gradients) {
        mean = beta1 * mean + (1.0 - beta1) * gradient;
        square = beta2 * square + (1.0 - beta2) * gradient * gradient;
        let mean_hat = mean / (1.0 - beta1.powi(step));
        let square_hat: f64 = square / (1.0 - beta2.powi(step));
        parameter -= rate * (mean_hat / (square_hat.sqrt() + eps) + weight_decay * parameter);
    }
    parameter
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn adamw_after_a_few_steps_equals_libtorch_and_the_paper(
        start in vec(-1.0..1.0f64, SIZE),
        gradients in vec(vec(-1.0..1.0f64, SIZE), 1..6),
        rate in 1e-4..1e-2f64,
        beta1 in 0.0..0.95f64,
        beta2 in 0.9..0.999f64,
        eps in prop_oneof![Just(1e-8), Just(1e-2)],
        weight_decay in prop_oneof![Just(0.0), 1e-3..0.5f64],
    ) {
        let options = AdamWOptions { beta1, beta2, eps, weight_decay };
        let tensor = in_words(from_numbers(&start, &SHAPE))?;
        let steps: Result<Vec<_>, _> =
            gradients.iter().map(|g| in_words(from_numbers(g, &SHAPE))).collect();
        let steps = steps?;
        let (actual, _) = in_words(by_this_crate(&tensor, &steps, rate, &options))?;
        let libtorch = in_words(by_libtorch(&tensor, &steps, rate, &options))?;
        in_words(STEP.check("compared with libtorch", &actual, &libtorch))?;
        let paper: Vec<f64> = (0..SIZE)
            .map(|at| {
                let own: Vec<f64> = gradients.iter().map(|g| g[at]).collect();
                by_the_paper(start[at], &own, rate, &options)
            })
            .collect();
        in_words(STEP.check_against("compared with the paper", &actual, &paper))?;
    }
}

/// Three gradients; the second has a zero.
fn three_gradients() -> TestResult<Vec<Tensor>> {
    let rows = [
        [0.3, -0.2, 0.9, 1e-4, -2.0, 0.5],
        [0.1, 0.0, -0.9, 1e-4, 3.0, 0.5],
        [-0.3, 0.4, 0.2, -1e-4, 1.0, 0.5],
    ];
    rows.iter().map(|row| from_numbers(row, &SHAPE)).collect()
}

#[test]
fn adamw_step_after_slicing_moments_equals_slicing_after_the_step() -> TestResult {
    let options = AdamWOptions::default();
    let (start, gradients) =
        (from_numbers(&[0.5, -0.5, 0.1, 2.0, -1.0, 0.0], &SHAPE)?, three_gradients()?);
    let kept = Tensor::from_slice(&[0i64, 2]).to_device(test_device());
    let narrow = |tensor: &Tensor| tensor.index_select(1, &kept);

    let (whole, _) = by_this_crate(&start, &gradients, 0.01, &options)?;
    let (parameter, mut optimiser) = by_this_crate(&start, &gradients[..2], 0.01, &options)?;
    optimiser.narrow("parameter", |tensor| Ok(narrow(tensor)))?;
    optimiser.narrow("another", |_| Err(Error::from(tch::TchError::Kind("unused".into()))))?;
    let mut parameter = narrow(&parameter);
    optimiser.update(
        "parameter",
        &mut parameter,
        &narrow(&gradients[2]),
        &applied(),
        0.01,
        &options,
    )?;

    Tolerance::relative(0.0).check("narrowed", &parameter, &narrow(&whole))?;
    assert_eq!(optimiser.moments()["parameter"].steps, 3);
    assert_eq!(optimiser.moments()["parameter"].first.size(), [2, 2]);
    Ok(())
}

#[test]
fn adamw_with_restored_moments_continues_bit_for_bit() -> TestResult {
    let options = AdamWOptions { beta1: 0.5, ..AdamWOptions::default() };
    let (start, gradients) =
        (from_numbers(&[0.5, -0.5, 0.1, 2.0, -1.0, 0.0], &SHAPE)?, three_gradients()?);
    let (whole, _) = by_this_crate(&start, &gradients, 0.01, &options)?;
    let (mut parameter, stopped) = by_this_crate(&start, &gradients[..2], 0.01, &options)?;

    let mut resumed = AdamW::new();
    for (name, Moments { first, second, steps }) in stopped.moments() {
        let moments = Moments { first: first.copy(), second: second.copy(), steps: *steps };
        resumed.restore(name, moments);
    }
    resumed.update("parameter", &mut parameter, &gradients[2], &applied(), 0.01, &options)?;
    Tolerance::relative(0.0).check("resumed", &parameter, &whole)
}

#[test]
fn adamw_with_two_parameters_keeps_separate_moments() -> TestResult {
    let (options, gradients) = (AdamWOptions::default(), three_gradients()?);
    let start = from_numbers(&[0.5, -0.5, 0.1, 2.0, -1.0, 0.0], &SHAPE)?;
    let (alone, _) = by_this_crate(&start, &gradients, 0.01, &options)?;
    let (mut one, mut other, mut optimiser) = (start.copy(), start.copy(), AdamW::new());
    for gradient in &gradients {
        optimiser.update("one", &mut one, gradient, &applied(), 0.01, &options)?;
        optimiser.update("other", &mut other, &(gradient * 7), &applied(), 0.02, &options)?;
    }
    Tolerance::relative(0.0).check("one of two", &one, &alone)?;
    optimiser.forget("one");
    assert_eq!(optimiser.moments().keys().collect::<Vec<_>>(), ["other"]);
    Ok(())
}

#[test]
fn adamw_with_gradient_or_moments_of_another_shape_is_refused() -> TestResult {
    let (options, gradients) = (AdamWOptions::default(), three_gradients()?);
    let start = from_numbers(&[1.0; SIZE], &SHAPE)?;
    let (mut parameter, mut optimiser) = by_this_crate(&start, &gradients, 0.01, &options)?;
    let before = numbers(&parameter)?;
    let turned = gradients[0].view([3, 2]);
    assert_refused!(
        optimiser.update("parameter", &mut parameter, &turned, &applied(), 0.01, &options),
        Error::Shape { ref name, ref actual, .. } if name == "parameter" && actual == &[3, 2]
    );
    assert_eq!(numbers(&parameter)?, before);
    let mut narrowed = parameter.narrow(0, 0, 1).copy();
    let gradient = gradients[0].narrow(0, 0, 1);
    assert_refused!(
        optimiser.update("parameter", &mut narrowed, &gradient, &applied(), 0.01, &options),
        Error::Shape { ref expected, .. } if expected == &[1, 3]
    );
    assert_eq!(optimiser.moments()["parameter"].steps, 3);
    Ok(())
}

#[test]
fn ema_with_invalid_decay_or_changed_shape_is_refused() -> TestResult {
    for decay in [1.0, -0.1, f64::NAN] {
        assert_refused!(Ema::new(decay), Error::Invalid { .. });
    }
    let mut ema = Ema::new(0.9)?;
    let name = String::from("parameter");
    ema.update([(&name, &from_numbers(&[1.0, 2.0], &[2])?)].into_iter())?;
    let other = from_numbers(&[1.0, 2.0], &[2, 1])?;
    let refused = ema.update([(&name, &other)].into_iter());
    assert_refused!(refused, Error::Shape { ref name, .. } if name == "parameter");
    Ok(())
}

#[test]
fn adamw_skipped_step_moves_neither_parameter_nor_moments() -> TestResult {
    let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    let mut parameter = from_numbers(&[1.0, -2.0, 0.5], &[3])?;
    let gradient = from_numbers(&[0.3, 0.1, -0.2], &[3])?;
    let mut optimiser = AdamW::new();
    optimiser.update("parameter", &mut parameter, &gradient, &applied(), 0.1, &options)?;
    let before = (numbers(&parameter)?, numbers(&optimiser.moments()["parameter"].first)?);
    optimiser.update(
        "parameter",
        &mut parameter,
        &gradient,
        &applied().zeros_like(),
        0.1,
        &options,
    )?;
    let after = (numbers(&parameter)?, numbers(&optimiser.moments()["parameter"].first)?);
    assert_eq!(after, before);
    Ok(())
}
