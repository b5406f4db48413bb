//! Units land before they are cut, and a cut changes nothing: not the logits, not what later steps
//! do.

mod support;

use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Event, Method, Pruned, Search, SearchOptions};
use once_for_both::space::{DimensionKind, Size};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use support::tiny_run::{alone, fade_out_options, options, run, session_with, vit, STEPS};
use support::{numbers, test_device, TestResult, Tolerance};
use tch::Tensor;

fn cuts(events: &[Event]) -> Vec<&Cut> {
    let mut cuts = Vec::new();
    for event in events {
        if let Event::Pruned(cut) = event {
            cuts.push(cut);
        }
    }
    cuts
}

/// All of a search but the embedding: heads, channels and hidden units.
fn exact_session(options: SearchOptions) -> TestResult<Search<VitConfig>> {
    let mut space = vit().space()?;
    space.dimensions.retain(|dimension| dimension.kind != DimensionKind::Embedding);
    let model = vit().cost_model();
    let budget =
        once_for_both::cost::Budget::share(once_for_both::cost::Metric::Macs, 0.6, &model)?;
    Ok(Search::new(vit(), space, None, vec![budget], options, test_device())?)
}

#[test]
fn heads_channels_and_hidden_units_leave_without_a_jump() -> TestResult {
    let _alone = alone();
    let mut session = exact_session(fade_out_options())?;
    let events = run(&mut session, STEPS)?;
    let cuts = cuts(&events);
    assert!(!cuts.is_empty(), "no unit has left");
    for cut in cuts {
        assert_eq!(cut.gate_jump, 0.0, "units were still there when they were cut");
        assert!(cut.total_jump <= 1e-5 * cut.logit_scale, "{cut:?}");
    }
    Ok(())
}

/// Cut at once, the same units make the logits jump.
#[test]
fn without_a_landing_the_logits_jump() -> TestResult {
    let _alone = alone();
    let events = run(&mut exact_session(options())?, STEPS)?;
    let largest =
        cuts(&events).iter().map(|cut| cut.total_jump / cut.logit_scale).fold(0.0, f64::max);
    assert!(largest > 1e-3, "the largest jump is {largest}");
    Ok(())
}

/// The gates of a fade-out start where they were: choosing sizes changes nothing either.
#[test]
fn a_landing_begins_at_the_gates_there_were() -> TestResult {
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
    // And they end at those of the narrowed network.
    for state in supernet.states_mut() {
        state.fade_out.as_mut().ok_or("no fade_out")?.remaining = 0.0;
    }
    let faded = masks(&supernet)?;
    let kept: Vec<Vec<i64>> = supernet
        .states()
        .iter()
        .map(|state| Ok(state.fade_out.as_ref().ok_or("no fade_out")?.kept()?))
        .collect::<TestResult<_>>()?;
    supernet.narrow(&sizes)?;
    for ((faded, narrowed), kept) in faded.iter().zip(masks(&supernet)?).zip(kept) {
        let (all, narrow) = (numbers(faded)?, numbers(&narrowed)?);
        let stay: Vec<f64> = kept.iter().map(|&unit| all[unit as usize]).collect();
        assert_eq!(stay, narrow);
        let leave = (0..all.len() as i64).filter(|unit| !kept.contains(unit));
        assert!(leave.into_iter().all(|unit| all[unit as usize] == 0.0));
    }
    Ok(())
}

/// Embedding channels: writers land too and the norms are turned down with them, so what is left of
/// the jump is what the mean of the residual stream makes.
#[test]
fn an_embedding_cut_jumps_less_after_a_landing() -> TestResult {
    let _alone = alone();
    let largest = |options: SearchOptions| -> TestResult<f64> {
        let mut session = session_with(options, 0.5, Method::of)?;
        let events = run(&mut session, STEPS)?;
        let cuts = cuts(&events);
        Ok(cuts.iter().map(|cut| cut.total_jump / cut.logit_scale).fold(0.0, f64::max))
    };
    let (faded, at_once) = (largest(fade_out_options())?, largest(options())?);
    assert!(faded < 0.5 * at_once, "{faded} after a fade_out, {at_once} at once");
    Ok(())
}

