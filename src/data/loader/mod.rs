//! Loader: batches of a data set on disk, prepared ahead of time by worker threads.

mod batch_buffer;
mod fetch;
mod options;
mod order;
mod upload;
mod worker;

pub use options::{LoaderOptions, OnCorrupt, Order, DEFAULT_CORRUPT_IMAGES};

use super::Dataset;
use crate::batch::{Batch, BatchSource, Targets};
use crate::distributed::Share;
use crate::error::DistributedError;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::Arc;
use std::thread::JoinHandle;
use tch::{Device, Kind, Tensor};
use upload::Upload;
use worker::{work, Job, PreparedBatch};

/// Batches of a [`Dataset`] by step, decoded and augmented in worker threads.
///
/// A batch depends on data set, options and step alone, not on the number of workers nor on earlier
/// steps. Consecutive steps are prefetched; another step restarts the workers at that step.
///
/// ```no_run
/// use once_for_both::data::{ImageFolder, Loader, LoaderOptions};
/// use std::sync::Arc;
///
/// # fn main() -> once_for_both::Result<()> {
/// let dataset = Arc::new(ImageFolder::open("imagenet/train")?);
/// let options = LoaderOptions::deit(224, 256).seed(7);
/// let mut train = Loader::new(dataset, options, tch::Device::Cpu)?;
/// let batch = train.at(0)?;
/// assert_eq!(batch.images.size(), [256, 3, 224, 224]);
/// # Ok(())
/// # }
/// ```
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    options: LoaderOptions,
    device: Device,
    upload: Upload,
    workers: Option<Workers>,
    corrupt: BTreeMap<usize, String>,
    share: Share,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Loader")
            .field("images", &self.dataset.len())
            .field("options", &self.options)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Returns a loader whose batches are on `device`. Its workers start with the first batch.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option out of range, by itself or for the data set; [`Error::Torch`] if the
    /// device is absent or out of memory.
    pub fn new(dataset: Arc<dyn Dataset>, options: LoaderOptions, device: Device) -> Result<Self> {
        options.validate(&*dataset)?;
        let upload = Upload::new(&options, device)?;
        let (workers, corrupt, share) = (None, BTreeMap::new(), Share::WHOLE);
        Ok(Self { dataset, options, device, upload, workers, corrupt, share })
    }

    /// Sets the images of every batch that this process loads: its share of
    /// [`LoaderOptions::batch`] images of all processes. Sequential order is for evaluation: processes have every n-th
    /// image of a batch and may differ by one, and the last batch may leave a process without any.
    ///
    /// # Errors
    /// [`DistributedError::Share`](crate::error::DistributedError::Share) for a batch that the
    /// processes cannot share in equal parts, or with mixing not in equal numbers of pairs; [`Error::Invalid`] for a
    /// share of more than 1e9 pixels, or of batches that are mixed in sequential order.
    pub fn share(mut self, share: Share) -> Result<Self> {
        self.options.check_pixels(self.dataset.len(), share)?;
        let mixes = !share.is_whole() && self.options.mixing.is_some();
        if mixes && self.options.order == Order::Sequential {
            let expected = "Order::Shuffled or Order::Shards";
            let name = "order of a loader that mixes and shares its batches";
            return Err(Error::invalid(name, expected, "Order::Sequential"));
        }
        if self.options.order != Order::Sequential {
            let own = share.places(self.options.batch)?.len();
            if mixes && own % 2 == 1 {
                let (batch, world_size) = (self.options.batch, share.world_size());
                let expected = format!("a multiple of {}, for mixup and cutmix", 2 * world_size);
                return Err(DistributedError::Share { batch, world_size, expected }.into());
            }
        }
        (self.share, self.workers) = (share, None);
        Ok(self)
    }

    /// Number of batches in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        order::steps_per_epoch(&self.options, self.dataset.len())
    }

    /// Device of the batches.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.dataset.classes()
    }

    /// Names of the corrupt images that were skipped so far, by index.
    pub fn corrupt_images(&self) -> &BTreeMap<usize, String> {
        &self.corrupt
    }

    /// Adds corrupt images, by index, that an earlier loader or that of another process has skipped: they
    /// count towards the limit.
    ///
    /// # Errors
    /// [`Error::CorruptImages`] if there are more than may be skipped.
    pub fn add_corrupt_images(&mut self, images: BTreeMap<usize, String>) -> Result<()> {
        self.corrupt.extend(images);
        self.check_corrupt()
    }

    fn check_corrupt(&self) -> Result<()> {
        match self.options.on_corrupt {
            OnCorrupt::Skip { limit } => fetch::check_limit(&self.corrupt, limit),
            OnCorrupt::Fail => Ok(()),
        }
    }

    /// Returns the batch of a step, counted from 0 over all epochs.
    ///
    /// # Shapes
    /// Images: `[B, C, S, S]`, f32, normalised. Targets: classes `[B]`, i64; with mixing,
    /// probabilities `[B, classes]`, f32.
    ///
    /// # Errors
    /// Those of [`Dataset::load`]; [`Error::Invalid`] for a batch of more than 1e9 pixels; [`Error::CorruptImages`] if more images are corrupt than may be
    /// skipped; [`Error::Invalid`] if no image of the data set can be decoded; [`Error::Worker`] if a worker panicked; [`Error::Torch`] if the device is out of
    /// memory.
    pub fn at(&mut self, step: u64) -> Result<Batch> {
        let workers = match self.workers.take().filter(|workers| workers.has(step)) {
            Some(workers) => workers,
            None => self.start(step)?,
        };
        // After an error the workers are dropped: they have ended, or end at once.
        let workers = self.workers.insert(workers);
        let prepared = workers.receive();
        let finished = prepared.map_err(|error| self.with_earlier(error)).and_then(|prepared| {
            self.corrupt.extend(prepared.corrupt.clone());
            self.check_corrupt()?;
            self.upload.batch(prepared, &self.options, self.dataset.classes())
        });
        if finished.is_err() {
            self.workers = None;
        }
        finished
    }

    /// Adds the corrupt images of earlier batches to the error of a batch that alone has too many.
    fn with_earlier(&self, error: Error) -> Error {
        let Error::CorruptImages { limit, names } = error else { return error };
        let earlier = self.corrupt.values().filter(|own| !names.contains(own)).cloned();
        Error::CorruptImages { limit, names: earlier.chain(names.iter().cloned()).collect() }
    }

    /// Top-1 accuracy, in [0, 1], of `predict` over the images of one epoch: with a
    /// [`share`](Self::share), over those of this process alone.
    ///
    /// # Shapes
    /// `predict`: `[B, C, S, S]` to logits `[B, classes]`; B is at least 1.
    ///
    /// # Errors
    /// Those of `predict` and of [`at`](Self::at); [`Error::Invalid`] if batches are mixed, or for a share
    /// without images.
    pub fn top1(&mut self, predict: impl Fn(&Tensor) -> Result<Tensor>) -> Result<f64> {
        let mut right = Tensor::f_zeros([0i64; 0], (Kind::Int64, self.device))?;
        let mut seen = 0;
        for step in 0..self.steps_per_epoch() {
            let Batch { images, targets: Targets::Classes(classes) } = self.at(step)? else {
                return Err(Error::invalid("mixing of an evaluation", "None", "Some"));
            };
            let own = classes.size1()?;
            if own == 0 {
                continue;
            }
            let hits = predict(&images)?.f_argmax(-1, false)?.f_eq_tensor(&classes)?;
            right = right.f_add(&hits.f_sum(Kind::Int64)?)?;
            seen += own;
        }
        if seen == 0 {
            let name = "images of the evaluation in the share of this process";
            return Err(Error::invalid(name, "at least 1; use fewer processes", seen));
        }
        Ok(right.f_int64_value(&[])? as f64 / seen as f64)
    }

    fn start(&self, first: u64) -> Result<Workers> {
        self.options.check_pixels(self.dataset.len(), self.share)?;
        let steps = self.steps_per_epoch();
        let end = match self.options.order {
            // An evaluation restarts at step 0, so nothing is prefetched beyond the epoch.
            Order::Sequential => (first / steps + 1).saturating_mul(steps),
            Order::Shuffled { .. } | Order::Shards { .. } => u64::MAX,
        };
        let job = Arc::new(Job {
            dataset: Arc::clone(&self.dataset),
            options: self.options.clone(),
            share: self.share,
            device: self.device,
            stop: AtomicBool::new(false),
        });
        let mut workers = Workers { job, threads: Vec::new(), next: first, end };
        let stride = self.options.workers as u64;
        for offset in 0..stride {
            let ready = self.options.ready(offset as usize);
            workers.spawn((first.saturating_add(offset), stride, end), ready)?;
        }
        Ok(workers)
    }
}

