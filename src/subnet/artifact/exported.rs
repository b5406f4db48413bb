//! Verification of exported files.

use crate::error::During;
use crate::models::Architecture;
use crate::subnet::verify::{difference, within, TOLERANCE};
use crate::subnet::{Precision, Subnet};
use crate::{Error, Result};
use tch::{CModule, Tensor};

/// Returns the largest absolute difference of a logit between a TorchScript archive and the subnet,
/// on all `images` and on the first alone.
///
/// # Errors
/// [`Error::Verification`] if it exceeds 1e-5 of the largest logit in f32, or 8 ε in f16 and bf16;
/// [`Error::Shape`] for logits of another shape.
pub(super) fn of_export<A: Architecture>(
    script: &[u8],
    subnet: &Subnet<A>,
    images: &Tensor,
) -> Result<f64> {
    let module = CModule::load_data_on_device(&mut &script[..], subnet.device())
        .map_err(Error::from)
        .during("loading the TorchScript archive before it is written")?;
    let tolerance = match subnet.precision() {
        Precision::F32 => TOLERANCE,
        // Both run the same operations, so that few roundings differ.
        half => 8.0 * half.epsilon(),
    };
    let mut worst: f64 = 0.0;
    for batch in [images.shallow_clone(), images.f_narrow(0, 0, 1)?] {
        let actual = crate::autograd::no_grad(|| module.forward_ts(&[&batch]))?;
        let (difference, scale) = difference(&subnet.predict(&batch)?, &actual)?;
        let allowed = tolerance * scale;
        if !within(difference, allowed) {
            let (what, reference) = ("the exported file", "the subnet");
            let (begins, advice) = (None, None);
            return Err(Error::Verification {
                what,
                reference,
                difference,
                allowed,
                begins,
                advice,
            });
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}
