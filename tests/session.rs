//! A whole search of a tiny ViT: the budget is kept, cuts are exact, a resumed run equals an
//! uninterrupted one, and what is extracted is what was searched.

mod support;

use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{
    read_events, Checkpoints, Event, Listener, Method, MetricsFile, Search, SearchOptions,
};
use once_for_both::space::{Binding, SearchSpace, Size};
use once_for_both::subnet::{verify, Export, FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use support::tiny_run::{
    alone, batch, fade_out_options, options, run, session, session_with, vit, without_times, STEPS,
};
use support::{numbers, test_device, TestResult, Tolerance};
use tch::{Kind, Tensor};

#[test]
fn a_search_keeps_its_budget_and_cuts_exactly() -> TestResult {
    let _alone = alone();
    for share in [0.35, 0.5, 0.8] {
        let mut session = session(share)?;
        let events = run(&mut session, STEPS)?;
        let cuts: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Pruned(cut) => Some(cut),
                _ => None,
            })
            .collect();
        assert!(!cuts.is_empty(), "no unit left at a budget of {share}");
        for cut in &cuts {
            let allowed = 1e-5 * cut.logit_scale;
            assert!(cut.exact_difference <= allowed, "{} > {allowed}", cut.exact_difference);
        }
        assert!(session.supernet().is_decided());
        let subnet = FoldingExtractor.extract(session.supernet())?;
        let limit = session.budgets()[0].limit;
        assert!(subnet.macs()? <= limit, "{} MACs, budget {limit}", subnet.macs()?);
        assert_eq!(subnet.macs()?, cuts[cuts.len() - 1].macs);
    }
    Ok(())
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() -> TestResult {
    let _alone = alone();
    for options in [options(), fade_out_options()] {
        let session = || session_with(options.clone(), 0.5, Method::of);
        let mut whole = session()?;
        let expected = run(&mut whole, STEPS)?;
        for stop in 1..STEPS {
            let folder = tempfile::tempdir()?;
            let mut first = session()?;
            let mut events = run(&mut first, stop)?;
            let checkpoint = Checkpoints::new(folder.path(), 2).save(&first)?;
            let mut second = Search::<VitConfig>::resume(&checkpoint, test_device())?;
            assert_eq!(second.steps_done(), stop);
            events.extend(run(&mut second, STEPS)?);
            assert_eq!(without_times(&events), without_times(&expected), "stopped after {stop}");
            expect_equal(&second, &whole, &format!("after a stop at {stop}"))?;
            if options.average.is_some() {
                second.swap_ema_weights()?;
                whole.swap_ema_weights()?;
                expect_equal(&second, &whole, &format!("averages after a stop at {stop}"))?;
                whole.swap_ema_weights()?;
            }
        }
    }
    Ok(())
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

/// From the choice to the last cut the network is still too large: no subnet is made of it.
#[test]
fn nothing_is_extracted_while_units_are_on_their_way_out() -> TestResult {
    let _alone = alone();
    let mut session = session_with(fade_out_options(), 0.5, Method::of)?;
    let limit = session.budgets()[0].limit;
    let mut refused = 0;
    while !session.is_done() {
        let step = session.steps_done();
        run(&mut session, step + 1)?;
        session.materialise()?;
        match FoldingExtractor.extract(session.supernet()) {
            Ok(subnet) => assert!(subnet.macs()? <= limit, "{} of {limit}", subnet.macs()?),
            Err(Error::Invalid { name, .. }) if name.starts_with("size of") => refused += 1,
            Err(Error::Invalid { name, .. }) => {
                assert!(name.starts_with("active candidates"), "{name}")
            }
            Err(other) => return Err(other.into()),
        }
    }
    assert!(refused > 0, "no step lay between choice and cut");
    FoldingExtractor.extract(session.supernet())?;
    Ok(())
}

#[test]
fn metrics_of_a_resumed_run_are_those_of_an_uninterrupted_one() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let events = run(&mut session(0.5)?, STEPS)?;
    for stop in 0..=STEPS {
        let path = folder.path().join(format!("{stop}.jsonl"));
        let mut earlier = MetricsFile::open(&path, 0)?;
        events.iter().try_for_each(|event| earlier.on_event(event))?;
        // What the checkpoint at `stop` has seen stays, what comes after is written again.
        let seen = |event: &&Event| match event {
            Event::Step(metrics) => metrics.step < stop,
            Event::Pruned(cut) => cut.step <= stop,
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
fn damaged_and_foreign_checkpoints_are_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let saved = Checkpoints::new(folder.path(), 2).save(&session(0.5)?)?;
    let state = std::fs::read_to_string(saved.join("state.json"))?;
    let refuse = |text: &str, part: &str| -> TestResult {
        std::fs::write(saved.join("state.json"), text)?;
        match Search::<VitConfig>::resume(&saved, test_device()) {
            Err(Error::File { reason, .. }) if reason.contains(part) => Ok(()),
            other => Err(format!("expected a reason with {part}, got {other:?}").into()),
        }
    };
    refuse(&state.replace("\"version\": 1", "\"version\": 99"), "version 99")?;
    refuse(&state.replace("once-for-both/checkpoint", "other"), "format other")?;
    refuse(&state[..state.len() / 2], "EOF")?;
    refuse(&state.replace("\"family\": \"vit\"", "\"family\": \"swin\""), "family swin")?;
    // What fits no dimension is not left out without a word.
    let mut short: serde_json::Value = serde_json::from_str(&state)?;
    short["dimensions"].as_array_mut().ok_or("dimensions")?.pop();
    std::fs::write(saved.join("state.json"), short.to_string())?;
    match Search::<VitConfig>::resume(&saved, test_device()) {
        Err(Error::Resume { path, source }) => {
            assert_eq!(path, saved);
            assert!(source.to_string().contains("number of dimensions"), "{source}");
        }
        other => return Err(format!("expected a refusal, got {other:?}").into()),
    }
    std::fs::write(saved.join("state.json"), &state)?;
    let tensors = std::fs::read(saved.join("tensors.safetensors"))?;
    std::fs::write(saved.join("tensors.safetensors"), &tensors[..tensors.len() / 2])?;
    assert_refused!(
        Search::<VitConfig>::resume(&saved, test_device()),
        Error::File { path, .. } if path.ends_with("tensors.safetensors")
    );
    Ok(())
}

#[test]
fn the_extracted_network_is_the_masked_one_also_from_disk() -> TestResult {
    let _alone = alone();
    let mut session = session(0.5)?;
    run(&mut session, STEPS)?;
    session.materialise()?;
    let subnet = FoldingExtractor.extract(session.supernet())?;
    let images = batch(99)?.images;
    let verification = verify(session.supernet(), &subnet, &images)?;
    assert!(verification.max_abs_logit_difference() <= 1e-5 * verification.logit_scale);

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    subnet.save(&path, &images, &verification, &Export::default().torchscript().onnx())?;
    let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
    assert_eq!(loaded.architecture(), subnet.architecture());
    assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));

    // A network with one weight changed is not the masked one.
    let mut wrong = subnet
        .weights()
        .iter()
        .map(|(n, t)| (n.clone(), t.copy()))
        .collect::<std::collections::BTreeMap<_, _>>();
    let bias = wrong.get_mut("head.bias").ok_or("no head")?;
    let _ = tch::no_grad(|| bias.f_add_scalar_(0.1))?;
    let wrong = Subnet::new(subnet.architecture().clone(), &wrong, test_device())?;
    assert_refused!(
        verify(session.supernet(), &wrong, &images),
        Error::Verification { begins: Some(part), .. } if part == "head"
    );

    let weights = std::fs::read(path.join("model.safetensors"))?;
    std::fs::write(path.join("model.safetensors"), &weights[..weights.len() - 1])?;
    assert_refused!(Subnet::<VitConfig>::load(&path, test_device()), Error::Artifact { .. });
    Ok(())
}

