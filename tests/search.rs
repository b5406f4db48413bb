//! A complete search of a tiny ViT: budget, exact pruning, resuming, extraction, refusals.

mod support;

use once_for_both::components::WindowedPixels;
use once_for_both::cost::{Budget, CostModel, Metric};
use once_for_both::models::{Architecture, VisionTransformer, VitConfig};
use once_for_both::search::{
    read_events, Checkpoints, Event, Listener, MetricsFile, Search, SearchOptions,
};
use once_for_both::space::{Binding, SearchSpace, Size, Sizes};
use once_for_both::subnet::{verify, Export, FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use serde::{Deserialize, Serialize};
use support::damage::renew_checksums;
use support::tiny_run::{
    alone, batch, fade_out_options, options, run, search, search_with, vit, without_times, STEPS,
};
use support::{numbers, test_device, TestResult, Tolerance};
use tch::{nn, Kind, Tensor};

#[test]
fn search_at_any_budget_meets_it_and_prunes_exactly() -> TestResult {
    let _alone = alone();
    for share in [0.35, 0.5, 0.8] {
        let mut search = search(share)?;
        let events = run(&mut search, STEPS)?;
        let pruned: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Pruned(prune_step) => Some(prune_step),
                _ => None,
            })
            .collect();
        assert!(!pruned.is_empty(), "no unit was pruned at a budget of {share}");
        for prune_step in &pruned {
            let allowed = 1e-5 * prune_step.logit_scale;
            assert!(
                prune_step.exact_difference <= allowed,
                "{} > {allowed}",
                prune_step.exact_difference
            );
        }
        assert!(search.supernet().is_decided());
        let subnet = search.extract(&batch(99)?.images)?;
        let limit = search.limits()[0].limit;
        assert!(subnet.macs()? <= limit, "{} MACs, budget {limit}", subnet.macs()?);
        assert_eq!(subnet.macs()?, pruned[pruned.len() - 1].macs);
    }
    Ok(())
}

#[test]
fn search_resumed_after_any_step_is_bit_exact() -> TestResult {
    let _alone = alone();
    for options in [options(), fade_out_options()] {
        let fresh = || search_with(options.clone(), 0.5);
        let mut whole = fresh()?;
        let expected = run(&mut whole, STEPS)?;
        for stop in 1..STEPS {
            let folder = tempfile::tempdir()?;
            let mut first = fresh()?;
            let mut events = run(&mut first, stop)?;
            let checkpoint = Checkpoints::new(folder.path(), 2).save(&first)?;
            let mut second = Search::<VitConfig>::resume(&checkpoint, test_device())?;
            assert_eq!(second.steps_done(), stop);
            events.extend(run(&mut second, STEPS)?);
            assert_eq!(without_times(&events), without_times(&expected), "stopped after {stop}");
            expect_equal(&second, &whole, &format!("after a stop at {stop}"))?;
            for ((name, own), (_, expected)) in ema(&mut second)?.iter().zip(ema(&mut whole)?) {
                assert!(own.equal(&expected), "EMA of {name} after a stop at {stop}");
            }
        }
    }
    Ok(())
}

/// Copies of the weights that are evaluated: of the EMA where the options keep one.
fn ema(search: &mut Search<VitConfig>) -> TestResult<Vec<(String, Tensor)>> {
    let weights = search.evaluate(|supernet| Ok(supernet.raw_weights()))?;
    Ok(search.evaluate(|_| Ok(weights.into_iter().map(|(n, w)| (n, w.copy())).collect()))?)
}

