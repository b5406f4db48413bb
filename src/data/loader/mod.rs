//! Batches from a data set that need not fit into memory, prepared ahead by worker threads.

mod collected;
mod fetch;
mod job;
mod options;
mod order;
mod worker;

pub use options::{LoaderOptions, OnCorrupt, Order};

use super::transform::{Erased, Rectangle};
use super::Dataset;
use crate::batch::{Batch, BatchSource, Targets};
use crate::{Error, Result};
use collected::Pixels;
use job::Job;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::Arc;
use std::thread::JoinHandle;
use tch::{Device, Tensor};
use worker::{work, Prepared};

/// Batches by step, on the device of the network.
///
/// A batch depends on data set, options and step alone: neither on the number of workers nor on
/// which steps came before. Steps in a row are prepared ahead; any other step restarts the workers
/// there.
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
    running: Option<Running>,
    corrupt: BTreeMap<usize, String>,
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
    /// A loader. Its workers start with the first batch.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that cannot be, or that do not suit the data set.
    pub fn new(dataset: Arc<dyn Dataset>, options: LoaderOptions, device: Device) -> Result<Self> {
        options.validate(&*dataset)?;
        Ok(Self { dataset, options, device, running: None, corrupt: BTreeMap::new() })
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        order::steps_per_epoch(&self.options, self.dataset.len())
    }

    /// Where the batches are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.dataset.classes()
    }

    /// Names of the corrupt images that this loader passed over so far, by index.
    pub fn corrupt_images(&self) -> &BTreeMap<usize, String> {
        &self.corrupt
    }

    /// The batch of a step, counted from 0 over all epochs.
    ///
    /// # Shapes
    /// Images `[B, C, S, S]`, f32, normalised; classes `[B]`, i64, or with mixing probabilities
    /// `[B, classes]`, f32.
    ///
    /// # Errors
    /// Those of [`Dataset::load`]; [`Error::CorruptImages`] once more than the limit had to be
    /// skipped; [`Error::Worker`] if a worker panicked; [`Error::Torch`] if the device refuses
    /// memory.
    pub fn at(&mut self, step: u64) -> Result<Batch> {
        let running = match self.running.take().filter(|running| running.has(step)) {
            Some(running) => running,
            None => self.start(step)?,
        };
        // After an error the workers are not kept: they have stopped, or will at once.
        let running = self.running.insert(running);
        let prepared = running.receive();
        let finished = prepared.and_then(|prepared| {
            self.corrupt.extend(prepared.corrupt.clone());
            if let OnCorrupt::Skip { limit } = self.options.on_corrupt {
                fetch::expect_few(&self.corrupt, limit)?;
            }
            self.finish(prepared)
        });
        if finished.is_err() {
            self.running = None;
        }
        finished
    }

    /// Share of the images of one epoch whose class `predict` puts first.
    ///
    /// # Errors
    /// Those of `predict` and of [`at`](Self::at); [`Error::Invalid`] if batches are mixed.
    pub fn top1(&mut self, predict: impl Fn(&Tensor) -> Result<Tensor>) -> Result<f64> {
        let (mut right, mut seen) = (0, 0);
        for step in 0..self.steps_per_epoch() {
            let Batch { images, targets: Targets::Classes(classes), .. } = self.at(step)? else {
                return Err(Error::invalid("mixing in an evaluation", "none", "some"));
            };
            let hits = predict(&images)?.f_argmax(-1, false)?.f_eq_tensor(&classes)?;
            right += hits.f_sum(tch::Kind::Int64)?.f_int64_value(&[])?;
            seen += images.size()[0];
        }
        Ok(right as f64 / seen as f64)
    }

    fn start(&self, first: u64) -> Result<Running> {
        let steps = self.steps_per_epoch();
        let end = match self.options.order {
            // Evaluations begin at the beginning, so nothing behind the end is prepared.
            Order::Sequential => (first / steps + 1).saturating_mul(steps),
            Order::Shuffled { .. } => u64::MAX,
        };
        let job = Arc::new(Job {
            dataset: Arc::clone(&self.dataset),
            options: self.options.clone(),
            device: self.device,
            stop: AtomicBool::new(false),
        });
        let mut running = Running { job, workers: Vec::new(), next: first, end };
        let stride = self.options.workers as u64;
        for offset in 0..stride {
            let ready = self.options.prefetch / self.options.workers;
            running.spawn((first.saturating_add(offset), stride, end), ready)?;
        }
        Ok(running)
    }

    /// From what the worker made on the CPU to the batch on the device.
    fn finish(&self, prepared: Prepared) -> Result<Batch> {
        let Prepared { images, classes, erased, mix, .. } = prepared;
        let images = match images {
            Pixels::Normalised(images) => images,
            Pixels::Bytes(bytes) => {
                // Kind and device in one call; from pinned memory the copy does not wait.
                let bytes = bytes.f_to_device_(self.device, bytes.f_kind()?, true, false)?;
                self.options.normalisation.apply(&bytes)?
            }
        };
        erase(&images, &erased)?;
        let images = mix.images(images)?;
        let classes = Tensor::f_from_slice(&classes)?.f_to_device(self.device)?;
        let targets = match self.options.mixing {
            None => Targets::Classes(classes),
            Some(mixing) => {
                let size = self.options.transform.size();
                mix.targets(&classes, self.dataset.classes(), size, mixing.label_smoothing)?
            }
        };
        Ok(Batch { images, targets })
    }
}

