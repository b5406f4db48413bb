//! A backward pass that hands over each gradient as soon as it is complete.

use super::c10d;
use crate::{Error, Result};
use tch::{TchError, Tensor};

/// Runs the backward pass of a scalar that has a graph, and calls `ready` with number and gradient of each
/// leaf, as soon as the gradient is complete; not for a leaf that the scalar does not depend on. All
/// leaves are on one device.
///
/// # Errors
/// [`Error::Torch`] if libtorch fails.
pub(crate) fn backward(
    loss: &Tensor,
    leaves: &[Tensor],
    ready: impl FnMut(usize, Tensor) + Send,
) -> Result<()> {
    c10d::backward(loss, leaves, ready).map_err(|reason| Error::Torch {
        operation: "the backward pass".into(),
        source: TchError::Torch(reason),
    })
}
