//! Properties of a PMIM regularizer, on random images and token masks.

use super::runner::{
    drawing, expect_finite, expect_true, failed, gradients, leaf, run, Counterexample, Verdict,
};
use crate::components::PmimRegularizer;
use crate::schedule::LinearRamp;
use crate::tensors::to_host;
use ndarray::{Array2, Array4};
use proptest::collection::vec;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// Schedules of the mask ratio γ between two values in [0, 1).
pub fn mask_ratio_schedules() -> impl Strategy<Value = LinearRamp> {
    (0.0..1.0f64, 0.0..1.0f64, 0..1000u64).prop_map(|(start, end, steps)| LinearRamp {
        start,
        end,
        steps,
    })
}

/// Token masks, `[batch, tokens]`, 1 where masked. Shrink to all visible.
pub fn token_masks(batch: usize, tokens: usize) -> impl Strategy<Value = Array2<f64>> {
    vec(any::<bool>(), batch * tokens).prop_filter_map("a mask a token", move |masked| {
        let numbers = masked.into_iter().map(|masked| f64::from(u8::from(masked))).collect();
        Array2::from_shape_vec((batch, tokens), numbers).ok()
    })
}

/// Images, `[batch, channels, height, width]`, of multiples of 1/16 in [−4, 4]. Shrink to zeros.
pub fn images(
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
) -> impl Strategy<Value = Array4<f64>> {
    let sixteenths = (-64..=64i32).prop_map(|n| f64::from(n) / 16.0);
    vec(sixteenths, batch * channels * height * width)
        .prop_filter_map("a number a pixel", move |numbers| {
            Array4::from_shape_vec((batch, channels, height, width), numbers).ok()
        })
}

/// Images with a prediction of their pixels and a token mask.
#[derive(Debug, Clone)]
pub struct ReconstructionCase {
    /// Images, `[B, C, H, W]`.
    pub images: Array4<f64>,
    /// Predicted pixels, shaped like the images.
    pub prediction: Array4<f64>,
    /// Token mask, `[B, N]`, 1 where masked.
    pub token_mask: Array2<f64>,
    /// Rows of the token grid.
    pub rows: usize,
}

/// Two images of two channels, on token grids of up to 2 × 3 patches of up to 3 pixels a side.
/// Shrink to one patch of zeros.
pub fn reconstructions() -> impl Strategy<Value = ReconstructionCase> {
    (1..=2usize, 1..=3usize, 1..=3usize).prop_flat_map(|(rows, columns, patch)| {
        let images = || images(2, 2, rows * patch, columns * patch);
        (images(), images(), token_masks(2, rows * columns)).prop_map(
            move |(images, prediction, token_mask)| ReconstructionCase {
                images,
                prediction,
                token_mask,
                rows,
            },
        )
    })
}

/// A property of a PMIM regularizer in one case.
pub type PmimProperty = fn(&dyn PmimRegularizer, &ReconstructionCase, Device) -> Verdict;

/// All properties, with their names.
pub const PMIM_PROPERTIES: &[(&str, PmimProperty)] = &[
    ("loss is finite and not negative, gradient is finite", is_finite_and_not_negative),
    ("loss of the target itself is 0", is_zero_on_target),
    ("visible patches change neither loss nor gradient", ignores_visible_patches),
    ("loss above 0 has a gradient", has_a_gradient),
    ("token mask is 0 or 1 for every token", masks_tokens),
];

/// Checks all properties of [`PMIM_PROPERTIES`] on `cases` random inputs each. Reseeds libtorch's
/// generator.
///
/// # Errors
/// The smallest counterexample found, of the first property that does not hold.
pub fn check_pmim_regularizer(
    regularizer: &dyn PmimRegularizer,
    cases: u32,
    device: Device,
) -> Result<(), Counterexample> {
    for (name, property) in PMIM_PROPERTIES {
        run(name, cases, reconstructions(), |case| property(regularizer, &case, device))?;
    }
    Ok(())
}

fn tensor(values: &Array4<f64>, device: Device) -> crate::Result<Tensor> {
    let flat: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let (batch, channels, height, width) = values.dim();
    let shape = [batch, channels, height, width].map(|side| side as i64);
    Ok(Tensor::f_from_slice(&flat)?.f_view(shape)?.f_to_device(device)?)
}

