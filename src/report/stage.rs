//! Stages of a run, and their progress.

use crate::search::{Event, Finished, Phase, StepMetrics};

/// One stage of a run, such as dense training or a search: its name, length and events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stage {
    /// Name, shown on the page.
    pub name: String,
    /// Planned optimiser steps; `None` where unknown.
    pub steps: Option<u64>,
    /// Events in order of occurrence, read by [`crate::search::read_events`] for example.
    pub events: Vec<Event>,
}

impl Stage {
    /// Returns the optimiser steps done, according to the events.
    pub fn done(&self) -> u64 {
        let step = |event: &Event| match event {
            Event::Step(metrics) => metrics.step + 1,
            Event::Pruned(pruned) => pruned.step,
            Event::Finished(finished) => finished.step,
            Event::Latency(check) => check.step,
            Event::Decided { step, .. }
            | Event::NonFinite { step, .. }
            | Event::Checkpoint { step }
            | Event::Evaluated { step, .. } => *step,
        };
        self.events.iter().map(step).max().unwrap_or(0)
    }

    /// Returns whether all planned steps are done; false where their number is unknown.
    pub fn is_done(&self) -> bool {
        self.steps.is_some_and(|steps| self.done() >= steps)
    }

    /// Logged steps, in order.
    pub(super) fn logged(&self) -> impl DoubleEndedIterator<Item = &StepMetrics> {
        self.events.iter().filter_map(|event| match event {
            Event::Step(metrics) => Some(metrics),
            _ => None,
        })
    }

    /// Whether it is, or contains, a search.
    pub(super) fn searches(&self) -> bool {
        self.logged().any(|metrics| metrics.phase == Phase::Search) || self.finished().is_some()
    }

    /// End of its search.
    pub(super) fn finished(&self) -> Option<&Finished> {
        Finished::of(&self.events)
    }

    /// Last logged step of its search.
    pub(super) fn last_of_search(&self) -> Option<&StepMetrics> {
        self.logged().rev().find(|metrics| metrics.phase == Phase::Search)
    }

    /// Steps and top-1 of its evaluations.
    pub(super) fn top1(&self) -> Vec<[f64; 2]> {
        let evaluated = self.events.iter().filter_map(|event| match event {
            Event::Evaluated { step, top1 } => Some([*step as f64, *top1]),
            _ => None,
        });
        evaluated.collect()
    }

    /// Steps and current MACs of its prune steps.
    pub(super) fn prunings(&self) -> impl Iterator<Item = [f64; 2]> + '_ {
        self.events.iter().filter_map(|event| match event {
            Event::Pruned(pruned) => Some([pruned.step as f64, pruned.macs]),
            _ => None,
        })
    }

    /// Upper end of a step axis that shows the whole stage.
    pub(super) fn extent(&self) -> f64 {
        self.done() as f64
    }
}

/// CSS class of each stage's colour: teal for the first search, slate for the first other stage.
pub(super) fn hues(stages: &[Stage]) -> Vec<&'static str> {
    let mut others = ["slate", "ochre", "indigo", "rose"].into_iter().cycle();
    let mut searches = ["teal", "rose", "indigo"].into_iter().cycle();
    let hue = |stage: &Stage| {
        let hue = if stage.searches() { searches.next() } else { others.next() };
        hue.unwrap_or("slate")
    };
    stages.iter().map(hue).collect()
}