/// Weights, scores and kept units are the same, bit for bit.
fn expect_equal(left: &Search<VitConfig>, right: &Search<VitConfig>, when: &str) -> TestResult {
    let (weights, expected) = (left.supernet().raw_weights(), right.supernet().raw_weights());
    assert_eq!(weights.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in &weights {
        assert!(tensor.equal(&expected[name]), "{name} {when}");
    }
    for (left, right) in left.supernet().states().iter().zip(right.supernet().states()) {
        assert!(left.score.equal(&right.score), "score of {} {when}", left.name);
        assert_eq!(left.origin, right.origin, "{when}");
    }
    Ok(())
}

#[test]
fn extract_during_a_fade_out_is_refused() -> TestResult {
    let _alone = alone();
    let mut search = search_with(fade_out_options(), 0.5)?;
    let limit = search.limits()[0].limit;
    let (mut refused, images) = (0, batch(99)?.images);
    while !search.is_done() {
        let step = search.steps_done();
        run(&mut search, step + 1)?;
        match search.extract(&images) {
            Ok(subnet) => assert!(subnet.macs()? <= limit, "{} of {limit}", subnet.macs()?),
            Err(Error::Invalid { name, .. }) if name.starts_with("size of") => refused += 1,
            Err(Error::Invalid { name, .. }) => {
                assert!(name.starts_with("active candidates"), "{name}")
            }
            Err(other) => return Err(other.into()),
        }
    }
    assert!(refused > 0, "no step lay between decision and prune step");
    search.extract(&images)?;
    Ok(())
}

#[test]
fn metrics_file_of_a_resumed_search_equals_that_of_an_uninterrupted_one() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let events = run(&mut search(0.5)?, STEPS)?;
    for stop in 0..=STEPS {
        let path = folder.path().join(format!("{stop}.jsonl"));
        let mut earlier = MetricsFile::open(&path, 0)?;
        events.iter().try_for_each(|event| earlier.on_event(event))?;
        // Events of the checkpoint at `stop` are kept, later ones are emitted again.
        let seen = |event: &&Event| match event {
            Event::Step(metrics) => metrics.step < stop,
            Event::Pruned(prune_step) => prune_step.step <= stop,
            Event::Decided { step, .. } => *step <= stop,
            Event::Finished(finished) => finished.step <= stop,
            other => panic!("{other:?} in a plain run"),
        };
        MetricsFile::open(&path, stop)?;
        let expected: Vec<Event> = events.iter().filter(seen).cloned().collect();
        assert_eq!(read_events(&path)?, expected, "resumed after {stop} steps");
    }
    Ok(())
}

#[test]
fn resume_from_a_damaged_or_foreign_checkpoint_is_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let saved = Checkpoints::new(folder.path(), 2).save(&search(0.5)?)?;
    let state = std::fs::read_to_string(saved.join("state.json"))?;
    let refuse = |text: &str, part: &str| -> TestResult {
        std::fs::write(saved.join("state.json"), text)?;
        match Search::<VitConfig>::resume(&saved, test_device()) {
            Err(Error::File { reason, .. }) if reason.contains(part) => Ok(()),
            other => Err(format!("expected a reason with {part}, got {other:?}").into()),
        }
    };
    refuse(&state.replace("\"version\": 3", "\"version\": 99"), "got 99")?;
    refuse(&state.replace("once-for-both/checkpoint", "other"), "format: got other")?;
    refuse(&state[..state.len() / 2], "EOF")?;
    refuse(&state.replace("\"family\": \"vit\"", "\"family\": \"swin\""), "family: got swin")?;
    // A missing dimension is refused.
    let mut short: serde_json::Value = serde_json::from_str(&state)?;
    short["dimensions"].as_array_mut().ok_or("dimensions")?.pop();
    std::fs::write(saved.join("state.json"), short.to_string())?;
    renew_checksums(&saved)?;
    match Search::<VitConfig>::resume(&saved, test_device()) {
        Err(Error::Resume { path, source }) => {
            assert_eq!(path, saved);
            assert!(source.to_string().contains("number of dimensions"), "{source}");
        }
        other => return Err(format!("expected a refusal, got {other:?}").into()),
    }
    std::fs::write(saved.join("state.json"), &state)?;
    renew_checksums(&saved)?;
    let tensors = std::fs::read(saved.join("tensors.safetensors"))?;
    std::fs::write(saved.join("tensors.safetensors"), &tensors[..tensors.len() / 2])?;
    assert_refused!(
        Search::<VitConfig>::resume(&saved, test_device()),
        Error::Checksum { path, .. } if path.ends_with("tensors.safetensors")
    );
    Ok(())
}

#[test]
fn extracted_subnet_equals_the_masked_network_also_from_disk() -> TestResult {
    let _alone = alone();
    let mut search = search(0.5)?;
    run(&mut search, STEPS)?;
    let images = batch(99)?.images;
    let subnet = search.extract(&images)?;
    let verification = subnet.verification;
    assert!(verification.max_abs_logit_difference() <= 1e-5 * verification.logit_scale);

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    subnet.save(&path, &Export::f32().torchscript().onnx())?;
    let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
    assert_eq!(loaded.architecture(), subnet.architecture());
    assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));

    // One changed weight fails the verification.
    let mut wrong = subnet
        .weights()
        .iter()
        .map(|(n, t)| (n.clone(), t.copy()))
        .collect::<std::collections::BTreeMap<_, _>>();
    let bias = wrong.get_mut("head.bias").ok_or("no head")?;
    let _ = tch::no_grad(|| bias.f_add_scalar_(0.1))?;
    let wrong = Subnet::new(subnet.architecture().clone(), &wrong, test_device())?;
    assert_refused!(
        verify(search.supernet(), &wrong, &images),
        Error::Verification { begins: Some(part), .. } if part == "head"
    );

    let weights = std::fs::read(path.join("model.safetensors"))?;
    std::fs::write(path.join("model.safetensors"), &weights[..weights.len() - 1])?;
    assert_refused!(Subnet::<VitConfig>::load(&path, test_device()), Error::Artifact { .. });
    Ok(())
}

