//! The stages of a run, and how far they have come.

use crate::search::{Event, Finished, Phase, StepMetrics};

/// One session of a run: dense training, search with fine-tuning, and so on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stage {
    /// What it is called.
    pub name: String,
    /// Optimiser steps it is meant to take, where that is known.
    pub steps: Option<u64>,
    /// What its listeners were told, in order, for instance by [`crate::search::read_events`].
    pub events: Vec<Event>,
}

impl Stage {
    /// Optimiser steps done, as far as events tell.
    pub fn done(&self) -> u64 {
        let step = |event: &Event| match event {
            Event::Step(metrics) => metrics.step + 1,
            Event::Pruned(cut) => cut.step,
            Event::Finished(finished) => finished.step,
            Event::Decided { step, .. }
            | Event::NonFinite { step, .. }
            | Event::Checkpoint { step }
            | Event::Evaluated { step, .. } => *step,
        };
        self.events.iter().map(step).max().unwrap_or(0)
    }

    /// Whether it has taken all its steps; no, where their number is not known.
    pub fn is_done(&self) -> bool {
        self.steps.is_some_and(|steps| self.done() >= steps)
    }

    /// The logged steps.
    pub(super) fn logged(&self) -> impl DoubleEndedIterator<Item = &StepMetrics> {
        self.events.iter().filter_map(|event| match event {
            Event::Step(metrics) => Some(metrics),
            _ => None,
        })
    }

    /// Whether anything is searched in it.
    pub(super) fn searches(&self) -> bool {
        self.logged().any(|metrics| metrics.phase == Phase::Search) || self.finished().is_some()
    }

    /// How its search ended, if it has.
    pub(super) fn finished(&self) -> Option<&Finished> {
        self.events.iter().find_map(|event| match event {
            Event::Finished(finished) => Some(finished),
            _ => None,
        })
    }

    /// The last logged step of its search.
    pub(super) fn last_of_search(&self) -> Option<&StepMetrics> {
        self.logged().rev().find(|metrics| metrics.phase == Phase::Search)
    }

    /// Steps an axis for the whole stage reaches to.
    pub(super) fn extent(&self) -> f64 {
        self.done() as f64
    }
}

/// The colour of every stage: searches have the accent, others take what is left in turn.
pub(super) fn hues(stages: &[Stage]) -> Vec<&'static str> {
    let mut others = ["slate", "ochre", "indigo", "rose"].into_iter().cycle();
    let mut searches = ["teal", "rose", "indigo"].into_iter().cycle();
    let hue = |stage: &Stage| {
        let hue = if stage.searches() { searches.next() } else { others.next() };
        hue.unwrap_or("slate")
    };
    stages.iter().map(hue).collect()
}
