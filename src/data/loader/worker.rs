//! Worker thread: prepares batches ahead of time.

use super::batch_buffer::{BatchBuffer, Pixels};
use super::fetch::{fetch, Fetched};
use super::options::{LoaderOptions, Order};
use super::order::{steps_per_epoch, EpochOrder, View};
use super::upload::Erasing;
use crate::data::random_stream::{RandomStream, StreamId};
use crate::data::transform::{Erased, Resizer};
use crate::data::{Dataset, Mix};
use crate::distributed::Share;
use crate::transfer::pinned;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::Arc;
use tch::{Device, Tensor};

/// Data set, options and stop flag that all workers of a loader share.
pub(super) struct Job {
    pub dataset: Arc<dyn Dataset>,
    pub options: LoaderOptions,
    /// Images of every batch that this process loads.
    pub share: Share,
    pub device: Device,
    /// Set when the loader needs no more batches.
    pub stop: AtomicBool,
}

/// Batch on the CPU, before random erasing, mixing and the copy to the device; its tensors are in pinned memory for
/// CUDA.
pub(super) struct PreparedBatch {
    pub images: Pixels,
    /// `[B]`, i64.
    pub classes: Tensor,
    /// Random erasing; `None` if nothing is erased.
    pub erasing: Option<Erasing>,
    pub mix: Mix,
    /// Names of the corrupt images that were skipped, by index.
    pub corrupt: BTreeMap<usize, String>,
}

/// Prepares the batches of steps first, first + stride, … below `end` and sends them.
///
/// Ends early after an error, which is sent, when the receiver is dropped, or when the job is
/// stopped. A panic becomes the error of its step.
pub(super) fn work(
    job: &Job,
    (first, stride, end): (u64, u64, u64),
    sender: &SyncSender<Result<PreparedBatch>>,
) {
    let mut worker = Worker { job, order: None, resizer: Resizer::default(), file: Vec::new() };
    let mut step = first;
    while step < end && !job.stop.load(Ordering::Relaxed) {
        let prepared = catch_unwind(AssertUnwindSafe(|| worker.prepare(step)))
            .unwrap_or_else(|panic| Err(Error::Worker { step, reason: message(&*panic) }));
        let Some(prepared) = prepared.transpose() else { return };
        let failed = prepared.is_err();
        if sender.send(prepared).is_err() || failed {
            return;
        }
        step = step.saturating_add(stride);
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".into())
}

struct Worker<'a> {
    job: &'a Job,
    /// Order of the latest epoch.
    order: Option<EpochOrder>,
    resizer: Resizer,
    /// Buffer of an image file.
    file: Vec<u8>,
}

impl Worker<'_> {
    /// Returns the batch of a step; `None` if the job was stopped meanwhile.
    fn prepare(&mut self, step: u64) -> Result<Option<PreparedBatch>> {
        let Job { dataset, options, share, device, stop } = self.job;
        let steps = steps_per_epoch(options, dataset.len());
        let (epoch, number) = (step / steps, step % steps);
        let order = match self.order.take().filter(|order| order.epoch == epoch) {
            Some(order) => order,
            None => EpochOrder::new(options, &**dataset, epoch),
        };
        let size = options.transform.size();
        let views = own_views(order.batch(number, options.batch).collect(), options, *share)?;
        self.order = Some(order);
        let images = BatchBuffer::new(views.len(), size, &options.normalisation, *device)?;
        let mut batch = PartialBatch::new(images);
        for view in views {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.add(epoch, view, &mut batch)?;
        }
        let mut stream = RandomStream::of(options.seed, epoch, StreamId::Mixing { batch: number });
        let mix = options.mixing.map_or(Mix::None, |mixing| mixing.draw(size, &mut stream));
        let PartialBatch { images, classes, erased, corrupt } = batch;
        let images = images.finish(*device)?;
        let classes = pinned(Tensor::f_from_slice(&classes)?, *device)?;
        let erasing = Erasing::new(erased, *device)?;
        Ok(Some(PreparedBatch { images, classes, erasing, mix, corrupt }))
    }

    /// Appends one transformed image to the batch.
    fn add(&mut self, epoch: u64, view: View, batch: &mut PartialBatch) -> Result<()> {
        let options = &self.job.options;
        let fetched = fetch(self.job, epoch, view, &mut self.file, &mut batch.corrupt)?;
        let Fetched { index, image, region, mut stream, class } = fetched;
        let fill = options.normalisation.mean_colour();
        let transformed = options
            .transform
            .apply_to(region, &image, &fill, &mut stream, &mut self.resizer)
            .map_err(|error| of_image(error, || self.job.dataset.name(index)))?;
        if let Some(erased) = transformed.erased {
            batch.erased.push((batch.classes.len(), erased));
        }
        batch.images.push(&transformed.image);
        batch.classes.push(class as i64);
        Ok(())
    }
}

/// Returns the views of a batch that this process loads.
fn own_views(all: Vec<View>, options: &LoaderOptions, share: Share) -> Result<Vec<View>> {
    if share.is_whole() {
        return Ok(all);
    }
    let places = match options.order {
        Order::Sequential => share.judged(all.len()).collect(),
        Order::Shuffled { .. } | Order::Shards { .. } => share.places(all.len())?,
    };
    Ok(places.into_iter().map(|place| all[place]).collect())
}

/// Adds the image to the name of a value out of range.
fn of_image(error: Error, image: impl FnOnce() -> String) -> Error {
    match error {
        Error::Invalid { name, expected, actual } => {
            Error::Invalid { name: format!("{name} of {}", image()), expected, actual }
        }
        other => other,
    }
}

/// Batch under construction.
struct PartialBatch {
    images: BatchBuffer,
    classes: Vec<i64>,
    /// Random erasing, with the index of the image in the batch.
    erased: Vec<(usize, Erased)>,
    corrupt: BTreeMap<usize, String>,
}

impl PartialBatch {
    fn new(images: BatchBuffer) -> Self {
        Self { images, classes: Vec::new(), erased: Vec::new(), corrupt: BTreeMap::new() }
    }
}
