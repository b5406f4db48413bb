//! Networks of features instead of classes: searched without labels, with the dense network as target.

mod support;

use once_for_both::batch::{Batch, Targets};
use once_for_both::components::{
    Classification, Distillation, DistillationKind, FeatureMatching, Task, TaskInputs,
    TeacherSource,
};
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, Pooling, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::search::{AlphaInit, Search, SearchBuilder, SearchOptions};
use once_for_both::subnet::{Subnet, SubnetTeacher};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use support::tiny_run::{alone, batch};
use support::{from_numbers, numbers, test_device, TestResult, Tolerance};
use tch::{Kind, Tensor};

const WIDTH: i64 = 32;
const TASK: FeatureMatching =
    FeatureMatching { class_token: true, class_share: 0.5, registers: 0, probe: 0.01 };

/// A ViT whose head is the identity, on every token.
fn dense() -> TestResult<(VitConfig, Weights)> {
    let vit = VitConfig::uniform(WIDTH, 2, 4).input(16, 3, 4).classes(WIDTH);
    let vit = vit.layer_scale(0.5).pooling(Pooling::Tokens);
    let search = Search::of(vit.clone()).options(SearchOptions::training(1)).device(test_device());
    let mut weights = search.build()?.supernet().raw_weights();
    let options = (Kind::Float, test_device());
    weights.insert("head.weight".into(), Tensor::f_eye(WIDTH, options)?);
    Ok((vit, weights))
}

/// A search whose target is the dense network itself.
fn builder(
    (vit, weights): &(VitConfig, Weights),
    options: SearchOptions,
    task: impl Task + 'static,
) -> SearchBuilder<VitConfig> {
    let options = options.with(|o| o.training.distillation = Some(Distillation::dense()));
    let search = Search::of(vit.clone()).weights(weights).budget(Budget::macs_share(0.6));
    search.options(options).task(task).device(test_device())
}

fn unlabelled(step: u64) -> TestResult<Batch> {
    Ok(Batch::unlabelled(batch(step)?.images))
}

#[test]
fn relative_error_equals_its_definition() -> TestResult {
    // Two images of three tokens of two channels.
    let teacher = [1.0, 0.0, 0.0, 2.0, 3.0, 4.0, 2.0, 1.0, 0.0, 0.0, 1.0, 1.0];
    let student = [1.0, 1.0, 0.0, 1.0, 3.0, 4.0, 1.0, 1.0, 0.0, 0.0, 1.0, 3.0];
    // ‖s − t‖²/‖t‖² of every token.
    let errors = [[1.0, 0.25, 0.0], [0.2, 0.0, 2.0]];
    let [t, s] = [from_numbers(&teacher, &[2, 3, 2])?, from_numbers(&student, &[2, 3, 2])?];
    let close = Tolerance::relative(1e-6);
    let batch = Batch::unlabelled(Tensor::f_zeros([2, 3, 4, 4], (Kind::Float, test_device()))?);
    let loss = |task: FeatureMatching, s: &Tensor, t: &Tensor| -> TestResult<[f64; 2]> {
        let inputs = TaskInputs::new(s, &batch).with_teacher(t);
        let of_images = numbers(&task.losses(&inputs)?)?;
        Ok([task.loss(&inputs)?.double_value(&[]), of_images.iter().sum::<f64>() / 2.0])
    };
    for (class_share, registers) in [(0.0, 0), (0.3, 0), (1.0, 0), (0.4, 1)] {
        let task = FeatureMatching { class_share, registers, ..TASK };
        let others = |e: &[f64; 3]| if registers == 1 { e[2] } else { (e[1] + e[2]) / 2.0 };
        let image = |e: &[f64; 3]| class_share * e[0] + (1.0 - class_share) * others(e);
        let expected = errors.iter().map(image).sum::<f64>() / 2.0;
        for found in loss(task, &s, &t)? {
            close.check_number("features of tokens", found, expected)?;
        }
        // Features of images have no class token.
        for found in loss(task, &s.select(1, 0), &t.select(1, 0))? {
            close.check_number("features of images", found, (1.0 + 0.2) / 2.0)?;
        }
    }
    for (registers, expected) in [(0, (1.25 + 2.2) / 3.0), (1, (0.125 + 1.0)), (2, 2.0)] {
        let task = FeatureMatching { class_token: false, registers, ..TASK };
        let found = loss(task, &s, &t)?[0];
        close.check_number("features without a class token", found, expected / 2.0)?;
    }
    let many = FeatureMatching { registers: 2, ..TASK };
    let inputs = TaskInputs::new(&s, &batch);
    assert_refused!(many.loss(&inputs.with_teacher(&t)), Error::Invalid { name, actual, .. }
        if name.contains("tokens of the outputs") && actual == "3");
    assert_refused!(TASK.loss(&inputs), Error::Invalid { name, .. }
        if name == "outputs of the teacher of the task");
    let grid = |own: &Tensor| own.f_reshape([2, 1, 3, -1]);
    let (s_grid, t_grid) = (grid(&s)?, grid(&t)?);
    let inputs_of_grid = TaskInputs::new(&s_grid, &batch).with_teacher(&t_grid);
    assert_refused!(TASK.losses(&inputs_of_grid), Error::Invalid { name, expected, .. }
        if name == "shape of the features of the task" && expected.contains("flatten"));
    let other = t.f_narrow(1, 0, 2)?;
    assert_refused!(TASK.loss(&inputs.with_teacher(&other)), Error::Shape { .. });
    Ok(())
}

