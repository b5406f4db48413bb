//! Searches and measurements of tasks.

use super::{contrastive, own_task, search_of, tower, TEXTS, WIDTH};
use crate::assert_refused;
use crate::support::tiny_run::{alone, batch};
use crate::support::{numbers, test_device, tiny_run, TestResult, Tolerance};
use once_for_both::batch::{Batch, Targets};
use once_for_both::components::{
    ComponentId, ContrastiveLoss, Distillation, DistillationKind, FeatureMatching, FunctionTask,
    Task, TaskInputs, Teacher, TeacherSource,
};
use once_for_both::cost::Budget;
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchOptions};
use once_for_both::sensitivity::Calibration;
use once_for_both::subnet::Subnet;
use once_for_both::Error;
use tch::{Kind, Tensor};

#[test]
fn function_with_the_cross_entropy_makes_the_steps_of_classification() -> TestResult {
    let _alone = alone();
    let options = || tiny_run::options().with(|o| o.training.distillation = None);
    let run = |task: Option<FunctionTask>| -> TestResult<Vec<f64>> {
        let builder = tiny_run::builder(options(), 0.5);
        let builder = match task {
            Some(task) => builder.task(task),
            None => builder,
        };
        let mut search = builder.build()?;
        tiny_run::run(&mut search, 4)?;
        numbers(&search.supernet().raw_weights()["blocks.1.mlp.fc1.weight"])
    };
    assert_eq!(run(Some(own_task("own")))?, run(None)?);
    Ok(())
}

#[test]
fn contrastive_tower_is_searched_without_labels_and_with_them() -> TestResult {
    let _alone = alone();
    let tower = tower()?;
    for loss in [ContrastiveLoss::Softmax, ContrastiveLoss::Sigmoid { bias: -2.0 }] {
        let options = SearchOptions::new(8, 4).with(|o| {
            let distillation = Distillation::dense();
            o.training.distillation = Some(distillation);
            if let Some(own) = &mut o.training.distillation {
                own.weight = 1.0;
            }
        });
        let mut search = search_of(&tower, contrastive(loss)?, options).build()?;
        let images = batch(0)?.images;
        // The student is the teacher.
        let first = search.gradients(&[Batch::unlabelled(images.shallow_clone())])?;
        assert!(first.losses.task.double_value(&[]).abs() < 1e-4);
        for step in 0..8 {
            search.step(&[Batch::unlabelled(batch(step)?.images)], &mut ())?;
        }
        let subnet = search.extract(&images)?;
        assert_eq!(subnet.predict(&images)?.size(), [6, WIDTH]);
        // Texts as classes, images with masked tokens, soft targets, bf16.
        let labelled = SearchOptions::learned(4, 3).with(|o| {
            o.training.precision = Precision::Bf16;
            o.training.label_smoothing = 0.1;
            o.training.accumulate = 2;
        });
        let mut search = search_of(&tower, contrastive(loss)?, labelled).build()?;
        for step in 0..4 {
            let Batch { images, targets } = batch(step)?;
            let Targets::Classes(classes) = &targets else { return Err("classes".into()) };
            let soft = classes.one_hot(TEXTS).to_kind(Kind::Float);
            let soft = Targets::Probabilities(soft);
            let soft = Batch { images: images.shallow_clone(), targets: soft };
            search.step(&[Batch { images, targets }, soft], &mut ())?;
        }
        assert_eq!(search.steps_done(), 4);
        let found = search.gradients(&[batch(9)?])?.losses.task.double_value(&[]);
        assert!(found.is_finite() && found > 0.0, "{found}");
    }
    Ok(())
}

#[test]
fn outputs_and_targets_that_do_not_fit_the_task_are_refused() -> TestResult {
    let _alone = alone();
    let task = || contrastive(ContrastiveLoss::Softmax);
    let options = || SearchOptions::learned(8, 4).with(|o| o.pmim = None);
    let search = search_of(&tower()?, task()?, options()).build()?;
    let none = search.gradients(&[Batch::unlabelled(batch(0)?.images)]);
    assert_refused!(none, Error::Invalid { ref name, ref actual, .. }
        if name == "targets of the task loss" && actual == "none");
    let many = Tensor::f_zeros([6, 7], (Kind::Float, test_device()))?;
    let many = Batch { images: batch(0)?.images, targets: Targets::Probabilities(many) };
    assert_refused!(search.gradients(&[many]), Error::Shape { .. });
    // A network of other outputs than the texts have channels.
    let classes = tiny_run::builder(options(), 0.5).task(task()?).build()?;
    assert_refused!(classes.gradients(&[batch(0)?]), Error::Shape { name: ref variable, .. }
        if variable == "features of the images");
    // Values of another number than the images.
    let values = Tensor::f_zeros([5, 2], (Kind::Float, test_device()))?;
    let values = Batch { images: batch(0)?.images, targets: Targets::Values(values) };
    assert_refused!(search.gradients(&[values]), Error::Invalid { ref name, ref expected, .. }
        if name == "shape of the targets" && expected == "[6, …]");
    Ok(())
}