/// Running workers, and the step whose batch is received next.
struct Workers {
    job: Arc<Job>,
    /// Worker i of n prepares the steps first + i, first + i + n, …
    threads: Vec<(Receiver<Result<PreparedBatch>>, JoinHandle<()>)>,
    next: u64,
    /// Step before which the workers end.
    end: u64,
}

impl Workers {
    /// Whether the batch of `step` is received next.
    fn has(&self, step: u64) -> bool {
        step == self.next && step < self.end
    }

    fn spawn(&mut self, steps: (u64, u64, u64), ready: usize) -> Result<()> {
        // A worker blocks, holding its batch, while the channel is full.
        let (sender, receiver) = sync_channel(ready);
        let job = Arc::clone(&self.job);
        let thread = std::thread::Builder::new()
            .name(format!("loader {}", self.threads.len()))
            .spawn(move || work(&job, steps, &sender))
            .map_err(|error| Error::Worker { step: steps.0, reason: error.to_string() })?;
        self.threads.push((receiver, thread));
        Ok(())
    }

    /// Returns the batch of the next step. Receiving from the workers in turn keeps the order.
    fn receive(&mut self) -> Result<PreparedBatch> {
        let step = self.next;
        let ended = || Error::Worker { step, reason: "the thread ended without a batch".into() };
        let (receiver, _) = self.threads.first().ok_or_else(ended)?;
        let prepared = receiver.recv().map_err(|_| ended())?;
        self.threads.rotate_left(1);
        self.next += 1;
        prepared
    }
}

impl BatchSource for Loader {
    fn batch(&mut self, number: u64) -> Result<Batch> {
        self.at(number)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.job.stop.store(true, Ordering::Relaxed);
        for (receiver, thread) in self.threads.drain(..) {
            // Unblocks a worker that waits for room in its channel.
            drop(receiver);
            // The worker has caught and reported a panic.
            let _ = thread.join();
        }
    }
}
