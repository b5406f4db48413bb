//! Entropy and expected units, against plain sums.

use crate::support::tiny_run::{alone, batch, fade_out_options, run, session, session_with, vit};
use crate::support::{numbers, softmax, test_device, TestResult};
use once_for_both::models::Architecture;
use once_for_both::models::VitConfig;
use once_for_both::search::{
    DimensionMetrics, Event, Method, Phase, Search, SearchOptions, StepMetrics,
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

/// What the α of now say.
fn expected(session: &Search<VitConfig>) -> TestResult<BTreeMap<String, DimensionMetrics>> {
    let began: BTreeMap<_, _> = vit()
        .space()?
        .dimensions
        .into_iter()
        .map(|d| (d.name, d.candidates.len() as f64))
        .collect();
    let mut dimensions = BTreeMap::new();
    for state in session.supernet().states() {
        let p = softmax(&numbers(&state.alpha)?, state.active.flags());
        let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let units = state.candidates().sizes().map(|size| size.units() as f64);
        let expected = p.iter().zip(units).map(|(p, units)| p * units).sum();
        let entropy = entropy / began[&state.name].ln();
        dimensions.insert(state.name.clone(), DimensionMetrics { entropy, expected });
    }
    Ok(dimensions)
}

#[test]
fn they_are_those_of_the_candidates_left_until_the_search_has_finished() -> TestResult {
    let _alone = alone();
    // No cell is dropped after a logged step, so that the state of then is the state of now.
    let mut options = fade_out_options();
    options.prune_interval = 1;
    let mut session = session_with(options, 0.5, Method::of)?;
    let mut compared = 0;
    while !session.is_done() {
        let active: Vec<_> = session.supernet().states().iter().map(|s| s.active.count()).collect();
        let events = {
            let until = session.steps_done() + 1;
            run(&mut session, until)?
        };
        let metrics = logged(&events)[0];
        assert_eq!(metrics.dimensions.is_empty(), metrics.phase == Phase::Finetune);
        let now: Vec<_> = session.supernet().states().iter().map(|s| s.active.count()).collect();
        if metrics.phase == Phase::Finetune || active != now {
            continue;
        }
        compared += 1;
        let expected = expected(&session)?;
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
fn the_candidates_it_began_with_are_known_after_a_resume() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = once_for_both::search::Checkpoints::new(folder.path(), 1);
    let mut session = session(0.5)?;
    run(&mut session, 6)?;
    let path = checkpoints.save(&session)?;
    let began = |session: &Search<VitConfig>| -> Vec<usize> {
        session.supernet().states().iter().map(|state| state.candidates_at_start).collect()
    };
    let full: Vec<usize> = vit().space()?.dimensions.iter().map(|d| d.cells.len()).collect();
    assert_eq!(began(&session), full);
    assert_eq!(began(&Search::resume(&path, test_device())?), full);
    assert_ne!(
        session.supernet().states().iter().map(|s| s.cells().len()).collect::<Vec<_>>(),
        full
    );
    Ok(())
}

#[test]
fn plain_training_has_none_and_lines_of_before_are_read() -> TestResult {
    let _alone = alone();
    let mut options = SearchOptions::training(1);
    options.log_interval = 1;
    let mut session = Search::new(vit(), vit().space()?, None, vec![], options, test_device())?;
    let mut events = Vec::new();
    session.step(&[batch(0)?], &mut |event: &Event| {
        events.push(event.clone());
        Ok(())
    })?;
    assert!(logged(&events)[0].dimensions.is_empty());
    let line = serde_json::to_string(&events[0])?;
    assert!(!line.contains("dimensions"), "{line}");
    assert_eq!(serde_json::from_str::<Event>(&line)?, events[0]);
    Ok(())
}
