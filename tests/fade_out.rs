//! Gate fade-out before pruning: neither the logits nor later steps change when units are pruned.

mod support;

use once_for_both::cost::Budget;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Event, Pruned, Search, SearchOptions};
use once_for_both::space::{DimensionKind, Size};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use support::tiny_run::{alone, fade_out_options, options, run, search_with, vit, STEPS};
use support::{numbers, test_device, TestResult, Tolerance};
use tch::{Kind, Tensor};

fn prune_steps(events: &[Event]) -> Vec<&Pruned> {
    let mut pruned = Vec::new();
    for event in events {
        if let Event::Pruned(prune_step) = event {
            pruned.push(prune_step);
        }
    }
    pruned
}

/// All of a search but the embedding: heads, channels and hidden units.
fn exact_search(options: SearchOptions) -> TestResult<Search<VitConfig>> {
    let mut space = vit().space()?;
    space.dimensions.retain(|dimension| dimension.kind != DimensionKind::Embedding);
    let builder = Search::of(vit()).space(space).budget(Budget::macs_share(0.6)).options(options);
    Ok(builder.device(test_device()).build()?)
}

#[test]
fn pruning_after_a_fade_out_leaves_the_logits_unchanged() -> TestResult {
    let _alone = alone();
    let mut search = exact_search(fade_out_options())?;
    let events = run(&mut search, STEPS)?;
    let pruned = prune_steps(&events);
    assert!(!pruned.is_empty(), "no unit was pruned");
    for prune_step in pruned {
        assert_eq!(prune_step.gate_jump, 0.0, "gates were not zero when their units were pruned");
        assert!(prune_step.total_jump <= 1e-5 * prune_step.logit_scale, "{prune_step:?}");
    }
    Ok(())
}

#[test]
fn pruning_without_a_fade_out_changes_the_logits() -> TestResult {
    let _alone = alone();
    let events = run(&mut exact_search(options())?, STEPS)?;
    let largest = prune_steps(&events)
        .iter()
        .map(|prune_step| prune_step.total_jump / prune_step.logit_scale)
        .fold(0.0, f64::max);
    assert!(largest > 1e-3, "the largest jump is {largest}");
    Ok(())
}

#[test]
fn fade_out_starts_at_the_present_gates_and_ends_at_the_narrowed_ones() -> TestResult {
    let _alone = alone();
    let mut supernet = Supernet::new(vit(), vit().space()?, true, test_device())?;
    let masks = |supernet: &Supernet<VitConfig>| -> TestResult<Vec<Tensor>> {
        Ok(supernet.masks(0.3)?.into_iter().map(|mask| mask.mask.detach()).collect())
    };
    let before = masks(&supernet)?;
    let sizes: Vec<(usize, Size)> = supernet
        .states()
        .iter()
        .enumerate()
        .map(|(at, state)| (at, state.candidates().size(0)))
        .collect();
    supernet.begin_fade_out(&sizes, &before, 0)?;
    for (before, after) in before.iter().zip(masks(&supernet)?) {
        Tolerance::relative(0.0).check("gates", &after, before)?;
    }
    // At the end they are those of the narrowed network.
    for state in supernet.states_mut() {
        state.fade_out.as_mut().ok_or("no fade-out")?.remaining = 0.0;
    }
    let faded = masks(&supernet)?;
    let kept: Vec<Vec<i64>> = supernet
        .states()
        .iter()
        .map(|state| Ok(state.fade_out.as_ref().ok_or("no fade-out")?.kept().to_vec()))
        .collect::<TestResult<_>>()?;
    supernet.narrow(&sizes)?;
    for ((faded, narrowed), kept) in faded.iter().zip(masks(&supernet)?).zip(kept) {
        let (all, narrow) = (numbers(faded)?, numbers(&narrowed)?);
        let stay: Vec<f64> = kept.iter().map(|&unit| all[unit as usize]).collect();
        assert_eq!(stay, narrow);
        let others = (0..all.len() as i64).filter(|unit| !kept.contains(unit));
        assert!(others.into_iter().all(|unit| all[unit as usize] == 0.0));
    }
    Ok(())
}

/// Pruning embedding channels changes the mean that LayerNorm subtracts. With a fade-out that is all:
/// variables that write into the embedding and norm scales fade out with the gates.
#[test]
fn fade_out_of_the_embedding_reduces_the_change_of_logits() -> TestResult {
    let _alone = alone();
    let largest = |options: SearchOptions| -> TestResult<f64> {
        let mut search = search_with(options, 0.5)?;
        let events = run(&mut search, STEPS)?;
        let pruned = prune_steps(&events);
        Ok(pruned
            .iter()
            .map(|prune_step| prune_step.total_jump / prune_step.logit_scale)
            .fold(0.0, f64::max))
    };
    let (faded, at_once) = (largest(fade_out_options())?, largest(options())?);
    assert!(faded < 0.5 * at_once, "{faded} after a fade-out, {at_once} without");
    Ok(())
}

