//! Tasks: their losses against sums in f64, and searches that optimise them.

mod support;

use once_for_both::batch::{Batch, Targets};
use once_for_both::components::{
    cross_entropy, Classification, ComponentId, Components, Contrastive, ContrastiveLoss,
    Distillation, FeatureMatching, FunctionTask, Task, TaskInputs,
};
use once_for_both::cost::Budget;
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchBuilder, SearchOptions};
use once_for_both::sensitivity::Calibration;
use once_for_both::strategies::{check_task, TargetsOf};
use once_for_both::subnet::{Export, Subnet};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use proptest::collection::vec;
use proptest::prelude::*;
use support::tiny_run::{self, alone, batch};
use support::{cases_on_device, from_numbers, in_words, numbers, softmax, test_device};
use support::{TestResult, Tolerance};
use tch::{Kind, Reduction, Tensor};

/// Features of an image of the tower below, and texts.
const WIDTH: i64 = 16;
const TEXTS: i64 = 5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn task_loss_of_hard_and_soft_targets_is_the_mean_cross_entropy(
        logits in vec(-3.0..3.0f64, 8),
        classes in [0..4i64, 0..4i64],
        smoothing in 0.0..0.5f64,
    ) {
        let tensor = in_words(from_numbers(&logits, &[2, 4]))?;
        let smooth = |class: i64, other: i64| {
            smoothing / 4.0 + if class == other { 1.0 - smoothing } else { 0.0 }
        };
        let targets: Vec<f64> =
            classes.iter().flat_map(|&class| (0..4).map(move |other| smooth(class, other))).collect();
        let all = [true; 4];
        let log_p = logits.chunks(4).flat_map(|row| softmax(row, &all)).map(f64::ln);
        let expected = -log_p.zip(&targets).map(|(log_p, t)| log_p * t).sum::<f64>() / 2.0;
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        let hard = Targets::Classes(Tensor::from_slice(&classes).to_device(test_device()));
        let soft = Targets::Probabilities(in_words(from_numbers(&targets, &[2, 4]))?);
        for (targets, smoothing) in [(hard, smoothing), (soft, 0.0)] {
            let found = cross_entropy(&tensor, &targets, smoothing, Reduction::Mean)?;
            in_words(close.check_against("task loss", &found, &[expected]))?;
        }
    }
}

/// Embeddings of five texts, of any length.
fn texts() -> TestResult<Tensor> {
    let numbers: Vec<f64> =
        (0..TEXTS * WIDTH).map(|at| ((at * 37 % 23) as f64 - 11.0) / 7.0).collect();
    from_numbers(&numbers, &[TEXTS, WIDTH])
}

fn contrastive(loss: ContrastiveLoss) -> TestResult<Contrastive> {
    Ok(Contrastive::new(&texts()?, 0.5, loss)?)
}

/// A tower whose outputs are features of an image, and its weights.
fn tower() -> TestResult<(VitConfig, Weights)> {
    let vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(WIDTH);
    let dense = Search::training(vit.clone(), 1).device(test_device()).build()?;
    Ok((vit, dense.supernet().raw_weights()))
}

fn search_of(
    (vit, weights): &(VitConfig, Weights),
    task: impl Task + 'static,
    options: SearchOptions,
) -> SearchBuilder<VitConfig> {
    let search = Search::of(vit.clone()).weights(weights).budget(Budget::macs_share(0.6));
    search.options(options).task(task).device(test_device())
}

fn invalid(name: &str) -> Error {
    Error::Invalid { name: name.into(), expected: "one".into(), actual: "none".into() }
}

