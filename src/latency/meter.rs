//! Timing of whole networks.

use super::memory::keep_freed_memory;
use super::Setting;
use crate::error::LatencyError;
use crate::latency::compare::timed;
use crate::models::{Architecture, Network};
use crate::precision::Precision;
use crate::range::Range;
use crate::tensors::convert;
use crate::{Error, Result};
use std::fmt::Debug;
use tch::{nn, Device, Kind, Tensor};

/// A first call that takes longer, in milliseconds, is the measurement itself.
const LONG: f64 = 250.0;
/// Calls of a network in one visit, after the first: at least, at most.
const CALLS: [f64; 2] = [3.0, 50.0];
/// Time that the calls of a visit take together, in milliseconds, within these limits.
const TOGETHER: f64 = 20.0;
/// Lengths of a batch of images.
const LENGTH: Range<i64> = Range::closed(1, 1 << 20);

/// One visit of a prepared network: returns its latency in milliseconds.
pub type Timer<'a> = Box<dyn Fn() -> Result<f64> + 'a>;

/// Times networks of an architecture under fixed conditions.
///
/// [`DeviceMeter`] does it on a device of this machine. Implement it for a device elsewhere: a phone, for
/// example, to which the network is sent.
pub trait Meter<A: Architecture>: Debug + Send + Sync {
    /// Returns the conditions of the measurement.
    fn setting(&self) -> Setting;

    /// Builds a network with random weights. Every call of the result visits it once: warms it up and
    /// times it, in milliseconds of a batch.
    ///
    /// # Errors
    /// Those of building the network and of its forward pass.
    fn prepare(&self, network: &A) -> Result<Timer<'_>>;
}

/// Times networks on a device of this machine.
///
/// On a CPU with one thread, the time that the thread waited for a processor, because other programs ran, does not count
/// (on Unix). With several threads it does: measure while nothing else runs.
///
/// On a CPU with glibc, memory that the process frees stays with it after the first network is prepared, as with `MALLOC_MMAP_MAX_=0` and
/// `MALLOC_TRIM_THRESHOLD_=4294967295` in its environment: docs/latency.md, "In deployment".
#[derive(Debug)]
pub struct DeviceMeter {
    device: Device,
    setting: Setting,
}

impl DeviceMeter {
    /// Returns the meter of a device, for batches of this shape, `[B, C, H, W]`, of random images. On a
    /// CPU, operators have the threads that libtorch has now; with another number later, nothing is measured.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a length that is not positive, or a device that is neither the CPU nor CUDA; those of [`Setting::here`].
    pub fn new(device: Device, precision: Precision, images: [i64; 4]) -> Result<Self> {
        images.iter().try_for_each(|&length| LENGTH.check("shape of the images", length))?;
        if !matches!(device, Device::Cpu | Device::Cuda(_)) {
            let device = format!("{device:?}");
            return Err(Error::invalid("device of the meter", "cpu or cuda", device));
        }
        Ok(Self { device, setting: Setting::here(device, precision, images)? })
    }

    /// Refuses another number of threads than when the meter was made.
    fn expect_threads(&self) -> Result<()> {
        let present = tch::get_num_threads().max(1) as usize;
        match self.setting.threads {
            Some(own) if own != present => {
                let (measured, present) = (own.to_string(), present.to_string());
                Err(LatencyError::Differs { what: "threads", measured, present }.into())
            }
            _ => Ok(()),
        }
    }
}

impl<A: Architecture> Meter<A> for DeviceMeter {
    fn setting(&self) -> Setting {
        self.setting.clone()
    }

    fn prepare(&self, network: &A) -> Result<Timer<'_>> {
        self.expect_threads()?;
        if self.device == Device::Cpu {
            keep_freed_memory();
        }
        let store = nn::VarStore::new(self.device);
        let network = network.build(&store.root())?;
        let (kind, shape) = (self.setting.precision.kind(), self.setting.images);
        let images = Tensor::f_randn(shape, (Kind::Float, self.device))?.f_to_kind(kind)?;
        convert(store.variables().values(), kind)?;
        // The processor time of one thread is its latency; of several, each waits for the others, too.
        let alone = self.setting.threads == Some(1);
        let forward =
            move || crate::autograd::no_grad(|| network.forward(&images, false).map(drop));
        Ok(Box::new(move || visit(&forward, self.device, alone)))
    }
}

/// Calls a network, and returns the shortest of the calls after the first, since other programs only add to a time; the
/// time of the first, if it is long.
fn visit(forward: &dyn Fn() -> Result<()>, device: Device, alone: bool) -> Result<f64> {
    let call = || -> Result<f64> {
        let before = processor_time().filter(|_| alone);
        let time = timed(forward, device)?;
        let own = before.and_then(|before| Some(processor_time()? - before));
        Ok(own.unwrap_or(time))
    };
    let first = call()?;
    if first > LONG {
        return Ok(first);
    }
    let [least, most] = CALLS;
    let count = (TOGETHER / first).clamp(least, most) as usize;
    let mut calls = (0..count).map(|_| call());
    calls.try_fold(f64::INFINITY, |least, time| Ok(least.min(time?)))
}

/// Returns the milliseconds that this thread has run on a processor; `None` where the operating system does not
/// count them.
fn processor_time() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Some(time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6)
    }
    #[cfg(not(unix))]
    None
}