#[test]
fn cost_of_a_head_on_every_token_counts_all_tokens() -> TestResult {
    let tokens = VitConfig::uniform(WIDTH, 2, 4).input(16, 3, 4).classes(7);
    let class = tokens.clone();
    let cost = |vit: VitConfig, metric| vit.cost_model().dense_cost(metric);
    let tokens = tokens.pooling(Pooling::Tokens);
    let more = cost(tokens.clone(), Metric::Macs)? - cost(class.clone(), Metric::Macs)?;
    assert_eq!(more, (16 * 7 * WIDTH) as f64);
    assert_eq!(cost(tokens, Metric::Params)?, cost(class, Metric::Params)?);
    Ok(())
}

#[test]
fn search_without_labels_returns_to_the_features_and_is_extracted() -> TestResult {
    let _alone = alone();
    let dense = dense()?;
    let options = SearchOptions::new(60, 20).peak_rate(3e-3).seed(1);
    let mut search = builder(&dense, options, TASK).build()?;
    let teacher = Subnet::new(dense.0.clone(), &dense.1, test_device())?;
    let images = batch(999)?.images;
    let target = teacher.predict(&images)?;
    let mut distances = vec![];
    for until in [20, 60] {
        while search.steps_done() < until {
            let step = search.steps_done();
            search.step(&[unlabelled(step)?], &mut ())?;
        }
        let subnet = search.extract(&images)?;
        subnet.verification.check()?;
        let features = subnet.predict(&images)?;
        assert_eq!(features.size(), [images.size()[0], 17, WIDTH]);
        let batch = Batch::unlabelled(images.shallow_clone());
        let inputs = TaskInputs::new(&features, &batch).with_teacher(&target);
        distances.push(TASK.loss(&inputs)?.double_value(&[]));
    }
    assert!(distances[1] < 0.7 * distances[0], "{distances:?}");
    Ok(())
}

#[test]
fn extraction_from_a_search_in_bf16_before_its_last_step_is_in_f32_and_changes_no_step(
) -> TestResult {
    let _alone = alone();
    let mut dense = dense()?;
    for (name, weight) in &mut dense.1 {
        if name.ends_with("attn.qkv.weight") {
            // Attention that is not even, so that its scale matters.
            *weight = weight.f_mul_scalar(10.0)?;
        }
    }
    let run = |extracts: bool| -> TestResult<Vec<f64>> {
        let options = SearchOptions::learned(12, 8).peak_rate(3e-3).seed(1).with(|o| {
            o.training.precision = Precision::Bf16;
            o.pmim = None;
            // Heads of 6 or 7 of 8 channels, whose attention scale is rounded in bf16.
            o.init.alpha = AlphaInit::Even { spread: 0.1 };
            o.optimiser.alpha_rate = Some(0.0);
        });
        let mut search = builder(&dense, options, TASK).build()?;
        for step in 0..12 {
            search.step(&[unlabelled(step)?], &mut ())?;
            if extracts && step == 9 {
                let subnet = search.extract(&batch(999)?.images)?;
                assert!(subnet.weights().values().all(|weight| weight.kind() == Kind::Float));
            }
        }
        numbers(&search.supernet().raw_weights()["blocks.1.mlp.fc1.weight"])
    };
    assert_eq!(run(true)?, run(false)?);
    Ok(())
}