/// Returns the loss of the prediction, or of the target itself with `on_target`, and its gradient.
fn loss_and_gradient(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    on_target: bool,
    device: Device,
) -> Result<(f64, Vec<f64>), TestCaseError> {
    let compute = || -> crate::Result<(f64, Vec<f64>)> {
        let targets = regularizer.targets(&tensor(&case.images, device)?)?;
        let prediction = match on_target {
            true => leaf(&targets)?,
            false => leaf(&tensor(&case.prediction, device)?)?,
        };
        let mask = super::runner::tensor(&case.token_mask, Kind::Float, device)?;
        let loss = regularizer.loss(&targets, &prediction, &mask, case.rows as i64)?;
        let gradient = gradients(&loss, &[&prediction])?;
        Ok((to_host(&loss)?.iter().sum(), to_host(&gradient[0])?))
    };
    compute().map_err(failed)
}

/// The loss is finite and not negative and its gradient is finite, for none, some or all tokens
/// masked.
pub fn is_finite_and_not_negative(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    device: Device,
) -> Verdict {
    let (loss, gradient) = loss_and_gradient(regularizer, case, false, device)?;
    expect_finite("loss", &[loss])?;
    expect_finite("gradient of pixel", &gradient)?;
    prop_assert!(loss >= 0.0, "loss: got {}, expected at least 0", loss);
    Ok(())
}

/// The loss of the target itself is exactly 0.
pub fn is_zero_on_target(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    device: Device,
) -> Verdict {
    let (loss, _) = loss_and_gradient(regularizer, case, true, device)?;
    prop_assert!(loss == 0.0, "loss of the target: got {}, expected 0", loss);
    Ok(())
}

/// Predicted pixels of visible patches do not change the loss, and their gradient is exactly 0.
pub fn ignores_visible_patches(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    device: Device,
) -> Verdict {
    let (before, gradient) = loss_and_gradient(regularizer, case, false, device)?;
    let mut changed = case.clone();
    let (_, _, height, width) = case.images.dim();
    let columns = case.token_mask.ncols() / case.rows;
    let pixels = changed.prediction.indexed_iter_mut().zip(gradient);
    for (((image, channel, row, column), pixel), gradient) in pixels {
        let token = row / (height / case.rows) * columns + column / (width / columns);
        if case.token_mask[(image, token)] == 0.0 {
            let at = (image, channel, row, column);
            prop_assert!(
                gradient == 0.0,
                "gradient of visible pixel {:?}: got {}, expected 0",
                at,
                gradient
            );
            *pixel += 1.0;
        }
    }
    let (after, _) = loss_and_gradient(regularizer, &changed, false, device)?;
    prop_assert!(
        after == before,
        "loss after a change of visible pixels: got {}, expected {}",
        after,
        before
    );
    Ok(())
}

/// A loss above 0 has a gradient in the prediction: without one, a search would not learn to reconstruct.
pub fn has_a_gradient(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    device: Device,
) -> Verdict {
    let (loss, gradient) = loss_and_gradient(regularizer, case, false, device)?;
    let learns = loss == 0.0 || gradient.iter().any(|slope| *slope != 0.0);
    expect_true(learns, || format!("gradient of a loss of {loss}: got 0 for every pixel"))
}

/// The token mask has one number per token of every image, 0 or 1, for mask ratios from 0 to 0.9.
pub fn masks_tokens(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    device: Device,
) -> Verdict {
    let (batch, tokens) = (case.token_mask.nrows() as i64, case.token_mask.ncols() as i64);
    for (seed, ratio) in (0..).zip([0.0, 0.05, 0.25, 0.9]) {
        let mask = drawing(|| {
            crate::randomness::seed(seed);
            regularizer.token_mask(batch, tokens, ratio, device)
        });
        let mask = mask.map_err(failed)?;
        let (actual, expected) = (mask.size(), [batch, tokens]);
        expect_true(actual == expected, || {
            format!("shape of the token mask: got {actual:?}, expected {expected:?}")
        })?;
        for (token, value) in to_host(&mask).map_err(failed)?.into_iter().enumerate() {
            expect_true(value == 0.0 || value == 1.0, || {
                format!("token mask at ratio {ratio}, token {token}: got {value}, expected 0 or 1")
            })?;
        }
    }
    Ok(())
}
