//! Decisions under budgets, branches of one search, restricted spaces, two stages.

mod support;

use once_for_both::components::UnitImportance;
use once_for_both::cost::{Budget, CostLimit, Metric};
use once_for_both::models::{Architecture, Rope, VitConfig};
use once_for_both::search::{
    write_pareto, AlphaInit, ParetoPoint, Phase, Search, SearchOptions, Stages,
};
use once_for_both::space::{DimensionKind, SearchSpace, Size};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use support::tiny_run::{
    alone, batch, builder, fade_out_options, options, run, search_with, vit, STEPS,
};
use support::{numbers, test_device, TestResult};

fn macs(share: f64) -> TestResult<CostLimit> {
    Ok(Budget::macs_share(share).resolve(&vit().cost_model())?)
}

fn search(
    space: SearchSpace,
    limits: Vec<CostLimit>,
    options: SearchOptions,
) -> TestResult<Search<VitConfig>> {
    let budgets = limits.into_iter().map(Budget::from);
    let builder = Search::of(vit()).space(space).budgets(budgets).options(options);
    Ok(builder.device(test_device()).build()?)
}

/// Cheapest and dearest cost of the active candidates.
fn range(search: &Search<VitConfig>, metric: Metric) -> TestResult<(f64, f64)> {
    let supernet = search.supernet();
    let candidates: Vec<Vec<Size>> = supernet
        .states()
        .iter()
        .map(|state| {
            state.active.numbers().map(|candidate| state.candidates().size(candidate)).collect()
        })
        .collect();
    Ok(supernet.cost_model().range(metric, supernet.space(), &candidates)?)
}

/// At every prune step cheapest ≤ budget ≤ dearest, for any α; the subnet meets the budget.
#[test]
fn active_candidates_can_meet_the_budget_at_every_decision() -> TestResult {
    let _alone = alone();
    for (seed, share) in [(1, 0.35), (2, 0.5), (3, 0.7), (4, 0.9), (5, 0.5), (6, 0.45)] {
        for decide_early in [false, true] {
            let own = fade_out_options().with(|o| o.pruning.decide_early = decide_early);
            let mut search = search_with(own, share)?;
            let limit = search.limits()[0].limit;
            while search.phase() == Phase::Search {
                // α far apart, other candidates each time: many want to go, often the wrong ones.
                once_for_both::randomness::seed(seed * 100 + search.steps_done());
                for state in search.supernet_mut().states_mut() {
                    let alpha = state.alpha.detach().randn_like() * 6.0;
                    state.set_alpha(&alpha)?;
                }
                let step = search.steps_done();
                search.step(&[batch(step)?], &mut ())?;
                let (least, most) = range(&search, Metric::Macs)?;
                assert!(least <= limit, "step {step} at {share}: {least} > {limit}");
                if search.phase() == Phase::Search && !search.supernet().is_decided() {
                    assert!(limit <= most, "step {step} at {share}: {most} < {limit}");
                }
            }
            let supernet = search.supernet();
            let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
            assert!(reached <= limit, "{reached} MACs at a budget of {limit}");
        }
    }
    Ok(())
}

#[test]
fn search_under_two_budgets_meets_both() -> TestResult {
    let _alone = alone();
    let model = vit().cost_model();
    let budgets = vec![macs(0.6)?, Budget::params_share(0.5).resolve(&model)?];
    let mut search = search(vit().space()?, budgets.clone(), options())?;
    run(&mut search, STEPS)?;
    let sizes = search.supernet().sizes();
    for budget in budgets {
        let cost = search.supernet().cost_model().cost(budget.metric, &sizes)?;
        assert!(cost <= budget.limit, "{cost} {}, allowed {}", budget.metric.name(), budget.limit);
    }
    Ok(())
}