#[test]
fn labels_without_weight_do_not_matter() -> TestResult {
    let _alone = alone();
    let mut dense = dense()?;
    let search = builder(&dense, SearchOptions::new(8, 4), TASK).build()?;
    let (found, expected) = (search.gradients(&[unlabelled(0)?])?, search.gradients(&[batch(0)?])?);
    assert_eq!(numbers(&found.losses.task)?, numbers(&expected.losses.task)?);
    for (name, gradient) in &found.parameters()? {
        assert!(gradient.equal(&expected.parameters()?[name]), "{name}");
    }
    // The gradient of another network than the target reaches the first layer.
    let other = dense.1["blocks.1.mlp.fc2.weight"].f_mul_scalar(0.5)?;
    let teacher = builder(&dense, SearchOptions::new(8, 4), TASK);
    dense.1.insert("blocks.1.mlp.fc2.weight".into(), other);
    let student = teacher.weights(&dense.1).build()?;
    let gradients = student.gradients(&[unlabelled(0)?])?.parameters()?;
    assert!(gradients["patch_embed.proj.weight"].abs().max().double_value(&[]) > 0.0);
    Ok(())
}

#[test]
fn images_without_labels_are_refused_by_a_task_with_labels() -> TestResult {
    let _alone = alone();
    let dense = dense()?;
    let mut half = Distillation::new(DistillationKind::Soft { temperature: 2.0 }, 0.5);
    half.teacher = TeacherSource::Dense;
    for distillation in [None, Some(half)] {
        let options = SearchOptions::new(8, 4).with(|o| o.training.distillation = distillation);
        let search = builder(&dense, SearchOptions::new(8, 4), Classification);
        let search = search.options(options).build()?;
        let name = "shape of the logits of the task loss";
        let refused = search.gradients(&[unlabelled(0)?]);
        assert_refused!(refused, Error::Invalid { name: ref own, .. } if own == name);
    }
    let classes = support::tiny_run::builder(SearchOptions::new(8, 4), 0.6).build()?;
    let name = "targets of the task loss";
    let values = Tensor::f_zeros([6], (Kind::Float, test_device()))?;
    let values = Batch { images: batch(0)?.images, targets: Targets::Values(values) };
    for (batch, kind) in [(unlabelled(0)?, "none"), (values, "values")] {
        let refused = classes.gradients(&[batch]);
        assert_refused!(refused, Error::Invalid { name: ref own, ref expected, ref actual }
            if own == name && expected.contains("final_weight none") && actual == kind);
    }
    Ok(())
}

#[test]
fn task_whose_target_is_a_teacher_is_refused_without_one() -> TestResult {
    let _alone = alone();
    let dense = dense()?;
    let none = SearchOptions::new(8, 4).with(|o| o.training.distillation = None);
    let refused = builder(&dense, none.clone(), TASK).options(none).build();
    assert_refused!(refused, Error::Invalid { ref name, ref expected, .. }
        if name == "training.distillation" && expected.contains("feature_matching"));
    let unweighted = Search::of(dense.0.clone()).budget(Budget::macs_share(0.6)).steps(8, 4);
    let refused = unweighted.task(TASK).device(test_device()).build();
    assert_refused!(refused, Error::Invalid { ref name, ref expected, .. }
        if name == "weights of the search" && expected.contains("feature_matching"));
    let component = SearchOptions::new(8, 4).with(|o| {
        o.training.distillation = Some(Distillation::new(DistillationKind::Hard, 0.1));
    });
    let refused = builder(&dense, component.clone(), TASK).options(component).build();
    assert_refused!(refused, Error::Invalid { ref name, .. } if name == "teacher");
    for (task, parameter) in [
        (FeatureMatching { class_share: 1.5, ..TASK }, "task.class_share"),
        (FeatureMatching { registers: -1, ..TASK }, "task.registers"),
        (FeatureMatching { probe: f64::NAN, ..TASK }, "task.probe"),
    ] {
        let refused = builder(&dense, SearchOptions::new(8, 4), task).build();
        assert_refused!(refused, Error::Invalid { ref name, .. } if name == parameter);
    }
    Ok(())
}

