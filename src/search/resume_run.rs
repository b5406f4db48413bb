//! Resumption of a run: the newest checkpoint that is of the search that a builder describes.

use super::checkpoint::{Checkpoints, Resumed, CHECKPOINTS};
use super::differences::{expect_options, expect_same_origin};
use super::options::SearchOptions;
use super::resume::Snapshot;
use super::step::Search;
use super::SearchBuilder;
use crate::cost::CostLimit;
use crate::latency::LatencyModel;
use crate::models::Architecture;
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

impl<A: Architecture> SearchBuilder<A> {
    /// Resumes from the newest usable checkpoint of a run folder, as [`Search::run_in`] leaves
    /// them; builds the search where there is none. The device may differ from that of before.
    ///
    /// # Errors
    /// Those of [`build`](Self::build); [`Error::Invalid`] naming the first field of the architecture
    /// or search space, option or budget, and [`Error::Component`] naming the first component, that is not the checkpoint's.
    pub fn build_or_resume(self, run_folder: impl AsRef<Path>) -> Result<Resumed<A>> {
        let run_folder = run_folder.as_ref();
        match self.group().world_size() {
            1 => self.build_or_resume_alone(run_folder),
            _ => self.build_or_receive(run_folder),
        }
    }

    fn build_or_resume_alone(self, run_folder: &Path) -> Result<Resumed<A>> {
        let checkpoints = Checkpoints::new(run_folder.join(CHECKPOINTS), 1);
        match checkpoints.newest()? {
            None => Ok(Resumed { search: self.build()?, skipped: Vec::new() }),
            Some(_) => self.resume_alone(&checkpoints),
        }
    }

    /// Resumes from the newest usable checkpoint, in this process.
    pub(super) fn resume_alone(self, checkpoints: &Checkpoints) -> Result<Resumed<A>> {
        let (options, space) = self.checked()?;
        let origin = self.origin(&space)?;
        let (latency, meter) = self.latency_parts();
        let (latency, meter) = (latency.cloned(), meter.cloned());
        let (_, budgets, components, device) = self.parts();
        let resumed = checkpoints.resume_newest(|path| {
            let snapshot = snapshot_of(path, &origin, &options)?;
            Search::resume_from(snapshot, Some(&components), device)
        })?;
        let Some(mut resumed) = resumed else {
            return Err(Error::invalid("checkpoints", "at least one", 0));
        };
        if let (Some(own), Some(meter)) = (&mut resumed.search.latency, meter) {
            own.model.setting.expect(&meter.setting())?;
            own.meter = Some(meter);
        }
        expect_latency(latency.as_ref(), resumed.search.latency_model())?;
        let model = resumed.search.supernet().cost_model();
        let given: Vec<CostLimit> =
            budgets.iter().map(|budget| budget.resolve(model)).collect::<Result<_>>()?;
        if resumed.search.options().search_steps > 0 {
            expect_limits(&given, resumed.search.limits())?;
        }
        Ok(resumed)
    }
}

/// Returns the snapshot of a checkpoint of a search with this origin and these options.
///
/// # Errors
/// Those of [`Snapshot::read`]; [`Error::Invalid`] with the first field that differs.
pub(super) fn snapshot_of<A: Architecture>(
    path: &Path,
    origin: &Value,
    options: &SearchOptions,
) -> Result<Snapshot<A>> {
    let snapshot = Snapshot::read(path)?;
    expect_same_origin(origin, &snapshot.state.origin)?;
    expect_options(options, &snapshot.state.options)?;
    Ok(snapshot)
}

/// Refuses budgets that are not those of the checkpoint.
pub(super) fn expect_limits(given: &[CostLimit], saved: &[CostLimit]) -> Result<()> {
    if given == saved {
        return Ok(());
    }
    let expected = format!("{}, as in the checkpoint", in_words(saved));
    Err(Error::invalid("budget", expected, in_words(given)))
}

/// Refuses a latency model that is not that of the checkpoint.
fn expect_latency(given: Option<&LatencyModel>, saved: Option<&LatencyModel>) -> Result<()> {
    if given == saved {
        return Ok(());
    }
    let words = |own: Option<&LatencyModel>| match own {
        None => "none".into(),
        Some(own) => format!("one of {}: dense network {} ms", own.setting, own.dense_ms),
    };
    let expected = format!("{}, as in the checkpoint", words(saved));
    Err(Error::invalid("latency model", expected, words(given)))
}

/// "at most 1.3e9 MACs, at most 8e6 parameters".
fn in_words(limits: &[CostLimit]) -> String {
    let words = |limit: &CostLimit| format!("at most {} {}", limit.limit, limit.metric.name());
    limits.iter().map(words).collect::<Vec<_>>().join(", ")
}