fn own_task(name: &str) -> FunctionTask {
    FunctionTask::new(name, |inputs: &TaskInputs| {
        cross_entropy(inputs.outputs, &inputs.batch.targets, 0.0, Reduction::Mean)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn contrastive_losses_equal_their_definitions(
        features in vec(-3.0..3.0f64, 2 * WIDTH as usize),
        classes in [0..TEXTS, 0..TEXTS],
    ) {
        let texts = in_words(numbers(&in_words(texts())?))?;
        let unit = |row: &[f64]| {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(|x| x / norm).collect::<Vec<_>>()
        };
        let dot = |l: &[f64], r: &[f64]| l.iter().zip(r).map(|(l, r)| l * r).sum::<f64>();
        let rows = features.chunks(WIDTH as usize).map(unit);
        // Cosines / 0.5.
        let logits: Vec<Vec<f64>> = rows
            .map(|row| texts.chunks(WIDTH as usize).map(|t| dot(&row, &unit(t)) / 0.5).collect())
            .collect();
        let all = [true; TEXTS as usize];
        let soft = |at: usize| -softmax(&logits[at], &all)[classes[at] as usize].ln();
        let bias = -1.5;
        let sigmoid = |at: usize| {
            let pair = |(text, z): (usize, &f64)| {
                let sign = if text as i64 == classes[at] { 1.0 } else { -1.0 };
                (1.0 + (-sign * (z + bias)).exp()).ln()
            };
            logits[at].iter().enumerate().map(pair).sum::<f64>()
        };
        let outputs = in_words(from_numbers(&features, &[2, WIDTH]))?;
        let images = Tensor::zeros([2, 3, 4, 4], (Kind::Float, test_device()));
        let targets = Tensor::from_slice(&classes).to_device(test_device());
        let batch = Batch::classes(images, targets);
        let close = Tolerance { relative: 1e-4, absolute: 1e-5 };
        let inputs = TaskInputs::new(&outputs, &batch);
        for (loss, expected) in [
            (ContrastiveLoss::Softmax, [soft(0), soft(1)]),
            (ContrastiveLoss::Sigmoid { bias }, [sigmoid(0), sigmoid(1)]),
        ] {
            let found = in_words(contrastive(loss))?.losses(&inputs)?;
            in_words(close.check_against("contrastive loss", &found, &expected))?;
        }
    }
}

#[test]
fn check_task_of_every_ready_task_passes() -> TestResult {
    let (cases, device) = (cases_on_device(60), test_device());
    for targets in [TargetsOf::Classes(TEXTS), TargetsOf::Probabilities(TEXTS)] {
        check_task(&Classification, &[TEXTS], targets, cases, device)?;
        for loss in [ContrastiveLoss::Softmax, ContrastiveLoss::Sigmoid { bias: -2.0 }] {
            check_task(&contrastive(loss)?, &[WIDTH], targets, cases, device)?;
        }
    }
    for (outputs, class_token) in [(vec![4, 3], true), (vec![4, 3], false), (vec![3], true)] {
        let task = FeatureMatching { class_token, ..FeatureMatching::default() };
        check_task(&task, &outputs, TargetsOf::Unlabelled, cases, device)?;
    }
    Ok(())
}

#[test]
fn check_task_of_a_task_with_a_mistake_names_the_property() -> TestResult {
    type Loss = fn(&TaskInputs) -> once_for_both::Result<Tensor>;
    let mistakes: [(&str, Loss); 3] = [
        ("other images", |inputs| {
            // Compared with the mean of the batch.
            let mean = inputs.outputs.f_mean_dim([0i64].as_slice(), true, Kind::Float)?;
            let squares = inputs.outputs.f_sub(&mean)?.f_square()?;
            Ok(squares.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?)
        }),
        ("finite gradient", |inputs| {
            let squares = inputs.outputs.f_detach()?.f_square()?;
            Ok(squares.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?)
        }),
        ("inputs only", |inputs| {
            let losses = inputs.outputs.f_select(1, 0)?;
            let _ = inputs.outputs.f_detach()?.f_add_scalar_(1.0)?;
            Ok(losses.f_mul_scalar(1.0)?)
        }),
    ];
    for (expected, loss) in mistakes {
        let task = FunctionTask::new("wrong", loss);
        let found = check_task(&task, &[3], TargetsOf::Unlabelled, 20, test_device());
        let found = found.err().ok_or(format!("{expected}: no counterexample"))?;
        assert!(found.property.contains(expected), "{expected}: {found}");
    }
    let nan = FunctionTask::new(ComponentId::new("nan").with("margin", f64::NAN), |inputs| {
        Ok(inputs.outputs.f_select(1, 0)?)
    });
    let found = check_task(&nan, &[3], TargetsOf::Unlabelled, 5, test_device());
    assert!(found.err().ok_or("no counterexample")?.property.contains("JSON"));
    Ok(())
}

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
fn text_embeddings_that_are_none_are_refused() -> TestResult {
    let new = |texts: &Tensor, temperature| {
        Contrastive::new(texts, temperature, ContrastiveLoss::Softmax)
    };
    let own = texts()?;
    for shape in [vec![0, 4], vec![1, 4], vec![3, 0], vec![4], vec![2, 2, 2]] {
        let refused = new(&Tensor::f_ones(&shape[..], (Kind::Float, test_device()))?, 0.1);
        assert_refused!(refused, Error::Invalid { ref name, .. }
            if name == "shape of the text embeddings");
    }
    assert_refused!(new(&own.f_to_kind(Kind::Int64)?, 0.1), Error::Invalid { ref name, .. }
        if name == "kind of the text embeddings");
    for number in [0.0, f64::NAN, f64::INFINITY] {
        let broken = own.f_detach_copy()?;
        let _ = broken.f_select(0, 2)?.f_fill_(number)?;
        assert_refused!(new(&broken, 0.1), Error::NonFinite { ref name, .. }
            if name == "text embeddings");
    }
    for temperature in [0.0, -1.0, f64::NAN, 1e6] {
        assert_refused!(new(&own, temperature), Error::Invalid { ref name, .. }
            if name == "task.temperature");
    }
    let refused = Contrastive::new(&own, 0.1, ContrastiveLoss::Sigmoid { bias: f64::NAN });
    assert_refused!(refused, Error::Invalid { ref name, .. } if name == "task.bias");
    Ok(())
}

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

#[test]
fn run_and_artifact_store_the_task_and_another_is_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let tower = tower()?;
    let options = || SearchOptions::new(4, 3).seed(1);
    let of = |task: Contrastive| search_of(&tower, task, options());
    let mut search = of(contrastive(ContrastiveLoss::Softmax)?).build()?;
    let mut source = |step| batch(step).map_err(|_| invalid("batch"));
    search.run_in(folder.path())?.train(&mut source)?;
    let resumed = of(contrastive(ContrastiveLoss::Softmax)?).build_or_resume(folder.path())?;
    assert_eq!(resumed.search.steps_done(), 4);
    let others = [
        Contrastive::new(&texts()?.f_add_scalar(1e-3)?, 0.5, ContrastiveLoss::Softmax)?,
        Contrastive::new(&texts()?, 0.4, ContrastiveLoss::Softmax)?,
        contrastive(ContrastiveLoss::Sigmoid { bias: 0.0 })?,
    ];
    for other in others {
        assert_refused!(
            of(other).build_or_resume(folder.path()),
            Error::Component { component: "task", .. }
        );
    }
    // The text embeddings are in no file: the id alone does not make the task.
    let ids = search.components().ids();
    assert_refused!(Components::from_ids(&ids), Error::Component { component: "task", .. });
    let artifact = folder.path().join("subnet");
    let subnet = search.extract(&batch(0)?.images)?;
    subnet.save(&artifact, &Export::default())?;
    let text = std::fs::read_to_string(artifact.join("config.json"))?;
    assert!(text.contains("\"contrastive\""), "{text}");
    Subnet::<VitConfig>::load(&artifact, test_device())?;
    Ok(())
}

#[test]
fn ids_of_tasks_without_tensors_make_the_task_again() -> TestResult {
    let task = FeatureMatching { class_token: false, registers: 4, class_share: 0.3, probe: 0.0 };
    let own = Components { task: std::sync::Arc::new(task), ..Components::default() };
    let json = serde_json::to_string(&own.ids())?;
    assert_eq!(Components::from_ids(&serde_json::from_str(&json)?)?.ids(), own.ids());
    // Files from before there were tasks.
    let mut old = serde_json::to_value(Components::default().ids())?;
    old.as_object_mut().ok_or("no object")?.remove("task");
    let old = Components::from_ids(&serde_json::from_value(old)?)?;
    assert_eq!(old.ids().task, Classification.id());
    let mut wrong = own.ids();
    wrong.task.parameters.insert("probe".into(), 2.0.into());
    assert_refused!(Components::from_ids(&wrong), Error::Invalid { ref name, .. }
        if name == "task.probe");
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