#[test]
fn calibration_measures_the_loss_of_a_task() -> TestResult {
    let _alone = alone();
    let tower = tower()?;
    let options = SearchOptions::new(8, 4);
    let mut search = search_of(&tower, contrastive(ContrastiveLoss::Softmax)?, options).build()?;
    let batches = [batch(0)?];
    let task = contrastive(ContrastiveLoss::Softmax)?;
    let found = search.evaluate(|net| Calibration::task(&batches, &task).measure(net))?;
    let outputs =
        Subnet::new(tower.0.clone(), &tower.1, test_device())?.predict(&batches[0].images)?;
    let expected = task.loss(&TaskInputs::new(&outputs, &batches[0]))?.double_value(&[]);
    Tolerance::relative(1e-4).check_number("loss", found.loss, expected)?;
    // The target of feature matching is the network before pruning.
    let features = FeatureMatching::default();
    let found = search.evaluate(|net| Calibration::task(&batches, &features).measure(net))?;
    assert_eq!(found.loss, 0.0);
    assert!(found.dimensions[0].candidates[0].rise.mean > 0.0);
    let scalar = own_task("scalar");
    let refused = search.evaluate(|net| Calibration::task(&batches, &scalar).measure(net));
    assert_refused!(refused, Error::Shape { name: ref variable, .. } if variable.contains("one an image"));
    Ok(())
}

/// Refuses the outputs of a teacher, which a task without one is not given.
#[test]
fn calibration_gives_the_teacher_to_tasks_with_a_target_alone() -> TestResult {
    let _alone = alone();
    let tower = tower()?;
    let task = || {
        FunctionTask::new("own", |inputs| {
            let features = inputs.outputs.f_mean_dim([1i64].as_slice(), false, None)?;
            let taught = if inputs.teacher.is_some() { 1.0 } else { 0.0 };
            Ok(features.f_mul_scalar(0.0)?.f_add_scalar(taught)?)
        })
    };
    let search = search_of(&tower, task(), SearchOptions::learned(8, 4).with(|o| o.pmim = None));
    let mut search = search.build()?;
    let batches = [batch(0)?];
    for (task, expected) in [(task(), 0.0), (task().with_teacher(), 1.0)] {
        let found = search.evaluate(|net| Calibration::task(&batches, &task).measure(net))?;
        assert_eq!(found.loss, expected);
    }
    Ok(())
}

#[test]
fn reconstruction_beside_a_negative_task_loss_is_minimised() -> TestResult {
    let _alone = alone();
    // The loss −1 has no gradient of its own, so the decoder's is that of w_rec·reconstruction.
    let gradient = |value: f64| -> TestResult<Vec<f64>> {
        let task = FunctionTask::new("constant", move |inputs| {
            Ok(inputs.outputs.f_mean(Kind::Float)?.f_mul_scalar(0.0)?.f_add_scalar(value)?)
        });
        let options = tiny_run::options().with(|o| o.training.distillation = None);
        let mut search = tiny_run::builder(options, 0.5).task(task).build()?;
        // Images are masked from the second step.
        tiny_run::run(&mut search, 2)?;
        let gradients = search.gradients(&[batch(2)?])?;
        assert!(gradients.losses.reconstruction.is_some());
        numbers(&gradients.parameters()?["patch_embed.proj.weight"])
    };
    let (positive, negative) = (gradient(1.0)?, gradient(-1.0)?);
    assert!(positive.iter().any(|g| *g != 0.0));
    assert_eq!(positive, negative);
    Ok(())
}

/// A teacher of 5 outputs that are all 1.
struct Ones;

impl Teacher for Ones {
    fn id(&self) -> ComponentId {
        ComponentId::new("ones")
    }

    fn logits(&self, images: &Tensor) -> once_for_both::Result<Tensor> {
        Ok(Tensor::f_ones([images.size()[0], 5], (Kind::Float, images.device()))?)
    }
}

#[test]
fn both_heads_of_a_distilled_network_learn_a_target_of_either_teacher() -> TestResult {
    let _alone = alone();
    let vit = tiny_run::vit().distilled();
    let dense = Search::training(vit.clone(), 1).device(test_device()).build()?;
    let weights = dense.supernet().raw_weights();
    for teacher in [TeacherSource::Component, TeacherSource::Dense] {
        let task = FunctionTask::new("distance", |inputs| {
            let target = inputs.expect_teacher()?.f_add_scalar(0.1)?;
            Ok(inputs.outputs.f_sub(&target)?.f_square()?.f_mean(Kind::Float)?)
        });
        let options = SearchOptions::learned(8, 4).with(|o| {
            let mut own = Distillation::new(DistillationKind::Hard, 0.5);
            own.teacher = teacher;
            o.training.distillation = Some(own);
        });
        let search = Search::of(vit.clone()).weights(&weights).budget(Budget::macs_share(0.6));
        let search = search.options(options).task(task.with_teacher()).teacher(Ones);
        let gradients = search.device(test_device()).build()?.gradients(&[batch(0)?])?;
        for head in ["head.weight", "head_dist.weight"] {
            let own = numbers(&gradients.parameters()?[head])?;
            assert!(own.iter().any(|g| *g != 0.0), "{head} of {teacher:?}");
        }
    }
    Ok(())
}