#[test]
fn branches_of_one_search_meet_their_own_budgets() -> TestResult {
    let _alone = alone();
    let wanted = [macs(0.4)?, macs(0.5)?, macs(0.7)?];
    let open = fade_out_options().with(|o| {
        o.budget.decide_at_end = false;
        o.budget.keep_feasible = vec![wanted[0].into(), wanted[2].into()];
    });
    let mut search = search(vit().space()?, vec![wanted[1]], open)?;
    run(&mut search, 9)?;
    assert_eq!(search.phase(), Phase::Search);
    let points = search.pareto(&[wanted[2].into(), wanted[0].into(), wanted[1].into()])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pareto.json");
    write_pareto(&file, &points)?;
    let read: Vec<ParetoPoint> = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    assert_eq!(read, points);
    let before = search.supernet().sizes();
    for (point, budget) in points.iter().zip(&wanted) {
        assert_eq!(point.budget, *budget);
        assert!(point.macs <= budget.limit);
        let mut branch = search.branch(&[(*budget).into()], 3)?;
        while !branch.is_done() {
            let step = branch.steps_done();
            branch.step(&[batch(step)?], &mut ())?;
        }
        let supernet = branch.supernet();
        let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
        assert!(reached <= budget.limit, "{reached} MACs, budget {}", budget.limit);
        assert_eq!(branch.phase(), Phase::Finetune);
    }
    // The search itself is unchanged and continues.
    assert_eq!(search.supernet().sizes(), before);
    run(&mut search, 10)?;
    assert_refused!(search.pareto(&[Budget::macs_share(0.01)]), Error::Infeasible { .. });
    let mut ended = search_with(options(), 0.5)?;
    run(&mut ended, STEPS)?;
    assert_refused!(ended.branch(&[Budget::macs_share(0.4)], 1), Error::Invalid { ref name, .. } if name == "phase");
    Ok(())
}

#[test]
fn keep_feasible_budget_outside_the_space_is_refused() -> TestResult {
    let _alone = alone();
    let far = options().with(|o| o.budget.keep_feasible = vec![Budget::macs(1.0)]);
    let refused = search_with(far, 0.5);
    assert!(refused.is_err_and(|error| error.to_string().contains("range of this search space")));
    Ok(())
}

#[test]
fn dimensions_outside_the_space_stay_dense() -> TestResult {
    let _alone = alone();
    let space = vit().space()?.only(&["blocks.0.mlp", "blocks.1.attn"])?;
    let mut search = search(space, vec![macs(0.8)?], options())?;
    run(&mut search, STEPS)?;
    let network = search.supernet().architecture();
    assert_eq!(network.embed_dim, 32);
    assert_eq!(network.blocks[1].hidden_dim, 128);
    assert_eq!(network.blocks[0].attention_dim(), 32);
    assert!(
        search.supernet().cost_model().cost(Metric::Macs, &search.supernet().sizes())?
            <= macs(0.8)?.limit
    );
    assert_refused!(vit().space()?.only(&["blocks.7.mlp"]), Error::Unknown { .. });
    Ok(())
}

#[test]
fn dimension_with_a_least_size_stays_above_it() -> TestResult {
    let _alone = alone();
    let mut space = vit().space()?;
    for dimension in vit().space()?.dimensions {
        let least = match dimension.kind {
            DimensionKind::Attention => Size { heads: 2, channels: 6 },
            _ => Size::flat(dimension.candidates.channels() * 3 / 4),
        };
        space = space.at_least(&dimension.name, least)?;
    }
    let mut search = search(space, vec![macs(0.65)?], options())?;
    run(&mut search, STEPS)?;
    for state in search.supernet().states() {
        let size = state.candidates().full();
        let enough = if size.heads > 1 { size.channels >= 6 } else { size.channels >= 24 };
        assert!(enough, "{}: {size:?}", state.name);
    }
    assert_refused!(vit().space()?.at_least("embed", Size::flat(33)), Error::Candidates { .. });
    let above = vit().space()?.at_least_share(DimensionKind::Hidden, 1.5);
    assert_refused!(above, Error::Invalid { ref name, .. } if name == "least share of the channels");
    let whole =
        vit().space()?.removable_branches().at_least_share(DimensionKind::Attention, 1.0)?;
    for own in whole.dimensions {
        let fixed = own.kind != DimensionKind::Attention || own.candidates.widths().len() == 1;
        assert!(fixed && (own.kind != DimensionKind::Attention || !own.candidates.removable()));
    }
    Ok(())
}

/// Dropped candidates of undecided dimensions are considered where active ones leave the budget
/// unused.
#[test]
fn projection_uses_dropped_candidates_where_a_budget_would_go_unused() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.5)?;
    let limit = search.limits()[0].limit;
    let embed = search.supernet().states().iter().position(|s| s.name == "embed").ok_or("embed")?;
    for (at, state) in search.supernet_mut().states_mut().iter_mut().enumerate() {
        // The smallest candidate and the next, so that the dearest choice is far below the budget; the
        // embedding is decided.
        let (all, chosen) = (state.candidates().len(), state.candidates().len() / 2);
        let kept = |candidate: usize| if at == embed { candidate == chosen } else { candidate < 2 };
        state.set_active((0..all).map(kept).collect())?;
    }
    let (_, dearest) = range(&search, Metric::Macs)?;
    assert!(dearest < 0.9 * limit, "{dearest} of {limit}");
    let projection = search.project(search.limits())?;
    let cost = projection.costs[0];
    assert!(cost <= limit && cost >= 0.98 * limit, "{cost} of {limit}");
    let states = search.supernet().states().iter();
    for (at, (state, &candidate)) in states.zip(&projection.candidates).enumerate() {
        assert!(at != embed || state.active.decided() == Some(candidate), "{}", state.name);
    }
    // No active choice is this cheap or this dear, but there are units for both.
    for state in search.supernet_mut().states_mut() {
        let all = state.candidates().len();
        state.set_active((0..all).map(|candidate| candidate + 2 >= all).collect())?;
    }
    let (least, _) = range(&search, Metric::Macs)?;
    assert!(least > limit, "{least}, budget {limit}");
    assert!(search.project(search.limits())?.costs[0] <= limit);
    Ok(())
}

