//! Autograd mode of the thread, and backward passes.
//!
//! `tch::no_grad` and `tch::with_grad` leave the mode changed where the closure panics, and a
//! backward pass from a tensor without a graph is undefined behaviour in libtorch. Every part of
//! this crate that differentiates, or must not, goes through this module.

use crate::{Error, Result};
use std::borrow::Borrow;
use tch::Tensor;

/// Runs `run` without autograd. The mode is restored afterwards, also where `run` panics.
pub(crate) fn no_grad<T>(run: impl FnOnce() -> T) -> T {
    let _restored = tch::no_grad_guard();
    run()
}

/// Runs `run` with autograd, whatever the mode was. It is restored afterwards, also where `run`
/// panics.
pub(crate) fn with_grad<T>(run: impl FnOnce() -> T) -> T {
    // The guard knows the mode before: tch::with_grad restores none after a panic.
    let _restored = tch::no_grad_guard();
    tch::with_grad(run)
}

/// Returns the gradients of the scalar `loss` in each of `inputs`; an undefined tensor where the
/// loss does not depend on one.
///
/// # Errors
/// [`Error::Invalid`] naming `loss_name` if the loss has no graph: it depends on no parameter, or was
/// computed without autograd.
pub(crate) fn gradients<T: Borrow<Tensor>>(
    loss_name: &str,
    loss: &Tensor,
    inputs: &[T],
    keep_graph: bool,
) -> Result<Vec<Tensor>> {
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    expect_graph(loss_name, loss)?;
    Ok(Tensor::f_run_backward(&[loss], inputs, keep_graph, false)?)
}

/// Refuses a loss without a graph: a backward pass from it is undefined behaviour.
pub(crate) fn expect_graph(name: &str, loss: &Tensor) -> Result<()> {
    if loss.defined() && loss.requires_grad() {
        return Ok(());
    }
    let expected =
        "one that depends on the parameters by operations that autograd records; return it \
                    without detaching it";
    Err(Error::invalid(name, expected, "a loss without gradient"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use tch::{Device, Kind};

    fn records() -> bool {
        let leaf = Tensor::zeros([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        (leaf + 1.0).requires_grad()
    }

    #[test]
    fn mode_after_a_panic_is_that_before() {
        assert!(catch_unwind(|| no_grad(|| panic!("of a component"))).is_err());
        assert!(records());
        no_grad(|| {
            assert!(catch_unwind(|| with_grad(|| panic!("of a component"))).is_err());
            assert!(!records());
            assert!(with_grad(records));
            assert!(!records());
        });
        assert!(records());
    }

    #[test]
    fn gradient_of_a_loss_without_graph_is_refused() {
        let leaf = Tensor::zeros([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let refused = gradients("task loss", &leaf.detach(), &[&leaf], false);
        assert!(matches!(refused, Err(Error::Invalid { name, .. }) if name == "task loss"));
    }
}
