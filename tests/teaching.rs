//! Self-distillation: logits and features of the dense network teach its subnet.

mod support;

use once_for_both::batch::Batch;
use once_for_both::components::{
    cross_entropy, distillation_loss, feature_loss, ComponentId, Distillation, Teacher,
    TeacherOutputs, TeacherSource,
};
use once_for_both::cost::{Budget, CostModel};
use once_for_both::models::{Architecture, VisionTransformer, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::search::{Checkpoints, Search, SearchOptions};
use once_for_both::space::{SearchSpace, Size};
use once_for_both::subnet::{Subnet, SubnetTeacher};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use support::tiny_run::{alone, batch, builder, options, run, vit, SEARCH, STEPS};
use support::{from_numbers, numbers, test_device, TestResult};
use tch::{nn, Reduction, Tensor};

/// Weights of a dense network, other than those a search initialises.
fn dense() -> TestResult<Weights> {
    let mut trained = Search::training(vit(), 3).device(test_device()).build()?;
    for step in 0..3 {
        trained.step(&[batch(step)?], &mut ())?;
    }
    Ok(trained.supernet().raw_weights())
}

fn taught(change: impl FnOnce(&mut Distillation)) -> SearchOptions {
    let mut own = Distillation::dense();
    change(&mut own);
    options().with(|options| options.training.distillation = Some(own))
}

fn search(options: SearchOptions) -> TestResult<Search<VitConfig>> {
    Ok(builder(options, 0.5).weights(&dense()?).build()?)
}

fn task(search: &Search<VitConfig>, batch: Batch) -> TestResult<f64> {
    Ok(search.gradients(&[batch])?.losses.task.f_double_value(&[])?)
}

#[test]
fn feature_loss_of_hand_made_features_is_their_squared_distance_by_the_squared_length() -> TestResult
{
    let student = from_numbers(&[1.0, 2.0, 3.0, 4.0], &[1, 2, 2])?;
    let teacher = from_numbers(&[1.0, 0.0, 3.0, 5.0], &[1, 2, 2])?;
    let found = feature_loss(&student, &teacher)?.f_double_value(&[])?;
    assert!((found - 5.0 / 35.0).abs() < 1e-6, "{found}");
    let silent = feature_loss(&teacher.f_zeros_like()?, &teacher.f_zeros_like()?)?;
    assert_eq!(silent.f_double_value(&[])?, 0.0, "features of zeros differ by nothing");
    let refused = feature_loss(&student, &teacher.f_narrow(2, 0, 1)?);
    assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
    Ok(())
}

#[test]
fn dense_network_has_nothing_to_teach_to_itself_at_the_first_step() -> TestResult {
    let _alone = alone();
    let plain = task(&search(options().with(|o| o.pmim = None))?, batch(0)?)?;
    let own = taught(|own| own.weight = 0.25).with(|o| o.pmim = None);
    let mixed = task(&search(own)?, batch(0)?)?;
    // (1 − weight)·task, and a distance of zero.
    assert!((mixed - 0.75 * plain).abs() < 1e-4 * plain, "{mixed} {plain}");
    Ok(())
}

#[test]
fn search_without_weights_learns_from_the_labels_alone() -> TestResult {
    let _alone = alone();
    let taught = builder(taught(|_| ()), 0.5).build()?;
    let plain = builder(options(), 0.5).build()?;
    assert_eq!(task(&taught, batch(0)?)?, task(&plain, batch(0)?)?);
    Ok(())
}

#[test]
fn features_of_a_pruned_embedding_are_compared_with_the_channels_it_keeps() -> TestResult {
    let _alone = alone();
    let only_features = |features| {
        let own = taught(|own| (own.weight, own.features) = (1.0, features));
        own.with(|o| o.pmim = None)
    };
    let mut losses = Vec::new();
    for features in [0.0, 2.0] {
        let mut search = search(only_features(features))?;
        search.narrow(&[(0, Size::flat(16))])?;
        losses.push(task(&search, batch(0)?)?);
        if features == 0.0 {
            continue;
        }
        search.materialise()?;
        let images = batch(0)?.images;
        let student = search.supernet().forward_features(&images, false)?.features;
        let student = numbers(&student.ok_or("no features")?)?;
        let teacher = SubnetTeacher::new("dense", Subnet::new(vit(), &dense()?, test_device())?);
        let teacher = numbers(&teacher.outputs(&images)?.features.ok_or("no features")?)?;
        let kept = search.supernet().states()[0].origin.clone();
        let kept = kept.iter().map(|&channel| channel as usize);
        let target: Vec<f64> =
            teacher.chunks(32).flat_map(|token| kept.clone().map(|c| token[c])).collect();
        let distance: f64 = student.iter().zip(&target).map(|(s, t)| (s - t).powi(2)).sum();
        let expected = 2.0 * distance / target.iter().map(|t| t.powi(2)).sum::<f64>();
        let found = losses[1] - losses[0];
        assert!(
            expected > 1e-4 && (found - expected).abs() < 1e-3 * expected,
            "{found} {expected}"
        );
    }
    Ok(())
}

#[test]
fn resumed_search_with_the_dense_network_as_its_teacher_is_the_undisturbed_one() -> TestResult {
    let _alone = alone();
    for precision in [None, Some(Precision::Bf16)] {
        let own = || taught(|own| own.precision = precision);
        expect_resumed_is_undisturbed(own)?;
    }
    Ok(())
}

fn expect_resumed_is_undisturbed(own: impl Fn() -> SearchOptions) -> TestResult {
    let mut undisturbed = search(own())?;
    run(&mut undisturbed, STEPS)?;
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::new(folder.path(), 1);
    for stop in [1, STEPS / 2] {
        let mut begun = search(own())?;
        run(&mut begun, stop)?;
        checkpoints.save(&begun)?;
        let resumed = checkpoints.resume::<VitConfig>(test_device())?;
        let mut resumed = resumed.ok_or("no checkpoint")?.search;
        run(&mut resumed, STEPS)?;
        let (left, right) =
            (resumed.supernet().raw_weights(), undisturbed.supernet().raw_weights());
        assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
        for (name, weight) in &left {
            assert_eq!(numbers(weight)?, numbers(&right[name])?, "{name} after step {stop}");
        }
    }
    Ok(())
}

/// A teacher whose features are one channel too wide.
#[derive(Debug)]
struct WideTeacher;

impl Teacher for WideTeacher {
    fn id(&self) -> ComponentId {
        ComponentId::new("wide")
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_new_zeros([images.size()[0], 5], (images.kind(), images.device()))?)
    }

    fn outputs(&self, images: &Tensor) -> Result<TeacherOutputs> {
        let shape = [images.size()[0], 5, 33];
        let features = images.f_new_zeros(shape, (images.kind(), images.device()))?;
        Ok(TeacherOutputs { logits: self.logits(images)?, features: Some(features) })
    }
}