#[test]
fn projection_leaves_out_candidates_above_a_fade_out() -> TestResult {
    let _alone = alone();
    let early = options().with(|o| o.pruning.fade_out_steps = 2);
    let mut search = search_with(early, 0.5)?;
    let at = search.supernet().states().iter().position(|s| s.name == "blocks.0.mlp");
    let at = at.ok_or("blocks.0.mlp")?;
    let state = &mut search.supernet_mut().states_mut()[at];
    let all = state.candidates().len();
    let alpha = tch::Tensor::from_slice(
        &(0..all).map(|c| if c < 2 { 9.0f32 } else { 0.0 }).collect::<Vec<_>>(),
    );
    state.set_alpha(&alpha.view(state.candidates().shape()).to_device(test_device()))?;
    run(&mut search, 1)?;
    let state = &search.supernet().states()[at];
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

#[test]
fn branch_during_a_fade_out_meets_its_budget() -> TestResult {
    let _alone = alone();
    let long = options().with(|o| o.pruning.fade_out_steps = 3);
    let mut search = search_with(long, 0.5)?;
    let is_fading_out = |search: &Search<VitConfig>| {
        search.supernet().states().iter().any(|state| state.fade_out.is_some())
    };
    while !is_fading_out(&search) && search.phase() == Phase::Search {
        let step = search.steps_done();
        run(&mut search, step + 1)?;
    }
    assert!(is_fading_out(&search) && !search.supernet().is_decided());
    let mut branch = search.branch(&[Budget::macs_share(0.45)], 1)?;
    while !branch.is_done() {
        let step = branch.steps_done();
        branch.step(&[batch(step)?], &mut ())?;
    }
    assert_eq!(branch.phase(), Phase::Finetune);
    let supernet = branch.supernet();
    let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
    assert!(reached <= macs(0.45)?.limit, "{reached}");
    Ok(())
}

#[test]
fn space_declared_in_reverse_order_meets_the_budget() -> TestResult {
    let _alone = alone();
    let mut space = vit().space()?;
    space.dimensions.reverse();
    let mut search = search(space, vec![macs(0.5)?], options())?;
    run(&mut search, STEPS)?;
    let supernet = search.supernet();
    assert!(supernet.cost_model().cost(Metric::Macs, &supernet.sizes())? <= macs(0.5)?.limit);
    Ok(())
}

#[test]
fn two_stages_learn_scores_first_and_alpha_second() -> TestResult {
    let _alone = alone();
    for importance in [
        UnitImportance::Learned,
        UnitImportance::Magnitude { mean: 2.0, std: 0.5 },
        UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.5 },
    ] {
        let mut options = SearchOptions::two_stage(STEPS, 8);
        (options.log_interval, options.pruning.interval) = (1, 100);
        let mut search = builder(options, 0.5).importance(importance).build()?;
        let state = |search: &Search<VitConfig>| -> TestResult<(Vec<f64>, Vec<f64>)> {
            let state = &search.supernet().states()[0];
            Ok((numbers(&state.score)?, numbers(&state.alpha)?))
        };
        let mut before = state(&search)?;
        for step in 0..7 {
            search.step(&[batch(step)?], &mut ())?;
            let after = state(&search)?;
            assert_eq!(after.0 != before.0, step < 4, "{importance:?}: scores in step {step}");
            assert_eq!(after.1 != before.1, step >= 4, "{importance:?}: α in step {step}");
            before = after;
        }
        run(&mut search, STEPS)?;
        assert!(search.supernet().is_decided());
    }
    Ok(())
}

