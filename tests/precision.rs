//! What libtorch's kernels accumulate in for bf16 inputs, on `OFB_TEST_DEVICE`: docs/guide.md, "Precision on a
//! card", says f32. In each test the sums have terms that a sum in bf16 (8 significant bits) would lose.

mod support;

use support::tiny_run::alone;
use support::{test_device, TestResult, Tolerance};
use tch::{Device, Kind, Tensor};

/// Distance of neighbouring bf16 numbers, relative: a result that was rounded to bf16 once.
const ONE_ROUNDING: f64 = 1.0 / 256.0;

/// More terms than bf16 counts in steps of one: 256 + 1 = 256.
const TERMS: i64 = 4096;

fn bf16(tensor: &Tensor) -> TestResult<Tensor> {
    Ok(tensor.f_to_kind(Kind::BFloat16)?)
}

fn normal(shape: &[i64]) -> TestResult<Tensor> {
    let _alone = alone();
    once_for_both::randomness::seed(7);
    // Drawn on the CPU, so that every device gets the same numbers.
    bf16(&Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?.f_to_device(test_device())?)
}

/// Compares a result of bf16 inputs with the result of the same numbers in f32.
fn check(name: &str, half: &Tensor, full: &Tensor, relative: f64) -> TestResult {
    assert_eq!(half.kind(), Kind::BFloat16, "{name}");
    let close = Tolerance { relative, absolute: relative };
    close.check(name, &half.f_to_kind(Kind::Float)?, full)?;
    Ok(())
}

#[test]
fn layer_norm_of_bf16_has_f32_mean_and_variance() -> TestResult {
    // The mean, 100, has to be taken exactly to leave deviations of one.
    let x = bf16(&normal(&[3, TERMS])?.f_add_scalar(100.0)?)?;
    let (scale, shift) = (normal(&[TERMS])?, normal(&[TERMS])?);
    let norm = |kind| {
        let [x, scale, shift] = [&x, &scale, &shift].map(|tensor| tensor.to_kind(kind));
        x.f_layer_norm([TERMS], Some(&scale), Some(&shift), 1e-6, true)
    };
    check("layer norm", &norm(Kind::BFloat16)?, &norm(Kind::Float)?, ONE_ROUNDING)
}

#[test]
fn softmax_of_bf16_has_an_f32_sum() -> TestResult {
    let x = normal(&[3, TERMS])?;
    let full = x.f_to_kind(Kind::Float)?.f_softmax(-1, None)?;
    // Probabilities are about 1/4096: the tolerance is relative to them.
    let scaled = |p: &Tensor| p.f_mul_scalar(TERMS as f64);
    check("softmax", &scaled(&x.f_softmax(-1, None)?)?, &scaled(&full)?, ONE_ROUNDING)
}

#[test]
fn attention_in_bf16_has_f32_logits_and_sums() -> TestResult {
    let [q, k, v] = [(); 3].map(|()| normal(&[1, 2, 512, 64]));
    let (q, k, v) = (q?, k?.f_flip([2])?, v?.f_abs()?);
    let attend = |kind| {
        let [q, k, v] = [&q, &k, &v].map(|tensor| tensor.to_kind(kind));
        let none = None::<Tensor>;
        Tensor::f_scaled_dot_product_attention(&q, &k, &v, none, 0.0, false, 0.125, false)
    };
    // Fused kernels round the probabilities to bf16 before they multiply v: two roundings.
    check("attention", &attend(Kind::BFloat16)?, &attend(Kind::Float)?, 2.0 * ONE_ROUNDING)
}

#[test]
fn linear_in_bf16_has_f32_sums() -> TestResult {
    let ones = Tensor::f_ones([4, TERMS], (Kind::BFloat16, test_device()))?;
    let full = ones.f_to_kind(Kind::Float)?;
    let none = None::<Tensor>;
    let product = ones.f_linear(&ones, none.as_ref())?;
    check("linear", &product, &full.f_linear(&full, none.as_ref())?, ONE_ROUNDING)
}
