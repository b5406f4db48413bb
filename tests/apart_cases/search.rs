//! Searches of networks whose queries and keys are apart from values.

use crate::support::tiny_run::{
    alone, batch, expect_resumed_bit_exact, fade_out_options, run, vit, STEPS,
};
use crate::support::{test_device, TestResult};
use crate::{network, swin};
use once_for_both::components::UnitImportance;
use once_for_both::cost::Budget;
use once_for_both::models::{Architecture, SwinConfig, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::search::{Event, Search, SearchBuilder, SearchOptions};
use once_for_both::space::{DimensionKind, SearchSpace};
use once_for_both::subnet::{Export, Subnet};

/// Options that decide by estimates, in rounds of two steps.
fn estimated() -> SearchOptions {
    SearchOptions::new(STEPS, 8).seed(3).with(|o| {
        o.log_interval = 1;
        o.pruning.interval = 2;
        o.pruning.fade_out_steps = 1;
        o.training.ema_decay = Some(0.9);
    })
}

/// A search from a trained network, whose queries and keys are apart from values.
fn builder<A: Architecture>(
    architecture: &A,
    options: SearchOptions,
    share: f64,
) -> TestResult<SearchBuilder<A>> {
    once_for_both::randomness::seed(7);
    let apart = network(architecture)?.qk_v_apart()?;
    let space = apart.architecture().space()?.removable_branches();
    let builder = Search::of(apart.architecture().clone()).space(space).options(options);
    let builder = builder.weights(apart.weights()).budget(Budget::macs_share(share));
    Ok(builder.device(test_device()))
}

fn search<A: Architecture>(
    architecture: &A,
    options: SearchOptions,
    share: f64,
) -> TestResult<Search<A>> {
    Ok(builder(architecture, options, share)?.build()?)
}

fn expect_search_is_exact<A: Architecture>(architecture: &A, options: SearchOptions) -> TestResult {
    // In bf16, sums over other numbers of channels are rounded otherwise.
    let rounding = match options.training.precision {
        Precision::F32 => 1e-5,
        _ => 2.0 * 2_f64.powi(-7),
    };
    let mut search = search(architecture, options, 0.3)?;
    let dense = search.supernet().cost_model().dense.clone();
    for event in run(&mut search, STEPS)? {
        if let Event::Pruned(pruned) = event {
            assert!(pruned.exact_difference <= rounding * pruned.logit_scale, "{pruned:?}");
        }
    }
    let sizes = search.supernet().sizes();
    let mut queries = sizes.iter().filter(|(name, _)| name.ends_with(".qk"));
    assert!(queries.any(|(name, size)| size.channels < dense[name].channels), "{sizes:?}");
    let images = batch(99)?.images;
    let subnet = search.extract(&images)?;
    assert!(subnet.macs()? <= search.limits()[0].limit);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    subnet.save(&path, &Export::default().torchscript().onnx())?;
    let loaded = Subnet::<A>::load(&path, test_device())?;
    assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    expect_searched_again(&loaded)
}

/// Checks that a search of a subnet is exact to the end, and narrows its queries and keys.
fn expect_searched_again<A: Architecture>(subnet: &Subnet<A>) -> TestResult {
    let again = Search::of(subnet.architecture().clone()).weights(subnet.weights());
    let again = again.budget(Budget::macs_share(0.6)).options(estimated());
    let mut again = again.device(test_device()).build()?;
    for event in run(&mut again, STEPS)? {
        if let Event::Pruned(pruned) = event {
            assert!(pruned.exact_difference <= 1e-5 * pruned.logit_scale, "{pruned:?}");
        }
    }
    let before = subnet.architecture().cost_model().dense;
    let sizes = again.supernet().sizes();
    let mut queries = sizes.iter().filter(|(name, _)| name.ends_with(".qk"));
    assert!(queries.any(|(name, size)| size.channels < before[name].channels), "{sizes:?}");
    let extracted = again.extract(&batch(99)?.images)?;
    assert!(extracted.macs()? <= again.limits()[0].limit);
    let verification = &extracted.verification;
    let difference = verification.max_abs_logit_difference();
    assert!(difference <= 1e-5 * verification.logit_scale.max(1.0), "{verification:?}");
    Ok(())
}

#[test]
fn search_with_queries_and_keys_apart_is_exact_to_the_artifact() -> TestResult {
    let _alone = alone();
    let bf16 = estimated().with(|o| o.training.precision = Precision::Bf16);
    expect_search_is_exact(&vit().layer_scale(0.5), bf16)?;
    expect_search_is_exact(&swin(), fade_out_options())
}

/// The dense network, which has all branches, teaches.
#[test]
fn search_with_queries_and_keys_apart_resumed_after_any_stop_is_bit_exact() -> TestResult {
    let _alone = alone();
    let whole = expect_resumed_bit_exact(|| search(&vit(), estimated(), 0.15), &[3, 9])?;
    assert!(whole.supernet().sizes().values().any(|size| size.is_removed()));
    Ok(())
}

/// Sizes are decided in rounds: an attention is removed while the width of its queries and keys, which then costs nothing,
/// has several candidates.
#[test]
fn search_by_magnitude_goes_on_after_the_attention_of_undecided_queries_is_removed() -> TestResult {
    let _alone = alone();
    // At which step the attention is removed and its queries are decided depends on the budget.
    let mut found = Vec::new();
    for share in [0.15, 0.2, 0.25, 0.3, 0.4] {
        let steps = removal_and_decision(share)?;
        found.push(steps);
        if let [Some(removed_at), Some(decided_at)] = steps {
            if removed_at < decided_at {
                return Ok(());
            }
        }
    }
    panic!("no attention is removed before its queries are decided: {found:?}")
}

/// Searches by magnitude to the end; returns the steps at which the attention of a block is removed, and the width of its
/// queries and keys decided.
fn removal_and_decision(share: f64) -> TestResult<[Option<u64>; 2]> {
    let importance = UnitImportance::Magnitude { mean: 2.0, std: 0.5 };
    // The heads' own estimates, so that the attention is removed early.
    let options = estimated().with(|own| own.pruning.head_shrinkage = 0.0);
    let mut search = builder(&vit(), options, share)?.importance(importance).build()?;
    let events = run(&mut search, STEPS)?;
    let removed_at = events.iter().find_map(|event| match event {
        Event::Pruned(own) if own.units.get("blocks.1.attn").is_some_and(|own| own[1] == 0) => {
            Some(own.step)
        }
        _ => None,
    });
    let decided_at = events.iter().find_map(|event| match event {
        Event::Decided { step, dimension, .. } if dimension == "blocks.1.attn.qk" => Some(*step),
        _ => None,
    });
    let subnet = search.extract(&batch(99)?.images)?;
    assert!(subnet.macs()? <= search.limits()[0].limit);
    Ok([removed_at, decided_at])
}

/// Checks that a search of the space for half of the MACs is not refused.
fn expect_searchable<A: Architecture>(network: &A, space: SearchSpace) -> TestResult {
    let search = Search::of(network.clone()).space(space).options(SearchOptions::new(100, 60));
    Ok(search.budget(Budget::macs_share(0.5)).check()?)
}

#[test]
fn check_accepts_queries_and_keys_apart_of_the_presets() -> TestResult {
    let vit = VitConfig::deit_small().qk_v_apart()?;
    expect_searchable(&vit, vit.space()?.removable_branches())?;
    expect_searchable(&vit, vit.space()?.multiple_of(DimensionKind::Attention, 32)?)?;
    let swin = SwinConfig::tiny().qk_v_apart()?;
    expect_searchable(&swin, swin.space()?)?;
    expect_searchable(&swin, swin.space()?.removable_branches())
}
