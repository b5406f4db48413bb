//! Progress of a run, for a progress bar or a log.

use crate::error::in_words;
use crate::import::ImportReport;
use crate::latency::MeasureProgress;
use crate::search::{Event, StepMetrics};
use crate::{device, Error};
use std::fmt::{Display, Formatter};
use std::path::Path;
use tch::Device;

/// Progress of a [`Pipeline`](super::Pipeline), as its listener receives it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A checkpoint was fitted to the network.
    Imported {
        /// Path of the checkpoint.
        path: &'a Path,
        /// Fate of every tensor.
        report: &'a ImportReport,
    },
    /// The run folder is prepared; the stages follow.
    RunStarted {
        /// The run folder.
        folder: &'a Path,
        /// The network that the run starts from: `dense network`, or `subnet` where one is fine-tuned.
        network: &'static str,
        /// Its MACs, for one image.
        macs: f64,
        /// Number of training images.
        train_images: i64,
        /// Number of images that are evaluated on.
        test_images: i64,
        /// Device of all tensors.
        device: Device,
    },
    /// A checkpoint that could not be used was skipped.
    CheckpointSkipped {
        /// Path of the checkpoint.
        path: &'a Path,
        /// Why it could not be used.
        reason: &'a Error,
    },
    /// The latency model is measured.
    Latency(&'a MeasureProgress),
    /// A stage starts or resumes.
    StageStarted(StageStart),
    /// An optimiser step starts, after so many.
    Step(u64),
    /// An event of the stage.
    Event(&'a Event),
    /// Latencies are not compared: the network that the subnet was searched from cannot be loaded.
    LatencyNotCompared {
        /// Why it cannot be loaded.
        reason: &'a Error,
    },
    /// Files of a network that cannot be exported: its artifact is saved without them. They are tried before the first
    /// step, too, on a dense network of at most 30 M parameters.
    NotExported {
        /// Names of the files.
        files: &'a [&'static str],
        /// Why not.
        reason: &'a Error,
    },
    /// The report of the run could not be written; its results are.
    ReportFailed {
        /// Why it could not be written.
        error: &'a Error,
    },
    /// A stage has ended.
    StageFinished {
        /// Top-1 on the test images, in [0, 1].
        top1: f64,
        /// Names of corrupt images that were skipped.
        corrupt: &'a [String],
    },
}

/// Start of a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StageStart {
    /// `train`, `search`, `finetune` or `compare`.
    pub name: &'static str,
    /// Optimiser steps in all.
    pub steps: u64,
    /// Optimiser steps done before, where the stage resumes.
    pub done: u64,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: u64,
    /// Images of an optimiser step.
    pub images_per_step: i64,
    /// MACs of the network that the stage starts with, for one image.
    pub macs: f64,
}

/// One line of text; empty for a step, and for an event that [`StageStart::line`] has no line for.
impl Display for Progress<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Imported { path, report } => write!(
                f,
                "{}: {}{} tensors loaded, {} resized, {} replaced, {} missing, {} skipped, {} unused{}",
                path.display(),
                origin(report),
                report.loaded.len(),
                report.resized.len(),
                report.replaced.len(),
                report.missing.len(),
                report.skipped.len(),
                report.unused.len(),
                assumed(report)
            ),
            Self::RunStarted { folder, network, macs, train_images, test_images, device } => write!(
                f,
                "{network} {:.1} MMACs; {train_images} training and {test_images} test images; \
                 {}, {} threads; run folder {}",
                macs / 1e6,
                device::name(*device),
                tch::get_num_threads(),
                folder.display()
            ),
            Self::CheckpointSkipped { path, reason } => {
                write!(f, "checkpoint {} skipped: {reason}", path.display())
            }
            Self::LatencyNotCompared { reason } => write!(
                f,
                "latencies are not compared: the dense network of the search cannot be loaded: {reason}; give it by \
                 weights, or go on without"
            ),
            Self::NotExported { files, reason } => {
                let which = if files.len() == 1 { "it" } else { "them" };
                let (files, reason) = (files.join(" and "), in_words(reason));
                write!(f, "{files} cannot be exported: {reason}; the subnet is saved without {which}")
            }
            Self::ReportFailed { error } => write!(f, "report.html is not written: {error}"),
            Self::Latency(progress) => write!(f, "latency: {progress}"),
            Self::StageStarted(StageStart { name, done, steps, .. }) => match done {
                0 => write!(f, "{name}: {steps} steps"),
                done => write!(f, "{name}: resumes after step {done} of {steps}"),
            },
            Self::StageFinished { top1, .. } => write!(f, "top-1 {:.1}%", 100.0 * top1),
            Self::Step(_) | Self::Event(_) => Ok(()),
        }
    }
}