/// One step on a wide network whose leaving units have gates of zero, and on the network cut down
/// to the others: weights, moments and scores that both have move alike.
#[test]
fn steps_after_a_cut_are_those_of_a_network_that_was_narrow_from_the_start() -> TestResult {
    let _alone = alone();
    let mut wide_options = options();
    // V alone, and nothing decided on the way: gates are 0 and 1.
    (wide_options.lambda.start, wide_options.lambda.end) = (0.0, 0.0);
    (wide_options.total_steps, wide_options.search_steps) = (40, 40);
    wide_options.prune_interval = 100;
    wide_options.pmim = None;
    wide_options.start_at_dense = false;
    let start = || -> TestResult<Search<VitConfig>> {
        let mut session = exact_session(wide_options.clone())?;
        for state in session.supernet_mut().states_mut() {
            state.set_active(
                (0..state.candidates().len()).map(|candidate| candidate == 1).collect(),
            )?;
        }
        Ok(session)
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

/// Where one fade-out ends as the others begin, gates go on from where they were too.
#[test]
fn a_cut_does_not_make_the_next_landing_jump() -> TestResult {
    let _alone = alone();
    let mut options = SearchOptions { prune_interval: 4, ..fade_out_options() };
    options.optimiser.alpha_rate = 0.0;
    let mut session = exact_session(options)?;
    run(&mut session, 3)?;
    let state = &mut session.supernet_mut().states_mut()[1];
    let (all, name) = (state.candidates().len() as i64, state.name.clone());
    let alpha = Tensor::f_arange(all, (tch::Kind::Float, test_device()))?.f_mul_scalar(-2.0)?;
    state.set_alpha(&alpha.f_view(state.candidates().shape())?)?;
    run(&mut session, 5)?;
    assert!(session.supernet().states()[1].fade_out.is_some(), "{name} does not land");
    let gates = session.supernet().masks(session.lambda())?;
    // The step in which the one is cut and sizes are chosen for the others.
    let events = run(&mut session, 6)?;
    assert!(cuts(&events).iter().any(|cut| cut.units.contains_key(&name)), "{events:?}");
    let mut fade_outs = 0;
    for (state, gates) in session.supernet().states().iter().zip(&gates) {
        let Some(fade_out) = state.fade_out.as_ref().filter(|_| state.name != name) else {
            continue;
        };
        fade_outs += 1;
        Tolerance::relative(0.0).check("gates", fade_out.from(), &gates.mask.detach())?;
    }
    assert!(fade_outs > 0, "nothing else lands");
    Ok(())
}

#[test]
fn a_landing_as_long_as_the_search_is_refused() {
    let long = SearchOptions { fade_out_steps: 8, ..options() };
    assert_refused!(long.check(), Error::Invalid { ref name, .. } if name == "fade_out_steps");
}

/// Steps get cheaper: what the metrics call active MACs falls at every cut.
#[test]
fn active_macs_fall_with_every_cut() -> TestResult {
    let _alone = alone();
    let mut session = session_with(fade_out_options(), 0.4, Method::of)?;
    let mut macs = f64::INFINITY;
    for event in run(&mut session, STEPS)? {
        match event {
            Event::Step(step) => {
                assert!(step.macs_current <= macs, "step {}", step.step);
                macs = step.macs_current;
            }
            Event::Pruned(cut) => {
                assert!(cut.macs < macs);
                macs = cut.macs;
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn dimensions_and_sizes_there_are_not_are_refused() -> TestResult {
    let _alone = alone();
    let mut session = session_with(options(), 0.5, Method::of)?;
    let beyond = [(99, Size::flat(4))];
    assert_refused!(session.narrow(&beyond), Error::Invalid { ref actual, .. } if actual == "99");
    for size in [Size::flat(33), Size::flat(0), Size { heads: 2, channels: 16 }] {
        assert_refused!(session.narrow(&[(0, size)]), Error::Invalid { .. });
    }
    let mut supernet = Supernet::new(vit(), vit().space()?, false, test_device())?;
    assert_refused!(supernet.begin_fade_out(&[(0, Size::flat(16))], &[], 0), Error::Invalid { .. });
    Ok(())
}