#[test]
fn extract_before_sizes_are_decided_is_refused() -> TestResult {
    let _alone = alone();
    let mut search = search(0.5)?;
    assert_refused!(search.extract(&batch(0)?.images), Error::Invalid { .. });
    assert_refused!(FoldingExtractor.extract(search.supernet()), Error::Invalid { .. });
    Ok(())
}

/// Extracts the network as it is.
struct Unpruned;

impl SubnetExtractor<VitConfig> for Unpruned {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> once_for_both::Result<Subnet<VitConfig>> {
        assert!(supernet.is_decided(), "called before all sizes are decided");
        let architecture = supernet.architecture().clone();
        Subnet::new(architecture, &supernet.folded_weights(), supernet.device())
    }
}

#[test]
fn own_extractor_before_sizes_are_decided_is_not_called() -> TestResult {
    let _alone = alone();
    let mut search = search(0.5)?;
    let images = batch(0)?.images;
    assert_refused!(
        search.extract_with(&Unpruned, &images),
        Error::Invalid { name, .. } if name.starts_with("active candidates of")
    );
    run(&mut search, STEPS)?;
    search.extract_with(&Unpruned, &images)?;
    Ok(())
}

#[test]
fn supernet_at_gates_of_one_is_the_dense_network() -> TestResult {
    let _alone = alone();
    let supernet = Supernet::new(vit(), vit().space()?, true, test_device())?;
    let images = batch(0)?.images;
    let dense = supernet.network_logits(&images)?;
    let ones: Vec<Tensor> = supernet.masks(0.5)?.iter().map(|m| m.mask.ones_like()).collect();
    supernet.materialise(&ones)?;
    assert!(supernet.network_logits(&images)?.equal(&dense));
    let masks: Vec<Tensor> = supernet.masks(0.5)?.into_iter().map(|m| m.mask.detach()).collect();
    supernet.divide_by_gates(&masks)?;
    supernet.materialise(&masks)?;
    let close = Tolerance::of_scale(1e-5, &dense)?;
    close.check("logits", &supernet.network_logits(&images)?, &dense)?;
    assert_refused!(supernet.materialise(&masks[1..]), Error::Invalid { .. });
    Ok(())
}

#[test]
fn narrow_keeps_the_most_important_units_of_every_variable() -> TestResult {
    let _alone = alone();
    let mut supernet = Supernet::new(vit(), vit().space()?, true, test_device())?;
    // blocks.0.mlp: units score higher the later they come.
    let units = supernet.states()[2].candidates().units();
    let score = Tensor::arange(units, (Kind::Float, test_device())).view([1, units]);
    supernet.states_mut()[2].set_score(&score)?;
    let before = supernet.raw_weights();
    let size = Size::flat(units / 2);
    let narrowing = supernet.narrow(&[(2, size)])?;
    let kept: Vec<i64> = (units / 2..units).collect();
    assert_eq!(narrowing.kept(2), Some(&kept[..]));
    let after = supernet.raw_weights();
    let half = |name: &str, axis| before[name].narrow(axis, units / 2, units / 2);
    assert!(after["blocks.0.mlp.fc1.weight"].equal(&half("blocks.0.mlp.fc1.weight", 0)));
    assert!(after["blocks.0.mlp.fc1.bias"].equal(&half("blocks.0.mlp.fc1.bias", 0)));
    assert!(after["blocks.0.mlp.fc2.weight"].equal(&half("blocks.0.mlp.fc2.weight", 1)));
    assert!(after["blocks.1.mlp.fc1.weight"].equal(&before["blocks.1.mlp.fc1.weight"]));
    assert_eq!(supernet.architecture().blocks[0].hidden_dim, units / 2);
    assert_eq!(numbers(&supernet.states()[2].score)?[0], (units / 2) as f64);
    Ok(())
}