#[test]
fn losses_estimated_without_labels_at_the_dense_network_itself_tell_units_apart() -> TestResult {
    let _alone = alone();
    let vit = VitConfig::uniform(WIDTH, 2, 4).input(16, 3, 4).classes(10);
    let training =
        Search::of(vit.clone()).options(SearchOptions::training(1)).device(test_device());
    let mut weights = training.build()?.supernet().raw_weights();
    let useless = "blocks.0.mlp.fc2.weight";
    weights.insert(useless.into(), weights[useless].f_zeros_like()?);
    for teacher in [TeacherSource::Dense, TeacherSource::Component] {
        expect_units_told_apart(&vit, &weights, teacher)?;
    }
    Ok(())
}

/// In a search without labels whose teacher computes what the student does.
fn expect_units_told_apart(
    vit: &VitConfig,
    weights: &Weights,
    teacher: TeacherSource,
) -> TestResult {
    let mut alone = Distillation::dense();
    (alone.teacher, alone.weight) = (teacher, 1.0);
    let options = SearchOptions::new(20, 20).with(|o| {
        o.training.distillation = Some(alone);
        o.training.freeze_weights = true;
        o.optimiser.score_rate = Some(0.0);
        o.one_hot.weight = 0.0;
        o.pruning.interval = 10;
    });
    let search = Search::of(vit.clone()).weights(weights).budget(Budget::macs_share(0.6));
    let own = SubnetTeacher::new("dense", Subnet::new(vit.clone(), weights, test_device())?);
    let mut search = search.options(options).teacher(own).device(test_device()).build()?;
    for step in 0..10 {
        search.step(&[unlabelled(step)?], &mut ())?;
    }
    let smallest = |name: &str| -> TestResult<f64> {
        let states = search.supernet().states();
        let own = states.iter().find(|state| state.name == name).ok_or("no dimension")?;
        Ok(-numbers(&own.alpha)?[0])
    };
    let [useless, useful] = [smallest("blocks.0.mlp")?, smallest("blocks.1.mlp")?];
    // 0.1² of the rise of the loss, far above the rounding of a distance of zero.
    assert!(useful > 1e-8 && useless < 1e-3 * useful, "{useless:e}, {useful:e}");
    Ok(())
}

#[test]
fn losses_estimated_at_the_target_itself_are_those_of_the_probe() -> TestResult {
    let _alone = alone();
    let mut dense = dense()?;
    // A layer that nothing is lost with.
    let useless = "blocks.0.mlp.fc2.weight";
    let zeros = dense.1[useless].f_zeros_like()?;
    dense.1.insert(useless.into(), zeros);
    let estimates = |probe: f64| -> TestResult<[f64; 2]> {
        let task = FeatureMatching { probe, ..TASK };
        let options = SearchOptions::new(20, 20).with(|o| {
            // The student stays at its target.
            o.training.freeze_weights = true;
            o.optimiser.score_rate = Some(0.0);
            o.one_hot.weight = 0.0;
            o.pruning.interval = 10;
        });
        let mut search = builder(&dense, options, task).build()?;
        for step in 0..10 {
            search.step(&[unlabelled(step)?], &mut ())?;
        }
        let space = search.supernet().space();
        let smallest = |name: &str| -> TestResult<f64> {
            let at =
                space.dimensions.iter().position(|own| own.name == name).ok_or("no dimension")?;
            Ok(-numbers(&search.supernet().states()[at].alpha)?[0])
        };
        Ok([smallest("blocks.0.mlp")?, smallest("blocks.1.mlp")?])
    };
    let [useless, useful] = estimates(0.01)?;
    // Its size depends on the random errors of the probe, which are others on another device.
    assert!(useful > 1e-8 && useless < 1e-3 * useful, "{useless:e}, {useful:e}");
    let [_, without] = estimates(0.0)?;
    assert!(without < 1e-3 * useful, "{without:e}");
    Ok(())
}
