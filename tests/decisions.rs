//! Budgets are promises, and one search serves many of them.

mod support;

use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{
    write_pareto, AlphaStart, Event, Method, Order, ParetoPoint, Phase, Search, SearchOptions,
};
use once_for_both::space::{DimensionKind, SearchSpace, Size};
use once_for_both::Error;
use support::tiny_run::{alone, batch, fade_out_options, options, run, session_with, vit, STEPS};
use support::{numbers, test_device, TestResult};

fn macs(share: f64) -> TestResult<Budget> {
    Ok(Budget::share(Metric::Macs, share, &vit().cost_model())?)
}

fn session(
    space: SearchSpace,
    budgets: Vec<Budget>,
    options: SearchOptions,
) -> TestResult<Search<VitConfig>> {
    Ok(Search::new(vit(), space, None, budgets, options, test_device())?)
}

/// Cheapest and dearest cost of the active candidates.
fn range(session: &Search<VitConfig>, metric: Metric) -> TestResult<(f64, f64)> {
    let supernet = session.supernet();
    let candidates: Vec<Vec<Size>> = supernet
        .states()
        .iter()
        .map(|state| {
            state.active.numbers().map(|candidate| state.candidates().size(candidate)).collect()
        })
        .collect();
    Ok(supernet.cost_model().range(metric, supernet.space(), &candidates)?)
}

/// Whatever α says, at every decision cheapest ≤ budget ≤ dearest; and the subnet keeps the budget
/// and lies within a candidate of it.
#[test]
fn the_active_candidates_can_meet_the_budget_at_every_decision() -> TestResult {
    let _alone = alone();
    for (seed, share) in [(1, 0.35), (2, 0.5), (3, 0.7), (4, 0.9), (5, 0.5), (6, 0.45)] {
        for decide_early in [false, true] {
            let own = SearchOptions { decide_early, ..fade_out_options() };
            let mut session = session_with(own, share, Method::of)?;
            let limit = session.budgets()[0].limit;
            while session.phase() == Phase::Search {
                // α far apart, other candidates each time: many want to go, often the wrong ones.
                tch::manual_seed(seed * 100 + session.steps_done() as i64);
                for state in session.supernet_mut().states_mut() {
                    let alpha = state.alpha.detach().randn_like() * 6.0;
                    state.set_alpha(&alpha)?;
                }
                let step = session.steps_done();
                session.step(&[batch(step)?], &mut |_: &Event| Ok(()))?;
                let (least, most) = range(&session, Metric::Macs)?;
                assert!(least <= limit, "step {step} at {share}: {least} > {limit}");
                if session.phase() == Phase::Search && !session.supernet().is_decided() {
                    assert!(limit <= most, "step {step} at {share}: {most} < {limit}");
                }
            }
            let supernet = session.supernet();
            let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
            assert!(reached <= limit, "{reached} MACs at a budget of {limit}");
        }
    }
    Ok(())
}

#[test]
fn two_limits_hold_at_once() -> TestResult {
    let _alone = alone();
    let model = vit().cost_model();
    let budgets = vec![macs(0.6)?, Budget::share(Metric::Params, 0.5, &model)?];
    let mut session = session(vit().space()?, budgets.clone(), options())?;
    run(&mut session, STEPS)?;
    let sizes = session.supernet().sizes();
    for budget in budgets {
        let cost = session.supernet().cost_model().cost(budget.metric, &sizes)?;
        assert!(cost <= budget.limit, "{cost} {}, allowed {}", budget.metric.name(), budget.limit);
    }
    Ok(())
}

