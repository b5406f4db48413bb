//! Verification of the files for other programs.

use crate::error::During;
use crate::models::Architecture;
use crate::subnet::verify::{difference, within, TOLERANCE};
use crate::subnet::{Precision, Subnet};
use crate::{Error, Result};
use tch::{CModule, Tensor};

/// Runs a TorchScript archive on all `images` and on the first alone.
///
/// # Errors
/// [`Error::Verification`] if a logit differs by more than rounding explains.
pub(super) fn of_export<A: Architecture>(
    script: &[u8],
    subnet: &Subnet<A>,
    images: &Tensor,
) -> Result<f64> {
    let module = CModule::load_data_on_device(&mut &script[..], subnet.device())
        .map_err(Error::from)
        .during("loading of the TorchScript to be written")?;
    let tolerance = match subnet.precision() {
        Precision::F32 => TOLERANCE,
        // The operations are the same, so a few roundings are a lot.
        half => 8.0 * half.epsilon(),
    };
    let mut worst: f64 = 0.0;
    for batch in [images.shallow_clone(), images.f_narrow(0, 0, 1)?] {
        let actual = tch::no_grad(|| module.forward_ts(&[&batch]))?;
        let (difference, scale) = difference(&subnet.predict(&batch)?, &actual)?;
        let allowed = tolerance * scale;
        if !within(difference, allowed) {
            let (what, reference) = ("the exported file", "the network it was made from");
            return Err(Error::Verification { what, reference, difference, allowed, begins: None });
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}