#[test]
fn teacher_with_features_of_another_width_is_refused() -> TestResult {
    let _alone = alone();
    let own = taught(|own| own.teacher = TeacherSource::Component).with(|o| o.pmim = None);
    let search = builder(own, 0.5).teacher(WideTeacher).build()?;
    let refused = search.gradients(&[batch(0)?]).map(drop);
    let text = format!("{:?}", refused);
    assert!(text.contains("teacher features") && text.contains("33"), "{text}");
    Ok(())
}

/// A teacher of logits alone.
#[derive(Debug)]
struct LogitsTeacher;

impl Teacher for LogitsTeacher {
    fn id(&self) -> ComponentId {
        ComponentId::new("logits")
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        WideTeacher.logits(images)
    }
}

#[test]
fn teacher_without_features_is_refused_unless_they_have_no_weight() -> TestResult {
    let _alone = alone();
    for features in [0.0, 2.0] {
        let own = taught(|own| (own.teacher, own.features) = (TeacherSource::Component, features));
        let search = builder(own.with(|o| o.pmim = None), 0.5).teacher(LogitsTeacher).build()?;
        let found = search.gradients(&[batch(0)?]).map(drop);
        if features == 0.0 {
            found?;
            continue;
        }
        assert_refused!(found, Error::Invalid { ref name, ref expected, .. }
            if name == "features of the teacher" && expected.contains("distillation.features"));
    }
    Ok(())
}

/// A ViT that does not name the dimension of its features.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WithoutFeatures;

impl Architecture for WithoutFeatures {
    type Network = VisionTransformer;

    const FAMILY: &'static str = "vit-without-features";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        vit().build(path)
    }

    fn space(&self) -> Result<SearchSpace> {
        vit().space()
    }

    fn cost_model(&self) -> CostModel {
        vit().cost_model()
    }
}

