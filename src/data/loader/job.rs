//! What all workers of a loader share.

use super::options::LoaderOptions;
use crate::data::Dataset;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use tch::Device;

/// What all workers share.
pub(super) struct Job {
    pub dataset: Arc<dyn Dataset>,
    pub options: LoaderOptions,
    pub device: Device,
    /// Set when nobody wants more batches.
    pub stop: AtomicBool,
}