/// Steps on a network with gates at zero, and on the same network with those units pruned: the
/// remaining weights, scores and moments move alike.
#[test]
fn steps_after_pruning_equal_those_with_gates_at_zero() -> TestResult {
    let _alone = alone();
    let mut wide_options = options();
    // λ = 0 and nothing is decided in between: all gates are 0 or 1.
    (wide_options.lambda.start, wide_options.lambda.end) = (0.0, 0.0);
    (wide_options.total_steps, wide_options.search_steps) = (40, 40);
    wide_options.pruning.interval = 100;
    wide_options.pmim = None;
    wide_options.init.preserve_dense = false;
    let start = || -> TestResult<Search<VitConfig>> {
        let mut search = exact_search(wide_options.clone())?;
        for state in search.supernet_mut().states_mut() {
            state.set_active(
                (0..state.candidates().len()).map(|candidate| candidate == 1).collect(),
            )?;
        }
        Ok(search)
    };
    let (mut wide, mut narrow) = (start()?, start()?);
    run(&mut wide, 3)?;
    run(&mut narrow, 3)?;
    let sizes: Vec<(usize, Size)> = narrow
        .supernet()
        .states()
        .iter()
        .enumerate()
        .map(|(at, state)| (at, state.candidates().size(1)))
        .collect();
    let narrowing = narrow.narrow(&sizes)?;
    let scalar = narrowing
        .apply("blocks.0.mlp.fc1.weight", &Tensor::zeros([0i64; 0], (Kind::Float, test_device())));
    assert_refused!(scalar, Error::Invalid { ref name, .. } if name == "axes of blocks.0.mlp.fc1.weight");
    run(&mut wide, 6)?;
    run(&mut narrow, 6)?;
    let expected = wide.supernet().raw_weights();
    for (name, weight) in narrow.supernet().raw_weights() {
        let mut weight = weight.shallow_clone();
        let mut expected = narrowing.apply(&name, &expected[&name])?;
        if name.ends_with("qkv.bias") {
            // The true gradient of the keys' bias is zero, and Adam amplifies its rounding.
            let without_keys = |bias: &Tensor| {
                let third = bias.size()[0] / 3;
                Tensor::cat(&[bias.narrow(0, 0, third), bias.narrow(0, 2 * third, third)], 0)
            };
            (weight, expected) = (without_keys(&weight), without_keys(&expected));
        }
        let close = Tolerance::of_scale(2e-5, &expected)?;
        close.check(&name, &weight, &expected)?;
    }
    Ok(())
}

#[test]
fn fade_out_that_starts_at_a_prune_step_continues_from_the_present_gates() -> TestResult {
    let _alone = alone();
    let mut options = fade_out_options().with(|o| o.pruning.interval = 4);
    options.optimiser.alpha_rate = Some(0.0);
    let mut search = exact_search(options)?;
    run(&mut search, 3)?;
    let state = &mut search.supernet_mut().states_mut()[1];
    let (all, name) = (state.candidates().len() as i64, state.name.clone());
    let alpha = Tensor::f_arange(all, (tch::Kind::Float, test_device()))?.f_mul_scalar(-2.0)?;
    state.set_alpha(&alpha.f_view(state.candidates().shape())?)?;
    run(&mut search, 5)?;
    assert!(search.supernet().states()[1].fade_out.is_some(), "{name} does not fade out");
    let gates = search.supernet().masks(search.lambda())?;
    // In this step the one is pruned and the sizes of the others are decided.
    let events = run(&mut search, 6)?;
    assert!(
        prune_steps(&events).iter().any(|prune_step| prune_step.units.contains_key(&name)),
        "{events:?}"
    );
    let mut fade_outs = 0;
    for (state, gates) in search.supernet().states().iter().zip(&gates) {
        let Some(fade_out) = state.fade_out.as_ref().filter(|_| state.name != name) else {
            continue;
        };
        fade_outs += 1;
        Tolerance::relative(0.0).check("gates", fade_out.initial_gates(), &gates.mask.detach())?;
    }
    assert!(fade_outs > 0, "nothing else fades out");
    Ok(())
}

#[test]
fn fade_out_as_long_as_the_search_is_refused() {
    let long = options().with(|o| o.pruning.fade_out_steps = 8);
    assert_refused!(long.check(), Error::Invalid { ref name, .. } if name == "pruning.fade_out_steps");
}

#[test]
fn current_macs_fall_at_every_prune_step() -> TestResult {
    let _alone = alone();
    let mut search = search_with(fade_out_options(), 0.4)?;
    let mut macs = f64::INFINITY;
    for event in run(&mut search, STEPS)? {
        match event {
            Event::Step(step) => {
                assert!(step.macs_current <= macs, "step {}", step.step);
                macs = step.macs_current;
            }
            Event::Pruned(prune_step) => {
                assert!(prune_step.macs < macs);
                macs = prune_step.macs;
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn narrow_to_an_unknown_dimension_or_size_is_refused() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.5)?;
    let beyond = [(99, Size::flat(4))];
    assert_refused!(search.narrow(&beyond), Error::Invalid { ref actual, .. } if actual == "99");
    for size in [Size::flat(33), Size::flat(0), Size { heads: 2, channels: 16 }] {
        assert_refused!(search.narrow(&[(0, size)]), Error::Invalid { .. });
    }
    let mut supernet = Supernet::new(vit(), vit().space()?, false, test_device())?;
    assert_refused!(supernet.begin_fade_out(&[(0, Size::flat(16))], &[], 0), Error::Invalid { .. });
    Ok(())
}