#[test]
fn features_of_a_teacher_have_no_effect_on_a_network_without_a_feature_dimension() -> TestResult {
    let _alone = alone();
    let mut losses = Vec::new();
    for features in [0.0, 2.0] {
        let own = taught(|own| {
            (own.teacher, own.features) = (TeacherSource::Component, features);
        });
        let training = SearchOptions::training(2).with(|options| {
            options.training.distillation = own.training.distillation;
        });
        let search = Search::of(WithoutFeatures).options(training).device(test_device());
        let search = search.teacher(WideTeacher).build()?;
        losses.push(search.gradients(&[batch(0)?])?.losses.task.f_double_value(&[])?);
    }
    assert_eq!(losses[0], losses[1]);
    Ok(())
}

#[test]
fn dense_network_with_two_heads_has_nothing_to_teach_to_itself_at_the_first_step() -> TestResult {
    let _alone = alone();
    let distilled = vit().distilled();
    let dense = Search::training(distilled.clone(), 1).device(test_device()).build()?;
    let mut weights = dense.supernet().raw_weights();
    // Heads that predict different classes.
    weights.insert("head.bias".into(), from_numbers(&[3.0, 0.0, 0.0, 0.0, 0.0], &[5])?);
    weights.insert("head_dist.bias".into(), from_numbers(&[0.0, 3.0, 0.0, 0.0, 0.0], &[5])?);
    let own = taught(|own| own.weight = 1.0).with(|o| o.pmim = None);
    let search = Search::of(distilled).weights(&weights).budget(Budget::macs_share(0.5));
    let search = search.options(own).device(test_device()).build()?;
    let distance = task(&search, batch(0)?)?;
    assert!(distance.abs() < 1e-4, "{distance}");
    Ok(())
}

#[test]
fn weights_of_a_search_with_mask_token_and_decoder_teach() -> TestResult {
    let _alone = alone();
    let masking = builder(options(), 0.5).build()?.supernet().raw_weights();
    assert!(masking.keys().any(|name| name.starts_with("pmim.")));
    let search = builder(taught(|own| own.weight = 1.0), 0.5).weights(&masking).build()?;
    assert!(task(&search, batch(0)?)?.is_finite());
    Ok(())
}

#[test]
fn weight_of_the_teacher_falls_over_a_long_fine_tuning_only() -> TestResult {
    let _alone = alone();
    let short = Distillation::dense().for_finetuning(150);
    assert_eq!([0.0, 0.5, 1.0].map(|done| short.weight_at(done)), [0.9; 3]);
    let long = Distillation::dense().for_finetuning(2000);
    for (done, expected) in [(0.0, 0.9), (0.5, 0.45), (1.0, 0.0), (2.0, 0.0)] {
        assert!((long.weight_at(done) - expected).abs() < 1e-12, "{done}");
    }
    for (steps, expected) in [(200, 0.9), (300, 0.45), (400, 0.0)] {
        let own = Distillation::dense().for_finetuning(steps).weight_at(1.0);
        assert!((own - expected).abs() < 1e-12, "{steps}");
    }
    assert_eq!(SearchOptions::new(2500, 500).training.distillation, Some(long));
    // The teacher of a network that is pruned: its loss counts with the weight of the step.
    let mut search = search(
        taught(|own| (own.features, own.final_weight) = (0.0, Some(0.0))).with(|o| o.pmim = None),
    )?;
    run(&mut search, (STEPS + SEARCH) / 2)?;
    let images = batch(0)?;
    let found = task(&search, batch(0)?)?;
    search.materialise()?;
    let logits = search.supernet().network_logits(&images.images)?;
    let dense = Subnet::new(vit(), &dense()?, test_device())?.predict(&images.images)?;
    let kind = Distillation::dense().kind;
    let distance = distillation_loss(&logits, &dense, kind)?.f_double_value(&[])?;
    let labels =
        cross_entropy(&logits, &images.targets, 0.0, Reduction::Mean)?.f_double_value(&[])?;
    let expected = 0.55 * labels + 0.45 * distance;
    assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    Ok(())
}

#[test]
fn distillation_out_of_range_is_refused_by_name() {
    for features in [-1.0, f64::NAN] {
        let refused = taught(|own| own.features = features).check();
        let text = format!("{:?}", refused);
        assert!(text.contains("training.distillation.features"), "{text}");
    }
    let text = format!("{:?}", taught(|own| own.precision = Some(Precision::F16)).check());
    assert!(text.contains("training.distillation.precision"), "{text}");
}
