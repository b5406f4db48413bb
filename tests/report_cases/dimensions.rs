//! Entropy and expected units of logged steps, compared with plain sums.

use crate::support::tiny_run::{alone, batch, fade_out_options, run, search, search_with, vit};
use crate::support::{numbers, softmax, test_device, TestResult};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{
    Checkpoints, DimensionMetrics, Event, Phase, Search, SearchOptions, StepMetrics,
};
use std::collections::BTreeMap;

fn logged(events: &[Event]) -> Vec<&StepMetrics> {
    fn step(event: &Event) -> Option<&StepMetrics> {
        match event {
            Event::Step(metrics) => Some(metrics),
            _ => None,
        }
    }
    events.iter().filter_map(step).collect()
}

/// Metrics computed from α as it is now.
fn expected(search: &Search<VitConfig>) -> TestResult<BTreeMap<String, DimensionMetrics>> {
    let at_start: BTreeMap<_, _> = vit()
        .space()?
        .dimensions
        .into_iter()
        .map(|d| (d.name, d.candidates.len() as f64))
        .collect();
    let mut dimensions = BTreeMap::new();
    for state in search.supernet().states() {
        let p = softmax(&numbers(&state.alpha)?, state.active.flags());
        let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let units = state.candidates().sizes().map(|size| size.units() as f64);
        let expected = p.iter().zip(units).map(|(p, units)| p * units).sum();
        let entropy = entropy / at_start[&state.name].ln();
        dimensions.insert(state.name.clone(), DimensionMetrics { entropy, expected });
    }
    Ok(dimensions)
}

#[test]
fn dimension_metrics_of_a_search_equal_plain_sums_over_active_candidates() -> TestResult {
    let _alone = alone();
    // Only steps after which no candidate is dropped are compared: the state is then still that of
    // the logged step.
    let mut options = fade_out_options();
    options.pruning.interval = 1;
    let mut search = search_with(options, 0.5)?;
    let mut compared = 0;
    while !search.is_done() {
        let active: Vec<_> = search.supernet().states().iter().map(|s| s.active.count()).collect();
        let until = search.steps_done() + 1;
        let events = run(&mut search, until)?;
        let metrics = logged(&events)[0];
        assert_eq!(metrics.dimensions.is_empty(), metrics.phase == Phase::Finetune);
        let now: Vec<_> = search.supernet().states().iter().map(|s| s.active.count()).collect();
        if metrics.phase == Phase::Finetune || active != now {
            continue;
        }
        compared += 1;
        let expected = expected(&search)?;
        assert_eq!(metrics.dimensions.len(), 5);
        for (name, found) in &metrics.dimensions {
            let expected = expected[name];
            assert!(
                (found.entropy - expected.entropy).abs() < 1e-5,
                "{name}: {found:?} {expected:?}"
            );
            assert!(
                (found.expected - expected.expected).abs() < 1e-3,
                "{name}: {found:?} {expected:?}"
            );
            assert!((0.0..=1.0).contains(&found.entropy), "{name}: {found:?}");
        }
    }
    assert!(compared >= 2, "{compared}");
    Ok(())
}

#[test]
fn candidates_at_start_after_resume_equal_those_of_the_search_space() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::new(folder.path(), 1);
    let mut search = search(0.5)?;
    run(&mut search, 6)?;
    let path = checkpoints.save(&search)?;
    let at_start = |search: &Search<VitConfig>| -> Vec<usize> {
        search.supernet().states().iter().map(|state| state.candidates_at_start).collect()
    };
    let full: Vec<usize> = vit().space()?.dimensions.iter().map(|d| d.candidates.len()).collect();
    assert_eq!(at_start(&search), full);
    assert_eq!(at_start(&Search::resume(&path, test_device())?), full);
    assert_ne!(
        search.supernet().states().iter().map(|s| s.candidates().len()).collect::<Vec<_>>(),
        full
    );
    Ok(())
}

#[test]
fn step_event_of_plain_training_has_no_dimensions_and_is_read_back() -> TestResult {
    let _alone = alone();
    let options = SearchOptions::training(1).with(|o| o.log_interval = 1);
    let mut search = Search::of(vit()).options(options).device(test_device()).build()?;
    let mut events = Vec::new();
    search.step(&[batch(0)?], &mut |event: &Event| {
        events.push(event.clone());
        Ok(())
    })?;
    assert!(logged(&events)[0].dimensions.is_empty());
    let line = serde_json::to_string(&events[0])?;
    assert!(!line.contains("dimensions"), "{line}");
    assert_eq!(serde_json::from_str::<Event>(&line)?, events[0]);
    Ok(())
}
