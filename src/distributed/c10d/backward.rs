//! A backward pass that hands over each gradient as soon as it is complete.

use super::raw::ofb_backward;
use super::{check, Result};
use std::ffi::{c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

/// Runs the backward pass of a scalar that has a graph, and calls `ready` with number and gradient of each
/// leaf, as soon as the gradient is complete; not for a leaf that the scalar does not depend on. All
/// leaves are on one device.
pub fn backward<F: FnMut(usize, Tensor) + Send>(
    loss: &Tensor,
    leaves: &[Tensor],
    mut ready: F,
) -> Result<()> {
    /// Hands a gradient over.
    ///
    /// # Safety
    /// `context` points to an `F`, and `gradient` to a tensor that is ours.
    unsafe extern "C" fn hand_over<F: FnMut(usize, Tensor)>(
        context: *mut c_void,
        leaf: c_int,
        gradient: *mut C_tensor,
    ) {
        // SAFETY: see above; the autograd thread of the leaves' device makes the calls one by one, and
        // the owner of the `F` waits meanwhile.
        let (ready, gradient) = unsafe { (&mut *context.cast::<F>(), Tensor::from_ptr(gradient)) };
        ready(leaf as usize, gradient);
    }
    let pointers: Vec<*const C_tensor> = leaves.iter().map(|leaf| leaf.as_ptr()).collect();
    // SAFETY: loss, leaves and `ready` outlive the call, after which the hooks are gone.
    check(unsafe {
        ofb_backward(
            loss.as_ptr(),
            pointers.as_ptr(),
            pointers.len() as c_int,
            (&raw mut ready).cast(),
            hand_over::<F>,
        )
    })
}
