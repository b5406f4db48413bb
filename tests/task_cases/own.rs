//! Tasks whose loss is a function.

use super::{invalid, own_task};
use crate::assert_refused;
use crate::support::tiny_run::{alone, batch};
use crate::support::{numbers, test_device, tiny_run, TestResult};
use once_for_both::batch::{Batch, Targets};
use once_for_both::components::{cross_entropy, FunctionTask};
use once_for_both::Error;
use tch::{Device, Kind, Reduction, Tensor};

#[test]
fn function_without_a_loss_for_the_step_is_refused_by_name() -> TestResult {
    let _alone = alone();
    let options = || tiny_run::options().with(|o| o.pmim = None);
    let gradients = |task: FunctionTask| -> TestResult<_> {
        let search = tiny_run::builder(options(), 0.5).task(task).build()?;
        Ok(search.gradients(&[batch(0)?]))
    };
    let shaped = FunctionTask::new("shaped", |inputs| Ok(inputs.outputs.f_mul_scalar(1.0)?));
    assert_refused!(gradients(shaped)?, Error::Shape { name: ref variable, .. }
        if variable.contains("shaped"));
    let constant =
        FunctionTask::new("constant", |inputs| Ok(inputs.outputs.f_detach()?.f_mean(None)?));
    assert_refused!(gradients(constant)?, Error::Invalid { ref name, .. }
        if name.contains("task loss"));
    // A number that is not finite skips the step.
    let nan = FunctionTask::new("nan", |inputs| {
        Ok(inputs.outputs.f_mean(None)?.f_mul_scalar(f64::NAN)?)
    });
    let options = options().with(|o| o.training.max_skipped_in_a_row = 2);
    let mut search = tiny_run::builder(options, 0.5).task(nan).build()?;
    let mut stopped = Ok(());
    while stopped.is_ok() && !search.is_done() {
        stopped = search.step(&[batch(search.steps_done())?], &mut ());
    }
    assert_refused!(stopped, Error::Diverged { ref first, .. } if first == &["task loss"]);
    Ok(())
}

#[test]
fn values_of_a_batch_reach_the_function_image_by_image() -> TestResult {
    let _alone = alone();
    let task = || {
        FunctionTask::new("regression", |inputs| {
            let Targets::Values(values) = &inputs.batch.targets else {
                return Err(invalid("targets"));
            };
            let squares = inputs.outputs.f_sub(values)?.f_square()?;
            Ok(squares.f_mean_dim([1i64].as_slice(), false, Kind::Float)?)
        })
    };
    // Masked images are a part of the batch of their own.
    let mut search = tiny_run::builder(tiny_run::options(), 0.5).task(task()).build()?;
    for step in 0..3 {
        let values = Tensor::f_ones([6, 5], (Kind::Float, test_device()))?;
        let images = batch(step)?.images;
        search.step(&[Batch { images, targets: Targets::Values(values) }], &mut ())?;
    }
    assert_refused!(search.gradients(&[batch(0)?]), Error::Invalid { ref name, .. }
        if name == "targets");
    Ok(())
}

/// A label out of range is an error on the CPU; elsewhere its loss is NaN, without waiting for the device.
#[test]
fn function_of_the_cross_entropy_with_a_label_out_of_range_makes_no_step() -> TestResult {
    let _alone = alone();
    let options = tiny_run::options().with(|o| o.training.max_skipped_in_a_row = 2);
    let mut search = tiny_run::builder(options, 0.5).task(own_task("own")).build()?;
    let wrong = |step| -> TestResult<Batch> {
        let classes = Tensor::f_from_slice(&[0i64, 1, 2, 3, 4, 5])?.f_to_device(test_device())?;
        Ok(Batch::classes(batch(step)?.images, classes))
    };
    if test_device() == Device::Cpu {
        assert_refused!(search.step(&[wrong(0)?], &mut ()), Error::Invalid { ref name, .. }
            if name == "class index of the targets");
        return Ok(());
    }
    let logits = Tensor::f_zeros([2, 5], (Kind::Float, test_device()))?;
    for (class, outside) in [(4i64, false), (5, true), (-1, true)] {
        let targets =
            Targets::Classes(Tensor::f_from_slice(&[0, class])?.f_to_device(test_device())?);
        let losses = numbers(&cross_entropy(&logits, &targets, 0.0, Reduction::None)?)?;
        assert!(losses[0].is_finite() && losses[1].is_nan() == outside, "{class}: {losses:?}");
        let mean = cross_entropy(&logits, &targets, 0.0, Reduction::Mean)?.f_double_value(&[])?;
        assert_eq!(mean.is_nan(), outside, "{class}");
    }
    let mut stopped = Ok(());
    while stopped.is_ok() && !search.is_done() {
        stopped = search.step(&[wrong(search.steps_done())?], &mut ());
    }
    assert_refused!(stopped, Error::Diverged { ref first, .. } if first == &["task loss"]);
    Ok(())
}
