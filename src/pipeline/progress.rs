//! Progress of a run, for a progress bar or a log.

use crate::import::ImportReport;
use crate::search::Event;
use crate::Error;
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
        /// MACs of the dense network, for one image.
        dense_macs: f64,
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
    /// A stage starts or resumes.
    StageStarted(StageStart),
    /// An optimiser step starts, after so many.
    Step(u64),
    /// An event of the stage.
    Event(&'a Event),
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