/// One search, stopped nowhere: subnets for three budgets, each fine-tuned on its own.
#[test]
fn one_search_yields_subnets_for_several_budgets() -> TestResult {
    let _alone = alone();
    let wanted = [macs(0.4)?, macs(0.5)?, macs(0.7)?];
    let open = SearchOptions {
        decide_at_end: false,
        reach: vec![wanted[0], wanted[2]],
        ..fade_out_options()
    };
    let mut search = session(vit().space()?, vec![wanted[1]], open)?;
    run(&mut search, 9)?;
    assert_eq!(search.phase(), Phase::Search);
    let points = search.pareto(&[wanted[2], wanted[0], wanted[1]])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pareto.json");
    write_pareto(&file, &points)?;
    let read: Vec<ParetoPoint> = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    assert_eq!(read, points);
    let before = search.supernet().sizes();
    for (point, budget) in points.iter().zip(&wanted) {
        assert_eq!(point.budget, *budget);
        assert!(point.macs <= budget.limit);
        let mut branch = search.branch(vec![*budget], 3)?;
        while !branch.is_done() {
            let step = branch.steps_done();
            branch.step(&[batch(step)?], &mut |_: &Event| Ok(()))?;
        }
        let supernet = branch.supernet();
        let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
        assert!(reached <= budget.limit, "{reached} MACs, budget {}", budget.limit);
        assert_eq!(branch.phase(), Phase::Finetune);
    }
    // The search itself is where it was, and goes on.
    assert_eq!(search.supernet().sizes(), before);
    run(&mut search, 10)?;
    assert_refused!(search.pareto(&[macs(0.01)?]), Error::Infeasible { .. });
    let mut ended = session_with(options(), 0.5, Method::of)?;
    run(&mut ended, STEPS)?;
    assert_refused!(ended.branch(vec![macs(0.4)?], 1), Error::Invalid { ref name, .. } if name == "phase");
    Ok(())
}

#[test]
fn a_reach_beyond_the_space_is_refused() -> TestResult {
    let far = SearchOptions { reach: vec![Budget::macs(1.0)], ..options() };
    let refused = Search::new(vit(), vit().space()?, None, vec![macs(0.5)?], far, test_device());
    assert_refused!(refused, Error::Infeasible { .. });
    Ok(())
}

#[test]
fn chosen_dimensions_are_searched_and_the_others_stay() -> TestResult {
    let _alone = alone();
    let space = vit().space()?.only(&["blocks.0.mlp", "blocks.1.attn"])?;
    let mut session = session(space, vec![macs(0.8)?], options())?;
    run(&mut session, STEPS)?;
    let network = session.supernet().architecture();
    assert_eq!(network.embed_dim, 32);
    assert_eq!(network.blocks[1].hidden_dim, 128);
    assert_eq!(network.blocks[0].attention_dim(), 32);
    assert!(
        session.supernet().cost_model().cost(Metric::Macs, &session.supernet().sizes())?
            <= macs(0.8)?.limit
    );
    assert_refused!(vit().space()?.only(&["blocks.7.mlp"]), Error::Unknown { .. });
    Ok(())
}

#[test]
fn no_dimension_falls_below_its_smallest_size() -> TestResult {
    let _alone = alone();
    let mut space = vit().space()?;
    for dimension in vit().space()?.dimensions {
        let least = match dimension.kind {
            DimensionKind::Attention => Size { heads: 2, channels: 6 },
            _ => Size::flat(dimension.candidates.channels() * 3 / 4),
        };
        space = space.at_least(&dimension.name, least)?;
    }
    let mut session = session(space, vec![macs(0.65)?], options())?;
    run(&mut session, STEPS)?;
    for state in session.supernet().states() {
        let size = state.candidates().full();
        let enough = if size.heads > 1 { size.channels >= 6 } else { size.channels >= 24 };
        assert!(enough, "{}: {size:?}", state.name);
    }
    assert_refused!(vit().space()?.at_least("embed", Size::flat(33)), Error::Candidates { .. });
    Ok(())
}

