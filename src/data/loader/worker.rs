//! What a worker thread does: batches of bytes, ahead of time.

use super::options::{Corrupt, LoaderOptions};
use super::order::{steps_per_epoch, EpochOrder, Showing};
use crate::data::stream::{Purpose, Stream};
use crate::data::transform::{Erased, Resizer};
use crate::data::{Dataset, Mix, Sample};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// What all workers share.
pub(super) struct Job {
    pub dataset: Arc<dyn Dataset>,
    pub options: LoaderOptions,
    pub device: Device,
    /// Set when nobody wants more batches.
    pub stop: AtomicBool,
}

/// A batch before it is on the device.
pub(super) struct Prepared {
    /// `[B, C, S, S]`, u8, on the CPU; pinned if it is bound for CUDA.
    pub images: Tensor,
    pub classes: Vec<i64>,
    /// What is to be erased, by place in the batch.
    pub erased: Vec<(usize, Erased)>,
    pub mix: Mix,
    /// Names of images passed over, by index.
    pub corrupt: BTreeMap<usize, String>,
}

/// Prepares every `stride`-th step from `first` to before `end`, until one fails, the receiver is
/// gone, or the job is stopped. A panic is the error of the step it happened in.
pub(super) fn work(
    job: &Job,
    (first, stride, end): (u64, u64, u64),
    sender: &SyncSender<Result<Prepared>>,
) {
    let mut worker = Worker { job, order: None, resizer: Resizer::default() };
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
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}

struct Worker<'a> {
    job: &'a Job,
    /// The order of the epoch at hand.
    order: Option<EpochOrder>,
    resizer: Resizer,
}

impl Worker<'_> {
    /// The batch of a step; none if the job was stopped meanwhile.
    fn prepare(&mut self, step: u64) -> Result<Option<Prepared>> {
        let Job { dataset, options, device, stop } = self.job;
        let steps = steps_per_epoch(options, dataset.len());
        let (epoch, number) = (step / steps, step % steps);
        let order = match self.order.take().filter(|order| order.epoch == epoch) {
            Some(order) => order,
            None => EpochOrder::new(options, dataset.len(), epoch),
        };
        let size = options.transform.size();
        let bytes = options.batch * dataset.channels() * size * size;
        let mut parts = Parts { bytes: Vec::with_capacity(bytes), ..Parts::default() };
        for showing in order.batch(number, options.batch) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.add(epoch, showing, &mut parts)?;
        }
        self.order = Some(order);
        let mut stream = Stream::of(options.seed, epoch, Purpose::Mixing { batch: number });
        let mix = options.mixing.map_or(Mix::None, |mixing| mixing.draw(size, &mut stream));
        let shape = [parts.classes.len(), dataset.channels(), size, size];
        let images = bytes_tensor(&parts.bytes, &shape, *device)?;
        let Parts { classes, erased, corrupt, .. } = parts;
        Ok(Some(Prepared { images, classes, erased, mix, corrupt }))
    }

    /// Adds one transformed image to the batch.
    fn add(&mut self, epoch: u64, showing: Showing, parts: &mut Parts) -> Result<()> {
        let job = self.job;
        let (index, sample) = load(job, showing.index, &mut parts.corrupt)?;
        let expected = job.dataset.channels();
        if sample.image.channels() != expected || sample.class >= job.dataset.classes() {
            return Err(Error::invalid(
                job.dataset.name(index),
                format!("{expected} channels, class less than {}", job.dataset.classes()),
                format!("{} channels, class {}", sample.image.channels(), sample.class),
            ));
        }
        let purpose = Purpose::Sample { index, copy: showing.copy };
        let mut stream = Stream::of(job.options.seed, epoch, purpose);
        let fill = job.options.normalisation.mean_colour();
        let transform = &job.options.transform;
        let transformed = transform.apply(&sample.image, &fill, &mut stream, &mut self.resizer)?;
        if let Some(erased) = transformed.erased {
            parts.erased.push((parts.classes.len(), erased));
        }
        transformed.image.append_planes(&mut parts.bytes);
        parts.classes.push(sample.class as i64);
        Ok(())
    }
}

/// A batch as it grows.
#[derive(Default)]
struct Parts {
    bytes: Vec<u8>,
    classes: Vec<i64>,
    erased: Vec<(usize, Erased)>,
    corrupt: BTreeMap<usize, String>,
}

/// The image at an index, or the next one that can be decoded, with its own index.
fn load(job: &Job, first: usize, corrupt: &mut BTreeMap<usize, String>) -> Result<(usize, Sample)> {
    let mut index = first;
    loop {
        let limit = match (job.dataset.load(index), job.options.corrupt) {
            (Ok(sample), _) => return Ok((index, sample)),
            (Err(Error::Image { name, .. }), Corrupt::Skip { limit }) => {
                corrupt.insert(index, name);
                limit
            }
            (Err(error), _) => return Err(error),
        };
        expect_few(corrupt, limit)?;
        index = (index + 1) % job.dataset.len();
        if index == first {
            // All are corrupt, though not more than the limit.
            return Err(too_many(corrupt, limit));
        }
    }
}

/// Checks that there are no more corrupt images than the limit.
pub(super) fn expect_few(corrupt: &BTreeMap<usize, String>, limit: usize) -> Result<()> {
    if corrupt.len() <= limit {
        return Ok(());
    }
    Err(too_many(corrupt, limit))
}

fn too_many(corrupt: &BTreeMap<usize, String>, limit: usize) -> Error {
    Error::CorruptImages { limit, names: corrupt.values().cloned().collect() }
}

fn bytes_tensor(bytes: &[u8], shape: &[usize], device: Device) -> Result<Tensor> {
    let shape: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
    let tensor = Tensor::f_from_data_size(bytes, &shape, Kind::Uint8)?;
    match device {
        Device::Cuda(_) => Ok(tensor.f_pin_memory(device)?),
        _ => Ok(tensor),
    }
}
