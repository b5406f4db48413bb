//! What a worker thread does: batches of bytes, ahead of time.

use super::collected::{Collected, Pixels};
use super::fetch::{fetch, Fetched};
use super::job::Job;
use super::order::{steps_per_epoch, EpochOrder, View};
use crate::data::random_stream::{RandomStream, StreamId};
use crate::data::transform::{Erased, Resizer};
use crate::data::Mix;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

/// A batch before it is on the device.
pub(super) struct Prepared {
    pub images: Pixels,
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
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}

struct Worker<'a> {
    job: &'a Job,
    /// The order of the epoch at hand.
    order: Option<EpochOrder>,
    resizer: Resizer,
    /// The file at hand.
    file: Vec<u8>,
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
        let views: Vec<View> = order.batch(number, options.batch).collect();
        self.order = Some(order);
        let images = Collected::new(views.len(), size, &options.normalisation, *device)?;
        let mut parts = Parts::new(images);
        for view in views {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.add(epoch, view, &mut parts)?;
        }
        let mut stream = RandomStream::of(options.seed, epoch, StreamId::Mixing { batch: number });
        let mix = options.mixing.map_or(Mix::None, |mixing| mixing.draw(size, &mut stream));
        let Parts { images, classes, erased, corrupt } = parts;
        let images = images.finish(*device)?;
        Ok(Some(Prepared { images, classes, erased, mix, corrupt }))
    }

    /// Adds one transformed image to the batch.
    fn add(&mut self, epoch: u64, view: View, parts: &mut Parts) -> Result<()> {
        let options = &self.job.options;
        let fetched = fetch(self.job, epoch, view, &mut self.file, &mut parts.corrupt)?;
        let Fetched { image, seen, mut stream, class } = fetched;
        let fill = options.normalisation.mean_colour();
        let transformed =
            options.transform.apply_to(seen, &image, &fill, &mut stream, &mut self.resizer)?;
        if let Some(erased) = transformed.erased {
            parts.erased.push((parts.classes.len(), erased));
        }
        parts.images.push(&transformed.image);
        parts.classes.push(class as i64);
        Ok(())
    }
}

/// A batch as it grows.
struct Parts {
    images: Collected,
    classes: Vec<i64>,
    erased: Vec<(usize, Erased)>,
    corrupt: BTreeMap<usize, String>,
}

impl Parts {
    fn new(images: Collected) -> Self {
        Self { images, classes: Vec::new(), erased: Vec::new(), corrupt: BTreeMap::new() }
    }
}