/// Where the active candidates have nothing near the budget, dropped ones are looked at again; but not
/// those of a decided dimension.
#[test]
fn dropped_candidates_come_back_where_a_budget_would_go_unused() -> TestResult {
    let _alone = alone();
    let mut session = session_with(options(), 0.5, Method::of)?;
    let limit = session.budgets()[0].limit;
    let embed =
        session.supernet().states().iter().position(|s| s.name == "embed").ok_or("embed")?;
    for (at, state) in session.supernet_mut().states_mut().iter_mut().enumerate() {
        // The smallest candidate and the next, so that the dearest choice is far below the budget; the
        // embedding is decided.
        let (all, chosen) = (state.candidates().len(), state.candidates().len() / 2);
        let kept = |candidate: usize| if at == embed { candidate == chosen } else { candidate < 2 };
        state.set_active((0..all).map(kept).collect())?;
    }
    let (_, dearest) = range(&session, Metric::Macs)?;
    assert!(dearest < 0.9 * limit, "{dearest} of {limit}");
    let projection = session.project(session.budgets())?;
    let cost = projection.costs[0];
    assert!(cost <= limit && cost >= 0.98 * limit, "{cost} of {limit}");
    let states = session.supernet().states().iter();
    for (at, (state, &candidate)) in states.zip(&projection.candidates).enumerate() {
        assert!(at != embed || state.active.decided() == Some(candidate), "{}", state.name);
    }
    // No active choice is this cheap or this dear, but there are units for both.
    for state in session.supernet_mut().states_mut() {
        let all = state.candidates().len();
        state.set_active((0..all).map(|candidate| candidate + 2 >= all).collect())?;
    }
    let (least, _) = range(&session, Metric::Macs)?;
    assert!(least > limit, "{least}, budget {limit}");
    assert!(session.project(session.budgets())?.costs[0] <= limit);
    Ok(())
}

/// A unit on its way out stays out of the choice.
#[test]
fn what_is_landing_does_not_come_back() -> TestResult {
    let _alone = alone();
    let early = SearchOptions { fade_out_steps: 2, ..options() };
    let mut session = session_with(early, 0.5, Method::of)?;
    let at = session.supernet().states().iter().position(|s| s.name == "blocks.0.mlp");
    let at = at.ok_or("blocks.0.mlp")?;
    let state = &mut session.supernet_mut().states_mut()[at];
    let all = state.candidates().len();
    let alpha = tch::Tensor::from_slice(
        &(0..all).map(|c| if c < 2 { 9.0f32 } else { 0.0 }).collect::<Vec<_>>(),
    );
    state.set_alpha(&alpha.view(state.candidates().shape()).to_device(test_device()))?;
    run(&mut session, 1)?;
    let state = &session.supernet().states()[at];
    let size = state.fade_out.as_ref().ok_or("no fade_out")?.size;
    assert_eq!(size, state.active.largest());
    let within = |candidate: usize| state.candidates().size(candidate).channels <= size.channels;
    assert_eq!(
        state.possible_candidates(),
        (0..all).filter(|&candidate| within(candidate)).collect::<Vec<_>>()
    );
    assert!(state.possible_candidates().len() < all);
    Ok(())
}

/// A branch taken while units are fade-out waits for them, and keeps its budget all the same.
#[test]
fn a_branch_can_be_taken_amid_a_landing() -> TestResult {
    let _alone = alone();
    let long = SearchOptions { fade_out_steps: 3, ..options() };
    let mut search = session_with(long, 0.5, Method::of)?;
    let is_fading_out = |session: &Search<VitConfig>| {
        session.supernet().states().iter().any(|state| state.fade_out.is_some())
    };
    while !is_fading_out(&search) && search.phase() == Phase::Search {
        let step = search.steps_done();
        run(&mut search, step + 1)?;
    }
    assert!(is_fading_out(&search) && !search.supernet().is_decided());
    let mut branch = search.branch(vec![macs(0.45)?], 1)?;
    while !branch.is_done() {
        let step = branch.steps_done();
        branch.step(&[batch(step)?], &mut |_: &Event| Ok(()))?;
    }
    assert_eq!(branch.phase(), Phase::Finetune);
    let supernet = branch.supernet();
    let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
    assert!(reached <= macs(0.45)?.limit, "{reached}");
    Ok(())
}

