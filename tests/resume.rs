//! Resuming a run: the same parts continue bit-exactly, other parts are refused by name; listeners.

mod support;

use once_for_both::batch::Batch;
use once_for_both::components::{
    ComponentId, Components, Distillation, Importance, Observation, Teacher, UnitImportance,
};
use once_for_both::cost::Budget;
use once_for_both::models::Architecture;
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::search::{
    read_events, Checkpoints, Event, Listener, Outcome, Search, SearchBuilder, SearchOptions,
    METRICS,
};
use once_for_both::space::{Dimension, Size};
use once_for_both::subnet::{Subnet, SubnetTeacher};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use serde_json::Value;
use std::cell::RefCell;
use std::fs;
use support::damage::renew_checksums;
use support::tiny_run::{
    alone, batch, builder, expect_resumed_bit_exact, options, vit, without_times, STEPS,
};
use support::{test_device, TestResult};
use tch::Tensor;

/// Scores that stay at a constant.
#[derive(Debug)]
struct Constant(f64);

impl Importance for Constant {
    fn id(&self) -> ComponentId {
        ComponentId::new("constant").with("score", self.0)
    }

    fn initial(&self, dimension: &Dimension, _weights: &Weights) -> Result<Tensor> {
        let (shape, device) = (dimension.candidates.unit_shape(), test_device());
        Ok(Tensor::f_full(shape, self.0, (tch::Kind::Float, device))?)
    }

    fn update(&self, seen: Observation) -> Result<Option<Tensor>> {
        Ok(Some(seen.score.f_detach()?))
    }
}

struct Silent;

impl Teacher for Silent {
    fn id(&self) -> ComponentId {
        ComponentId::new("silent")
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_zeros([images.size()[0], 5], (tch::Kind::Float, images.device()))?)
    }
}

fn source(number: u64) -> Result<Batch> {
    batch(number)
        .map_err(|error| Error::Device { device: "of the test".into(), reason: error.to_string() })
}

/// A run of six steps with an own importance, in a folder of its own.
fn begun() -> TestResult<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let mut search = builder(options(), 0.5).importance(Constant(1.0)).build()?;
    let mut run = search.run_in(folder.path())?.checkpoint_every(3);
    assert_eq!(run.train_until(6, &mut source)?, Outcome::Reached);
    Ok(folder)
}

fn own() -> SearchBuilder<VitConfig> {
    builder(options(), 0.5).importance(Constant(1.0))
}

#[test]
fn build_or_resume_with_the_same_parts_continues_bit_exactly() -> TestResult {
    let _alone = alone();
    let (folder, whole) = (begun()?, tempfile::tempdir()?);
    let resumed = own().build_or_resume(folder.path())?;
    assert!(resumed.skipped.is_empty());
    let mut search = resumed.search;
    assert_eq!(search.steps_done(), 6);
    let outcome = search.run_in(folder.path())?.checkpoint_every(3).train(&mut source)?;
    assert_eq!(outcome, Outcome::Finished);

    let mut uninterrupted = own().build()?;
    uninterrupted.run_in(whole.path())?.checkpoint_every(3).train(&mut source)?;
    let events = |folder: &std::path::Path| -> TestResult<Vec<Event>> {
        Ok(without_times(&read_events(&folder.join(METRICS))?))
    };
    assert_eq!(events(folder.path())?, events(whole.path())?);
    let expected = uninterrupted.supernet().raw_weights();
    for (name, weight) in search.supernet().raw_weights() {
        assert!(weight.equal(&expected[&name]), "{name}");
    }
    Ok(())
}

#[test]
fn build_or_resume_with_another_component_is_refused() -> TestResult {
    let _alone = alone();
    let folder = begun()?;
    let other = own().importance(Constant(2.0)).build_or_resume(folder.path());
    assert_refused!(
        other,
        Error::Component { component: "importance", expected, actual }
            if expected == "constant {score: 1.0}" && actual == "constant {score: 2.0}"
    );
    let taught = own().teacher(Silent).build_or_resume(folder.path());
    assert_refused!(
        taught,
        Error::Component { component: "teacher", expected, actual }
            if expected == "no teacher" && actual == "silent"
    );
    Ok(())
}

/// A teacher whose parameter is called as the name of a component is in a checkpoint.
struct Named;

impl Teacher for Named {
    fn id(&self) -> ComponentId {
        ComponentId::new("named").with("name", "mine")
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        Silent.logits(images)
    }
}