/// Which weights of a checkpoint were taken, and what was removed from their names.
fn origin(report: &ImportReport) -> String {
    let mut text = String::new();
    if let Some((source, entry)) =
        report.source.as_ref().and_then(|source| Some((source, source.entry.as_ref()?)))
    {
        let kind = if source.ema { "EMA weights" } else { "weights" };
        text += &format!("{kind} of the entry {entry}");
        if !source.other_entries.is_empty() {
            text += &format!(", not those of {}", source.other_entries.join(", "));
        }
        text += "; ";
    }
    if !report.prefix.is_empty() {
        text += &format!("prefix {} removed; ", report.prefix);
    }
    text
}

/// What no tensor shows, and where it is from.
fn assumed(report: &ImportReport) -> String {
    let mut text = String::new();
    for (index, own) in report.assumed.iter().enumerate() {
        let before = if index == 0 { "; assumed: " } else { "; " };
        let source = own.source.as_ref().map_or_else(String::new, |own| format!(" ({own})"));
        text += &format!("{before}{} {}{source}", own.property, own.value);
    }
    text
}

impl StageStart {
    /// Returns an event of this stage as a line of text; `None` for checkpoints and single
    /// decisions.
    pub fn line(&self, event: &Event) -> Option<String> {
        match event {
            Event::Step(metrics) => Some(self.step(metrics)),
            Event::Pruned(pruned) => Some(format!(
                "step {}: {} units of {} dimensions pruned, current MACs {:.0}%, largest \
                 change of a logit {:.1}%",
                pruned.step,
                pruned.pruned_units(),
                pruned.units.len(),
                100.0 * pruned.macs / self.macs,
                100.0 * pruned.total_jump / pruned.logit_scale,
            )),
            Event::Latency(check) => {
                let measured = match check.measured {
                    Some(own) => format!("{:.3} ± {:.3} ms", own.ms, own.standard_error),
                    None => "not on this device".into(),
                };
                Some(format!(
                    "step {}: latency asked {:.3} ms, predicted {:.3} ms, measured {measured}; {}",
                    check.step, check.asked_ms, check.predicted_ms, check.outcome
                ))
            }
            Event::Finished(finished) => Some(format!(
                "step {}: all dimensions decided, {} of them by projection onto the budgets",
                finished.step, finished.projected
            )),
            Event::NonFinite { step, in_a_row, action, first, unusable, .. } => {
                let what = match first.is_empty() {
                    true => "loss or gradient".to_string(),
                    false => first.join(", "),
                };
                let unusable: String =
                    unusable.iter().map(|own| format!("; unusable checkpoint {own}")).collect();
                Some(format!(
                    "step {step}: {what} not finite in {in_a_row} steps in a row: {action}{unusable}"
                ))
            }
            Event::Evaluated { step, top1 } if *step < self.steps => {
                Some(format!("step {step}: top-1 {:.1}%", 100.0 * top1))
            }
            Event::Decided { .. } | Event::Checkpoint { .. } | Event::Evaluated { .. } => None,
        }
    }

    fn step(&self, metrics: &StepMetrics) -> String {
        let StepMetrics { step, loss, macs_expected, macs_current, step_ms, .. } = metrics;
        let (epoch, epochs) =
            (step / self.steps_per_epoch + 1, self.steps.div_ceil(self.steps_per_epoch));
        let mut text = format!("epoch {epoch}/{epochs}  task loss {:.3}", loss.task);
        if loss.one_hot != 0.0 {
            text += &format!("  one-hot loss {:.1}", loss.one_hot);
        }
        if loss.reconstruction != 0.0 {
            text += &format!("  reconstruction loss {:.3}", loss.reconstruction);
        }
        let [expected, current] =
            [macs_expected, macs_current].map(|cost| 100.0 * cost / self.macs);
        let rate = 1e3 * self.images_per_step as f64 / step_ms;
        text + &format!(
            "  expected MACs {expected:.0}%  current MACs {current:.0}%  {rate:.0} images/s"
        )
    }
}