#[test]
fn an_undecided_supernet_is_not_extracted() -> TestResult {
    let _alone = alone();
    let session = session(0.5)?;
    assert_refused!(FoldingExtractor.extract(session.supernet()), Error::Invalid { .. });
    Ok(())
}

#[test]
fn gates_of_one_are_the_dense_network_and_absorbed_gates_change_nothing() -> TestResult {
    let _alone = alone();
    let supernet = Supernet::new(vit(), vit().space()?, true, test_device())?;
    let images = batch(0)?.images;
    let dense = supernet.network_logits(&images)?;
    let ones: Vec<Tensor> = supernet.masks(0.5)?.iter().map(|m| m.mask.ones_like()).collect();
    supernet.materialise(&ones)?;
    assert!(supernet.network_logits(&images)?.equal(&dense));
    let masks: Vec<Tensor> = supernet.masks(0.5)?.into_iter().map(|m| m.mask.detach()).collect();
    supernet.absorb(&masks)?;
    supernet.materialise(&masks)?;
    let close = Tolerance::of_scale(1e-5, &dense)?;
    close.check("logits", &supernet.network_logits(&images)?, &dense)?;
    assert_refused!(supernet.materialise(&masks[1..]), Error::Invalid { .. });
    Ok(())
}

#[test]
fn narrowing_keeps_the_most_important_units_of_every_tensor() -> TestResult {
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
    assert_eq!(narrowing.kept(2)?, Some(kept));
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
fn what_cannot_work_is_refused_before_any_step() -> TestResult {
    let _alone = alone();
    let model = vit().cost_model();
    let start = |budget, options, space| {
        Search::new(vit(), space, None, vec![budget], options, test_device())
    };
    let half = Budget::share(Metric::Macs, 0.5, &model)?;
    let dense = model.dense_cost(Metric::Macs)?;
    for limit in [0.01 * dense, 1.01 * dense] {
        let refused = start(Budget::macs(limit), options(), vit().space()?);
        assert_refused!(refused, Error::Infeasible { budget, most, .. } if budget == limit && most == dense);
    }
    assert_refused!(start(half, SearchOptions::new(4, 5), vit().space()?), Error::Invalid { name, .. } if name == "search_steps");
    let mut wrong = options();
    wrong.lambda.start = 1.5;
    assert_refused!(start(half, wrong, vit().space()?), Error::Invalid { .. });
    let mut wrong = options();
    wrong.pmim = wrong.pmim.map(|pmim| once_for_both::search::PmimOptions { window: 46, ..pmim });
    assert_refused!(start(half, wrong, vit().space()?), Error::Invalid { .. });
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