#[test]
fn search_with_a_subnet_as_teacher_is_resumed_and_a_parameter_called_name_is_refused() -> TestResult
{
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let subnet = || -> TestResult<_> {
        let dense = builder(options(), 0.5).build()?;
        let mut weights = dense.supernet().raw_weights();
        let own = vit().variables()?;
        weights.retain(|name, _| own.contains_key(name));
        Ok(SubnetTeacher::new("first", Subnet::new(vit(), &weights, test_device())?))
    };
    let distils = options().with(|own| own.training.distillation = Some(Distillation::deit()));
    let own = || -> TestResult<_> { Ok(builder(distils.clone(), 0.5).teacher(subnet()?)) };
    let mut search = own()?.build()?;
    let mut run = search.run_in(folder.path())?.checkpoint_every(2);
    assert_eq!(run.train_until(2, &mut source)?, Outcome::Reached);
    assert_eq!(own()?.build_or_resume(folder.path())?.search.steps_done(), 2);
    assert_refused!(
        builder(distils, 0.5).teacher(Named).build(),
        Error::Invalid { ref name, .. } if name == "parameter of the component named"
    );
    Ok(())
}

#[test]
fn build_or_resume_with_other_options_or_budgets_is_refused() -> TestResult {
    let _alone = alone();
    let folder = begun()?;
    let slower = options().with(|o| o.optimiser.alpha_rate = Some(1.5));
    let other = own().options(slower).build_or_resume(folder.path());
    assert_refused!(
        other,
        Error::Invalid { name, actual, .. }
            if name == "options.optimiser.alpha_rate" && actual == "1.5"
    );
    let of = |share: f64, options: SearchOptions| {
        builder(options, share).importance(Constant(1.0)).build_or_resume(folder.path())
    };
    assert_refused!(of(0.6, options()), Error::Invalid { name, .. } if name == "budget");
    let more = own().budget(Budget::params_share(0.9)).build_or_resume(folder.path());
    assert_refused!(more, Error::Invalid { name, .. } if name == "budget");
    of(0.5, options())?;
    Ok(())
}

#[test]
fn resume_without_the_users_component_is_refused() -> TestResult {
    let _alone = alone();
    let folder = begun()?;
    let checkpoint = folder.path().join("checkpoints/step-00000006");
    assert_refused!(
        Search::<VitConfig>::resume(&checkpoint, test_device()),
        Error::Component { component: "importance", .. }
    );
    let components =
        Components { importance: std::sync::Arc::new(Constant(1.0)), ..Components::default() };
    let search = Search::<VitConfig>::resume_with(&components, &checkpoint, test_device())?;
    assert_eq!(search.components().ids().importance, Constant(1.0).id());
    Ok(())
}

#[test]
fn components_from_their_ids_have_the_same_ids() -> TestResult {
    let _alone = alone();
    for importance in [
        UnitImportance::Learned,
        UnitImportance::Magnitude { mean: 1.5, std: 0.1 },
        UnitImportance::Taylor { mean: 2.0, std: 0.3, momentum: 0.7 },
        UnitImportance::Random { mean: 0.1, std: 0.2 },
    ] {
        let importance = std::sync::Arc::new(importance);
        for own in [Components::default(), Components::paper()] {
            let components = Components { importance: importance.clone(), ..own };
            let json = serde_json::to_string(&components.ids())?;
            let restored = Components::from_ids(&serde_json::from_str(&json)?)?;
            assert_eq!(restored.ids(), components.ids());
        }
    }
    let wrong = UnitImportance::Taylor { mean: 2.0, std: 0.3, momentum: 1.0 };
    assert_refused!(
        builder(options(), 0.5).importance(wrong).build(),
        Error::Invalid { name, .. } if name == "importance.momentum"
    );
    Ok(())
}

#[test]
fn listeners_of_a_run_all_receive_every_event() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let (first, second) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let record = |into: &RefCell<Vec<Event>>, event: &Event| {
        into.borrow_mut().push(event.clone());
        Ok(())
    };
    let mut search = builder(options(), 0.5).build()?;
    let run = search.run_in(folder.path())?;
    let pair = (|event: &Event| record(&first, event), ());
    let mut run = run.on_event(pair).on_event(|event: &Event| record(&second, event));
    run.train(&mut source)?;
    run.emit(&Event::Evaluated { step: STEPS, top1: 0.5 })?;
    drop(run);
    let (first, second) = (first.into_inner(), second.into_inner());
    assert_eq!(first, second);
    assert_eq!(first, read_events(&folder.path().join(METRICS))?);
    assert_eq!(first.last(), Some(&Event::Evaluated { step: STEPS, top1: 0.5 }));

    let mut counted = 0;
    let mut boxed: Vec<Box<dyn Listener>> = vec![Box::new(|_: &Event| {
        counted += 1;
        Ok(())
    })];
    first.iter().try_for_each(|event| boxed.on_event(event))?;
    drop(boxed);
    assert_eq!(counted, first.len());
    Ok(())
}

