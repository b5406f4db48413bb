//! `modules.*`, kind `pmim`: windowed targets, reconstruction loss and its gradient.

use super::modules::{Case, Modules};
use crate::support::{
    gradients, leaf, load_json, load_tensors, run_cases, tensor, Tensors, TestResult, Tolerance,
};
use once_for_both::components::{PmimRegularizer, WindowedPixels};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct PmimCase {
    name: String,
    image: i64,
    window: i64,
    patch: i64,
}

/// Pixels are differences, and E[x²] − μ² cancels, here and in the reference: a share of the
/// largest of each tensor.
const PIXELS: f64 = 1e-5;

fn run(case: &PmimCase, tensors: &Tensors) -> TestResult {
    let stored = |field: &str| tensor(tensors, &format!("{}.{field}", case.name));
    let close = |field: &str, actual: &tch::Tensor| -> TestResult {
        let expected = stored(field)?;
        Tolerance::of_scale(PIXELS, expected)?.check(field, actual, expected)
    };
    let (images, pred) = (stored("images")?, leaf(stored("pred")?));
    let (_, _, height, width) = images.size4()?;
    if [height, width] != [case.image; 2] {
        return Err(format!("images are {height}×{width}, the JSON says {}", case.image).into());
    }
    let pixels = WindowedPixels::new(case.window)?;
    let targets = pixels.targets(images)?;
    close("targets", &targets)?;
    let loss = pixels.loss(&targets, &pred, stored("token_mask")?, case.image / case.patch)?;
    close("loss", &loss.view([1]))?;
    close("grad_pred", &gradients(&loss, &[&pred])?[0])
}

#[test]
fn targets_loss_and_gradient() -> TestResult {
    let (modules, tensors): (Modules, _) = (load_json("modules")?, load_tensors("modules")?);
    let cases = modules.cases.iter().filter_map(|case| match case {
        Case::Pmim(case) => Some(case),
        Case::Flat { .. } | Case::Grid { .. } => None,
    });
    run_cases(cases, |case| case.name.clone(), |case| run(case, &tensors));
    Ok(())
}