/// Puts the noise in its places.
fn erase(images: &Tensor, erased: &[(usize, Erased)]) -> Result<()> {
    if erased.is_empty() {
        return Ok(());
    }
    // One transfer for the whole batch.
    let noise: Vec<f32> = erased.iter().flat_map(|(_, one)| &one.noise).copied().collect();
    let noise = Tensor::f_from_slice(&noise)?.f_to_device(images.device())?;
    let mut first = 0;
    for (place, Erased { rectangle, noise: numbers }) in erased {
        let Rectangle { left, top, width, height } = *rectangle;
        let (width, height, count) = (width as i64, height as i64, numbers.len() as i64);
        let mut target = images
            .f_select(0, *place as i64)?
            .f_narrow(1, top as i64, height)?
            .f_narrow(2, left as i64, width)?;
        target.f_copy_(&noise.f_narrow(0, first, count)?.f_view([-1, height, width])?)?;
        first += count;
    }
    Ok(())
}

/// Workers under way, and the step they are asked for next.
struct Running {
    job: Arc<Job>,
    /// Worker i of n prepares the steps first + i, first + i + n, and so on.
    workers: Vec<(Receiver<Result<Prepared>>, JoinHandle<()>)>,
    next: u64,
    /// The step before which the workers end.
    end: u64,
}

impl Running {
    /// Whether a step is the next to come.
    fn has(&self, step: u64) -> bool {
        step == self.next && step < self.end
    }

    fn spawn(&mut self, steps: (u64, u64, u64), ready: usize) -> Result<()> {
        // Without room in the channel, a worker holds the batch it has made.
        let (sender, receiver) = sync_channel(ready);
        let job = Arc::clone(&self.job);
        let thread = std::thread::Builder::new()
            .name(format!("loader {}", self.workers.len()))
            .spawn(move || work(&job, steps, &sender))
            .map_err(|error| Error::Worker { step: steps.0, reason: error.to_string() })?;
        self.workers.push((receiver, thread));
        Ok(())
    }

    /// The batch of the next step: workers are asked in turn, so that batches come in order.
    fn receive(&mut self) -> Result<Prepared> {
        let step = self.next;
        // Always the one in front; then it goes to the back.
        let gone = || Error::Worker { step, reason: "ended before its batch was ready".into() };
        let (receiver, _) = self.workers.first().ok_or_else(gone)?;
        let prepared = receiver.recv().map_err(|_| gone())?;
        self.workers.rotate_left(1);
        self.next += 1;
        prepared
    }
}

impl BatchSource for Loader {
    fn batch(&mut self, number: u64) -> Result<Batch> {
        self.at(number)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.job.stop.store(true, Ordering::Relaxed);
        for (receiver, thread) in self.workers.drain(..) {
            // A worker that waits for room in its channel is woken by this.
            drop(receiver);
            // Panics were caught and reported by the worker.
            let _ = thread.join();
        }
    }
}