#[test]
fn accumulated_batches_are_numbered_through() -> TestResult {
    let _alone = alone();
    let twice = options().with(|o| o.training.accumulate = 2);
    let mut search = builder(twice, 0.5).build()?;
    let mut numbers = Vec::new();
    let mut source = |number: u64| {
        numbers.push(number);
        source(number)
    };
    search.train(&mut source, &mut ())?;
    assert_eq!(numbers, (0..2 * STEPS).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn build_or_resume_with_another_architecture_or_space_is_refused() -> TestResult {
    let _alone = alone();
    let folder = begun()?;
    let mut deeper = vit();
    deeper.drop_path = 0.1;
    let other = Search::of(deeper)
        .importance(Constant(1.0))
        .budget(Budget::macs_share(0.5))
        .options(options())
        .device(test_device());
    assert_refused!(
        other.build_or_resume(folder.path()),
        Error::Invalid { name, actual, .. } if name == "architecture.drop_path" && actual == "0.1"
    );
    let space = vit().space()?.at_least("blocks.0.mlp", Size::flat(64))?;
    let other = own().space(space).build_or_resume(folder.path());
    assert_refused!(other, Error::Invalid { name, .. } if name.starts_with("space.dimensions.2"));
    Ok(())
}

/// Checkpoints of versions before dimensions were declared removable do not have the declaration.
#[test]
fn build_or_resume_of_a_checkpoint_without_the_declaration_removable_resumes() -> TestResult {
    let _alone = alone();
    let folder = begun()?;
    let newest = Checkpoints::new(folder.path().join("checkpoints"), 1).newest()?;
    let newest = newest.ok_or("no checkpoint")?;
    let mut state: Value = serde_json::from_slice(&fs::read(newest.join("state.json"))?)?;
    let mut declarations = 0;
    for place in ["/origin/space/dimensions", "/space/dimensions"] {
        let dimensions = state.pointer_mut(place).and_then(Value::as_array_mut).ok_or(place)?;
        for own in dimensions.iter_mut().filter_map(Value::as_object_mut) {
            declarations += usize::from(own.remove("removable").is_some());
        }
    }
    assert!(declarations > 0);
    fs::write(newest.join("state.json"), serde_json::to_vec(&state)?)?;
    renew_checksums(&newest)?;
    let resumed = own().build_or_resume(folder.path())?;
    assert!(resumed.skipped.is_empty());
    assert_eq!(resumed.search.steps_done(), 6);
    // That a branch may be removed is another search.
    let depth = own().space(vit().space()?.removable_branches()).build_or_resume(folder.path());
    assert_refused!(depth, Error::Invalid { name, .. } if name.ends_with("candidates.removable"));
    Ok(())
}

#[test]
fn new_search_with_the_checkpoints_of_an_earlier_run_is_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = || Checkpoints::new(folder.path(), 2);
    let mut first = builder(options(), 0.5).build()?;
    first.run(checkpoints()).checkpoint_every(2).train_until(2, &mut source)?;
    let mut second = builder(options().seed(4), 0.5).build()?;
    let refused = second.run(checkpoints()).train(&mut source);
    assert_refused!(refused, Error::File { reason, .. } if reason.contains("build_or_resume"));
    assert_eq!(second.steps_done(), 0);
    // The earlier one goes on.
    assert_eq!(first.run(checkpoints()).train_until(4, &mut source)?, Outcome::Reached);
    Ok(())
}

#[test]
fn weight_frozen_after_the_build_stays_frozen_over_pruning_and_resumption() -> TestResult {
    let _alone = alone();
    for precision in [Precision::F32, Precision::Bf16] {
        let options = options().with(|o| o.training.precision = precision);
        let frozen = || -> TestResult<_> {
            let search = builder(options.clone(), 0.5).build()?;
            let weights = search.supernet().folded_weights();
            // One that pruning slices and gates multiply, and one that it leaves as it is.
            for name in ["patch_embed.proj.bias", "head.bias"] {
                let _ = weights[name].f_set_requires_grad(false)?;
            }
            Ok(search)
        };
        let before = frozen()?.supernet().raw_weights()["head.bias"].copy();
        let whole = expect_resumed_bit_exact(frozen, &[3, 9])?;
        let after = whole.supernet().raw_weights();
        assert!(after["head.bias"].equal(&before), "{precision:?}");
        let channels = after["patch_embed.proj.bias"].size()[0];
        assert!(channels < 32, "{precision:?}: {channels} channels");
    }
    Ok(())
}

#[test]
fn new_search_in_the_folder_of_an_earlier_run_is_refused() -> TestResult {
    let _alone = alone();
    let folder = begun()?;
    let before = std::fs::read(folder.path().join(METRICS))?;
    let mut search = own().build()?;
    let refused = search.run_in(folder.path()).map(drop);
    assert_refused!(refused, Error::File { reason, .. } if reason.contains("build_or_resume"));
    assert_eq!(std::fs::read(folder.path().join(METRICS))?, before);
    Ok(())
}
