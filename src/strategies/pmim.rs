//! Images and hidden tokens, and what a reconstruction loss has to be.

use super::checks::{expect_finite, failed, gradients, leaf, run, Counterexample, Verdict};
use crate::components::PmimRegularizer;
use crate::schedule::LinearRamp;
use crate::tensors::to_host;
use ndarray::{Array2, Array4};
use proptest::collection::vec;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// Mask ratio schedules between any two ends.
pub fn mask_ratio_schedules() -> impl Strategy<Value = LinearRamp> {
    (0.0..1.0f64, 0.0..1.0f64, 0..1000u64).prop_map(|(start, end, steps)| LinearRamp {
        start,
        end,
        steps,
    })
}

/// `[batch, tokens]`, 1 where hidden. Shrinks to nothing hidden.
pub fn token_masks(batch: usize, tokens: usize) -> impl Strategy<Value = Array2<f64>> {
    vec(any::<bool>(), batch * tokens).prop_filter_map("a mask a token", move |hidden| {
        let numbers = hidden.into_iter().map(|hidden| f64::from(u8::from(hidden))).collect();
        Array2::from_shape_vec((batch, tokens), numbers).ok()
    })
}

/// `[batch, channels, height, width]` of sixteenths within ±4. Shrinks to zeros.
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

/// Images with a prediction and hidden tokens.
#[derive(Debug, Clone)]
pub struct ReconstructionCase {
    /// `[B, C, H, W]`.
    pub images: Array4<f64>,
    /// Like the images.
    pub prediction: Array4<f64>,
    /// `[B, N]`, 1 where hidden.
    pub token_mask: Array2<f64>,
    /// Rows of the token grid.
    pub rows: usize,
}

/// Two images of two channels, on token grids of up to 2 × 3 patches of up to 3 pixels a side.
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

/// A property of a reconstruction loss in one case.
pub type PmimProperty = fn(&dyn PmimRegularizer, &ReconstructionCase, Device) -> Verdict;

/// All properties, with their names.
pub const PMIM_PROPERTIES: &[(&str, PmimProperty)] = &[
    ("loss and gradient finite, loss not negative", is_finite_and_not_negative),
    ("painting the target costs nothing", costs_nothing_on_target),
    ("visible patches have no say", ignores_visible_patches),
];

/// Tries all properties on `cases` random inputs each.
///
/// # Errors
/// The smallest counterexample found, of the first property that breaks.
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

/// The loss of a prediction (of the target itself if `None`) and its gradient.
fn loss_and_gradient(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    exact: bool,
    device: Device,
) -> Result<(f64, Vec<f64>), TestCaseError> {
    let compute = || -> crate::Result<(f64, Vec<f64>)> {
        let targets = regularizer.targets(&tensor(&case.images, device)?)?;
        let prediction =
            leaf(&if exact { targets.shallow_clone() } else { tensor(&case.prediction, device)? })?;
        let hidden = super::checks::tensor(&case.token_mask, Kind::Float, device)?;
        let loss = regularizer.loss(&targets, &prediction, &hidden, case.rows as i64)?;
        let gradient = gradients(&loss, &[&prediction])?;
        Ok((to_host(&loss)?.iter().sum(), to_host(&gradient[0])?))
    };
    compute().map_err(failed)
}

/// Whatever is hidden, nothing or everything.
pub fn is_finite_and_not_negative(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    device: Device,
) -> Verdict {
    let (loss, gradient) = loss_and_gradient(regularizer, case, false, device)?;
    expect_finite("loss", &[loss])?;
    expect_finite("gradient of pixel", &gradient)?;
    prop_assert!(loss >= 0.0, "the loss is {}", loss);
    Ok(())
}

/// The loss of the target itself is 0.
pub fn costs_nothing_on_target(
    regularizer: &dyn PmimRegularizer,
    case: &ReconstructionCase,
    device: Device,
) -> Verdict {
    let (loss, _) = loss_and_gradient(regularizer, case, true, device)?;
    prop_assert!(loss == 0.0, "the loss of the target is {}", loss);
    Ok(())
}

/// Pixels of visible patches change nothing, and have no gradient.
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
            prop_assert!(gradient == 0.0, "visible pixel {:?} has the gradient {}", at, gradient);
            *pixel += 1.0;
        }
    }
    let (after, _) = loss_and_gradient(regularizer, &changed, false, device)?;
    prop_assert!(after == before, "from {} to {} by visible pixels", before, after);
    Ok(())
}