#[test]
fn even_alpha_peaks_at_an_even_network_within_the_budget() -> TestResult {
    let _alone = alone();
    let even = options().with(|o| o.init.alpha = AlphaInit::Even { spread: 0.3 });
    let search = search_with(even, 0.5)?;
    let mut sizes = once_for_both::space::Sizes::new();
    let mut shares = Vec::new();
    for state in search.supernet().states() {
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
    let cost = search.supernet().cost_model().cost(Metric::Macs, &sizes)?;
    let limit = search.limits()[0].limit;
    assert!(cost <= limit && cost >= 0.8 * limit, "{cost} of {limit}");
    // Embedding and hidden widths have a candidate every 1/32 and 1/8, heads and channels fewer.
    let (least, most) = shares.iter().fold((1.0f64, 0.0f64), |(l, m), &s| (l.min(s), m.max(s)));
    assert!(most - least < 0.25, "{shares:?}");
    let flat = options().with(|o| o.init.alpha = AlphaInit::Even { spread: 0.0 });
    assert_refused!(flat.check(), Error::Invalid { ref name, .. } if name == "init.alpha.even.spread");
    Ok(())
}

#[test]
fn branch_in_the_first_steps_meets_its_budget() -> TestResult {
    let _alone = alone();
    for order in [Stages::One, Stages::Two { importance_steps: 6 }] {
        let long = options().with(|o| {
            o.pruning.fade_out_steps = 3;
            o.stages = order;
        });
        let mut search = search_with(long, 0.5)?;
        run(&mut search, 1)?;
        let mut branch = search.branch(&[Budget::macs_share(0.6)], 2)?;
        while !branch.is_done() {
            let step = branch.steps_done();
            branch.step(&[batch(step)?], &mut ())?;
        }
        let supernet = branch.supernet();
        let reached = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
        assert!(supernet.is_decided() && reached <= macs(0.6)?.limit, "{order:?}: {reached}");
    }
    let late = options().with(|o| o.stages = Stages::Two { importance_steps: 8 });
    assert_refused!(late.check(), Error::Invalid { .. });
    let estimated = SearchOptions::new(STEPS, 8);
    let staged = estimated.with(|o| o.stages = Stages::Two { importance_steps: 4 });
    assert_refused!(staged.check(), Error::Invalid { ref name, .. } if name == "stages");
    Ok(())
}

#[test]
fn branch_has_the_final_weight_of_the_teacher_of_its_own_length() -> TestResult {
    let _alone = alone();
    let final_weight = |options: SearchOptions, steps: u64| -> TestResult<Option<f64>> {
        let mut search = search_with(options.with(|own| own.budget.decide_at_end = false), 0.5)?;
        run(&mut search, 1)?;
        let branch = search.branch(&[Budget::macs_share(0.6)], steps)?;
        Ok(branch.options().training.distillation.and_then(|own| own.final_weight))
    };
    // A parent without fine-tuning of its own, and one with a long one.
    for parent in [SearchOptions::new(20, 20), SearchOptions::new(1020, 20)] {
        for (steps, expected) in [(40, 0.9), (300, 0.45), (600, 0.0)] {
            assert_eq!(final_weight(parent.clone(), steps)?, Some(expected), "{steps}");
        }
        let own = |weight| {
            parent.clone().with(|own| {
                let taught = own.training.distillation.as_mut();
                taught.into_iter().for_each(|own| own.final_weight = weight);
            })
        };
        assert_eq!(final_weight(own(Some(0.3)), 600)?, Some(0.3));
        assert_eq!(final_weight(own(None), 600)?, None);
    }
    Ok(())
}

/// Where units are pairs, the least size and the sizes in errors are in channels, as in summaries.
#[test]
fn sizes_of_pairs_of_channels_are_given_and_told_in_channels() -> TestResult {
    let _alone = alone();
    let rotary = VitConfig {
        rope: Some(Rope::Normalised { base: 100.0 }),
        ..VitConfig::uniform(64, 2, 2).input(16, 3, 4).classes(5)
    };
    let name = "blocks.0.attn";
    let widths = |channels| -> TestResult<Vec<i64>> {
        let mut space = rotary.space()?.at_least(name, Size { heads: 2, channels })?;
        Ok(space.dimension_mut(name)?.candidates.widths().to_vec())
    };
    // Heads of 32 channels are 16 pairs.
    let all = rotary.space()?.dimension_mut(name)?.candidates.widths().to_vec();
    assert!(all[0] < 10 && all[all.len() - 1] == 16, "{all:?}");
    let wide = |least| all.iter().copied().filter(|width| *width >= least).collect::<Vec<_>>();
    assert_eq!((widths(20)?, widths(19)?), (wide(10), wide(10)));
    assert_eq!(widths(32)?, [16]);
    let mut supernet = Supernet::new(rotary.clone(), rotary.space()?, false, test_device())?;
    let at = supernet.states().iter().position(|own| own.name == name).ok_or(name)?;
    assert_refused!(
        supernet.narrow(&[(at, Size { heads: 2, channels: 20 })]),
        Error::Invalid { expected, actual, .. } if expected == "within 2 × 32" && actual == "2 × 40"
    );
    Ok(())
}