/// The order of declaration says nothing: the embedding may come last.
#[test]
fn a_space_declared_backwards_is_searched() -> TestResult {
    let _alone = alone();
    let mut space = vit().space()?;
    space.dimensions.reverse();
    let mut session = session(space, vec![macs(0.5)?], options())?;
    run(&mut session, STEPS)?;
    let supernet = session.supernet();
    assert!(supernet.cost_model().cost(Metric::Macs, &supernet.sizes())? <= macs(0.5)?.limit);
    Ok(())
}

/// Importance first: α waits for the first stage, scores for the second.
#[test]
fn two_stages_learn_one_after_the_other() -> TestResult {
    let _alone = alone();
    let mut options = SearchOptions::two_stage(STEPS, 8);
    (options.log_interval, options.prune_interval) = (1, 100);
    let mut session = session_with(options, 0.5, Method::of)?;
    let state = |session: &Search<VitConfig>| -> TestResult<(Vec<f64>, Vec<f64>)> {
        let state = &session.supernet().states()[0];
        Ok((numbers(&state.score)?, numbers(&state.alpha)?))
    };
    let mut before = state(&session)?;
    for step in 0..7 {
        session.step(&[batch(step)?], &mut |_: &Event| Ok(()))?;
        let after = state(&session)?;
        assert_eq!(after.0 != before.0, step < 4, "scores in step {step}");
        assert_eq!(after.1 != before.1, step >= 4, "α in step {step}");
        before = after;
    }
    run(&mut session, STEPS)?;
    assert!(session.supernet().is_decided());
    Ok(())
}

/// α starts highest at an even narrowing that just keeps the budget.
#[test]
fn an_even_start_points_at_an_even_network_within_the_budget() -> TestResult {
    let _alone = alone();
    let even = SearchOptions { alpha_start: AlphaStart::Even { spread: 0.3 }, ..options() };
    let session = session_with(even, 0.5, Method::of)?;
    let mut sizes = once_for_both::space::Sizes::new();
    let mut shares = Vec::new();
    for state in session.supernet().states() {
        let alpha = numbers(&state.alpha)?;
        // Of candidates equally near, the smaller.
        let best = (0..alpha.len())
            .rev()
            .max_by(|&a, &b| alpha[a].total_cmp(&alpha[b]))
            .ok_or("candidate")?;
        let size = state.candidates().size(best);
        shares.push(size.units() as f64 / state.candidates().units() as f64);
        sizes.insert(state.name.clone(), size);
    }
    let cost = session.supernet().cost_model().cost(Metric::Macs, &sizes)?;
    let limit = session.budgets()[0].limit;
    assert!(cost <= limit && cost >= 0.8 * limit, "{cost} of {limit}");
    // Embedding and hidden widths have a candidate every 1/32 and 1/8, heads and channels fewer.
    let (least, most) = shares.iter().fold((1.0f64, 0.0f64), |(l, m), &s| (l.min(s), m.max(s)));
    assert!(most - least < 0.25, "{shares:?}");
    let flat = SearchOptions { alpha_start: AlphaStart::Even { spread: 0.0 }, ..options() };
    assert_refused!(flat.check(), Error::Invalid { ref name, .. } if name == "alpha_start.spread");
    Ok(())
}

/// A branch may be taken before a fade-out would have had time, and in the first of two stages.
#[test]
fn a_branch_can_be_taken_early() -> TestResult {
    let _alone = alone();
    for order in [Order::Together, Order::ImportanceFirst { steps: 6 }] {
        let long = SearchOptions { fade_out_steps: 3, order, ..options() };
        let mut search = session_with(long, 0.5, Method::of)?;
        run(&mut search, 1)?;
        let mut branch = search.branch(vec![macs(0.6)?], 2)?;
        while !branch.is_done() {
            let step = branch.steps_done();
            branch.step(&[batch(step)?], &mut |_: &Event| Ok(()))?;
        }
        let supernet = branch.supernet();
        let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
        assert!(supernet.is_decided() && reached <= macs(0.6)?.limit, "{order:?}: {reached}");
    }
    let late = SearchOptions { order: Order::ImportanceFirst { steps: 8 }, ..options() };
    assert_refused!(late.check(), Error::Invalid { .. });
    Ok(())
}