#[test]
fn build_with_parts_that_cannot_work_is_refused() -> TestResult {
    let _alone = alone();
    let model = vit().cost_model();
    let start = |budget: Budget, options: SearchOptions, space: SearchSpace| {
        let builder = Search::of(vit()).space(space).budget(budget).options(options);
        builder.device(test_device()).build()
    };
    let half = Budget::macs_share(0.5);
    let dense = model.dense_cost(Metric::Macs)?;
    for limit in [0.01 * dense, 1.01 * dense] {
        let refused = start(Budget::macs(limit), options(), vit().space()?);
        assert_refused!(refused, Error::Infeasible { budget, most, .. } if budget == limit && most == dense);
    }
    assert_refused!(start(half, SearchOptions::learned(4, 5), vit().space()?), Error::Invalid { name, .. } if name == "search_steps");
    let mut wrong = options();
    wrong.lambda.start = 1.5;
    assert_refused!(start(half, wrong, vit().space()?), Error::Invalid { .. });
    assert_refused!(WindowedPixels::new(46), Error::Invalid { .. });
    let without_budget = Search::of(vit()).options(options()).device(test_device()).build();
    assert_refused!(without_budget, Error::Invalid { name, .. } if name == "number of budgets");
    let without_steps = Search::of(vit()).budget(half).device(test_device()).build();
    assert_refused!(without_steps, Error::Invalid { name, .. } if name == "steps of the search");
    for wrong in [Budget::macs_share(1.5), Budget::macs_share(0.0), Budget::params(-1.0)] {
        assert_refused!(start(wrong, options(), vit().space()?), Error::Invalid { name, .. } if name == "budget");
    }
    let bound = |binding: Binding| -> once_for_both::Result<SearchSpace> {
        let mut space = vit().space()?;
        space.dimension_mut("blocks.0.mlp")?.bindings.push(binding);
        Ok(space)
    };
    let unknown = start(half, options(), bound(Binding::gated("blocks.7.x", 0))?);
    assert_refused!(unknown, Error::UnknownVariable { variable, .. } if variable == "blocks.7.x");
    let short = start(half, options(), bound(Binding::narrowed("head.weight", 0))?);
    assert_refused!(short, Error::BindingAxis { expected: 128, actual: 5, .. });
    let twice = start(half, options(), bound(Binding::gated("blocks.0.mlp.fc1.bias", 0))?);
    assert_refused!(twice, Error::BoundTwice { .. });
    assert_refused!(vit().space()?.dimension_mut("blocks.9.mlp"), Error::Unknown { .. });
    assert_refused!(vit().space()?.without(&["blocks.9.mlp"]), Error::Unknown { .. });

    // An axis there is not, repetitions that are none, a gate over heads, two of one name.
    let none = start(half, options(), bound(Binding::gated("head.bias", 3).outer(0))?);
    assert_refused!(none, Error::Invalid { name, .. } if name.starts_with("outer of head.bias"));
    let beyond = start(half, options(), bound(Binding::gated("head.bias", 3))?);
    assert_refused!(beyond, Error::BindingAxis { axis: 3, actual: 0, .. });
    let negative = bound(Binding::gated("head.weight", 0).outer(-1).inner(-1))?;
    assert_refused!(start(half, options(), negative), Error::Invalid { .. });
    let heads = start(half, options(), bound(Binding::gated("head.weight", 0).over_heads())?);
    assert_refused!(heads, Error::Invalid { name, .. } if name.starts_with("role of head.weight"));
    let mut twins = vit().space()?;
    twins.dimensions.push(twins.dimensions[0].clone());
    assert_refused!(start(half, options(), twins), Error::Invalid { name, .. } if name == "dimension name");
    Ok(())
}

/// A ViT with one more variable beside those of an MLP, of this name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WithVariable(String);

impl Architecture for WithVariable {
    type Network = VisionTransformer;

    const FAMILY: &'static str = "vit-with-variable";

    fn build(&self, path: &nn::Path) -> once_for_both::Result<VisionTransformer> {
        let _ = (path / "blocks" / 0 / "mlp").f_ones(&self.0, &[128])?;
        vit().build(path)
    }

    fn space(&self) -> once_for_both::Result<SearchSpace> {
        vit().space()
    }

    fn cost_model(&self) -> CostModel {
        vit().cost_model()
    }

    fn resized(&self, _: &Sizes) -> once_for_both::Result<Self> {
        Ok(self.clone())
    }
}

#[test]
fn variable_with_the_name_of_scores_or_alpha_of_a_dimension_is_refused() -> TestResult {
    let _alone = alone();
    let built = |own: &str| {
        let own = WithVariable(own.into());
        Supernet::new(own, vit().space()?, false, test_device()).map(drop)
    };
    built("slope")?;
    for (own, name) in
        [("alpha", "name of α of blocks.0.mlp"), ("score", "name of the scores of blocks.0.mlp")]
    {
        assert_refused!(built(own), Error::Invalid { name: ref found, ref actual, .. }
            if found == name && *actual == format!("blocks.0.mlp.{own}"));
    }
    Ok(())
}

#[test]
fn search_moves_to_another_thread() -> TestResult {
    fn expect_send<T: Send>(value: T) -> T {
        value
    }
    let _alone = alone();
    let search = expect_send(search(0.5)?);
    let thread = std::thread::spawn(move || search.steps_done());
    assert_eq!(thread.join().map_err(|_| "the thread panicked")?, 0);
    Ok(())
}
