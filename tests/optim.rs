//! AdamW compared with libtorch's, its moments when they are sliced and restored, and the EMA.

mod support;

use once_for_both::optim::{AdamW, AdamWOptions, AdamWUpdate, Ema, FlatTensors, Layout, Moments};
use once_for_both::Error;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use support::{from_numbers, in_words, numbers, test_device, TestResult, Tolerance};
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

/// Tensors in one buffer, by these names.
fn flat(tensors: &[(&str, &Tensor)]) -> TestResult<FlatTensors> {
    let shapes: Vec<(&str, Vec<i64>)> =
        tensors.iter().map(|(name, tensor)| (*name, tensor.size())).collect();
    let layout = Arc::new(Layout::new(shapes.iter().map(|(name, shape)| (*name, &shape[..]))));
    let find = |name: &str| tensors.iter().find(|(own, _)| *own == name).map(|(_, own)| *own);
    Ok(FlatTensors::gather(&layout, test_device(), |own| find(&own.name))?)
}

/// Updates one parameter, of this name.
fn update(
    optimiser: &mut AdamW,
    (name, parameter): (&str, &mut Tensor),
    gradient: &Tensor,
    go: &Tensor,
    rate: f64,
    options: &AdamWOptions,
) -> TestResult<Result<(), Error>> {
    let flat_parameter = flat(&[(name, parameter)])?;
    let gradient = flat(&[(name, gradient)])?;
    let update = |_: &_| Some(AdamWUpdate { rate, options: *options });
    let done = optimiser.update(&flat_parameter, gradient, go, update);
    *parameter = flat_parameter.get(name)?.ok_or("no parameter")?;
    Ok(done)
}

/// Parameters and optimiser after one step of [`AdamW`] per gradient.
fn by_this_crate(
    start: &Tensor,
    gradients: &[Tensor],
    rate: f64,
    options: &AdamWOptions,
) -> TestResult<(Tensor, AdamW)> {
    let (mut parameter, mut optimiser) = (start.copy(), AdamW::new());
    for gradient in gradients {
        let own = ("parameter", &mut parameter);
        update(&mut optimiser, own, gradient, &applied(), rate, options)??;
    }
    Ok((parameter.detach(), optimiser))
}

/// Moments of the only parameter.
fn moments(optimiser: &AdamW) -> TestResult<&Moments> {
    Ok(optimiser.moments().next().ok_or("no moments")?.1)
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
    optimiser.narrow(|name, tensor| {
        assert_eq!(name, "parameter");
        Ok(narrow(tensor))
    })?;
    let mut parameter = narrow(&parameter);
    let (own, gradient) = (("parameter", &mut parameter), narrow(&gradients[2]));
    update(&mut optimiser, own, &gradient, &applied(), 0.01, &options)??;

    Tolerance::relative(0.0).check("narrowed", &parameter, &narrow(&whole))?;
    let moments = moments(&optimiser)?;
    assert_eq!(moments.steps, 3);
    assert_eq!(moments.first.size(), [2, 2]);
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
    let own = ("parameter", &mut parameter);
    update(&mut resumed, own, &gradients[2], &applied(), 0.01, &options)??;
    Tolerance::relative(0.0).check("resumed", &parameter, &whole)
}

#[test]
fn adamw_with_two_parameters_in_one_buffer_keeps_separate_rates_and_moments() -> TestResult {
    let (options, gradients) = (AdamWOptions::default(), three_gradients()?);
    let other = AdamWOptions { weight_decay: 0.0, ..options };
    let start = from_numbers(&[0.5, -0.5, 0.1, 2.0, -1.0, 0.0], &SHAPE)?;
    let both = flat(&[("one", &start), ("other", &start), ("frozen", &start)])?;
    let mut optimiser = AdamW::new();
    for gradient in &gradients {
        let scaled = gradient * 7;
        let own = flat(&[("one", gradient), ("other", &scaled), ("frozen", gradient)])?;
        optimiser.update(&both, own, &applied(), |segment| match segment.name.as_str() {
            "one" => Some(AdamWUpdate { rate: 0.01, options }),
            "other" => Some(AdamWUpdate { rate: 0.02, options: other }),
            _ => None,
        })?;
    }
    let (alone, _) = by_this_crate(&start, &gradients, 0.01, &options)?;
    let scaled: Vec<Tensor> = gradients.iter().map(|gradient| gradient * 7).collect();
    let (second, _) = by_this_crate(&start, &scaled, 0.02, &other)?;
    let exactly = Tolerance::relative(0.0);
    for (name, expected) in [("one", &alone), ("other", &second), ("frozen", &start)] {
        exactly.check(name, &both.get(name)?.ok_or("no parameter")?, expected)?;
    }
    optimiser.forget("one");
    let names: Vec<&String> = optimiser.moments().map(|(name, _)| name).collect();
    assert_eq!(names, ["other"]);
    Ok(())
}

#[test]
fn adamw_with_gradient_or_moments_of_another_shape_is_refused() -> TestResult {
    let (options, gradients) = (AdamWOptions::default(), three_gradients()?);
    let start = from_numbers(&[1.0; SIZE], &SHAPE)?;
    let (mut parameter, mut optimiser) = by_this_crate(&start, &gradients, 0.01, &options)?;
    let before = numbers(&parameter)?;
    let turned = gradients[0].view([3, 2]);
    let own = ("parameter", &mut parameter);
    assert_refused!(
        update(&mut optimiser, own, &turned, &applied(), 0.01, &options)?,
        Error::Shape { ref name, ref actual, .. } if name == "parameter" && actual == &[3, 2]
    );
    assert_eq!(numbers(&parameter)?, before);
    let mut narrowed = parameter.narrow(0, 0, 1).copy();
    let gradient = gradients[0].narrow(0, 0, 1);
    let own = ("parameter", &mut narrowed);
    assert_refused!(
        update(&mut optimiser, own, &gradient, &applied(), 0.01, &options)?,
        Error::Shape { ref expected, .. } if expected == &[1, 3]
    );
    assert_eq!(moments(&optimiser)?.steps, 3);
    Ok(())
}

#[test]
fn ema_with_invalid_decay_or_changed_shape_is_refused() -> TestResult {
    for decay in [1.0, -0.1, f64::NAN] {
        assert_refused!(Ema::new(decay), Error::Invalid { .. });
    }
    let mut ema = Ema::new(0.9)?;
    ema.update(&[&flat(&[("parameter", &from_numbers(&[1.0, 2.0], &[2])?)])?])?;
    let other = from_numbers(&[1.0, 2.0], &[2, 1])?;
    let refused = ema.update(&[&flat(&[("parameter", &other)])?]);
    assert_refused!(refused, Error::Shape { ref name, .. } if name == "parameter");
    Ok(())
}

#[test]
fn adamw_skipped_step_moves_neither_parameter_nor_moments() -> TestResult {
    let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    let mut parameter = from_numbers(&[1.0, -2.0, 0.5], &[3])?;
    let gradient = from_numbers(&[0.3, 0.1, -0.2], &[3])?;
    let mut optimiser = AdamW::new();
    let own = ("parameter", &mut parameter);
    update(&mut optimiser, own, &gradient, &applied(), 0.1, &options)??;
    let before = (numbers(&parameter)?, numbers(&moments(&optimiser)?.first)?);
    let (own, skipped) = (("parameter", &mut parameter), applied().zeros_like());
    update(&mut optimiser, own, &gradient, &skipped, 0.1, &options)??;
    let after = (numbers(&parameter)?, numbers(&moments(&optimiser)?.first)?);
    assert_eq!(after, before);
    Ok(())
}
