//! Seeds of libtorch's generators: [`seed`], and those of a search as a function of (seed, step,
//! purpose).
//!
//! libtorch's global generators are reseeded before every use, so a resumed run draws the same
//! numbers as one without interruption. The generators belong to the process: two searches that
//! step in different threads at the same time disturb each other's random numbers.

use crate::Result;
use std::cell::RefCell;
use tch::Tensor;

/// Seeds libtorch's generators, on the CPU and on all CUDA devices.
///
/// Use it in place of `tch::manual_seed`: that function looks for CUDA, and libtorch keeps the
/// first answer. Called before [`device::parse`](crate::device::parse) or
/// [`device::enable_cuda`](crate::device::enable_cuda), it makes CUDA unavailable for the process.
/// This function loads CUDA first, where there is one.
///
/// A [`Search`](crate::search::Search) seeds the generators itself, from its option `seed`.
///
/// ```
/// use once_for_both::randomness::seed;
/// use tch::{Device, Kind, Tensor};
///
/// let draw = || Tensor::rand([3], (Kind::Float, Device::Cpu));
/// seed(7);
/// let first = draw();
/// seed(7);
/// assert!(draw().equal(&first));
/// ```
pub fn seed(seed: u64) {
    // Without CUDA there is no generator of it to seed.
    let _ = crate::device::enable_cuda();
    tch::manual_seed(seed as i64);
}

/// Images of a batch that this process has, of those that all processes have together.
#[derive(Debug)]
pub(crate) struct Placement {
    /// Number of images of all processes.
    pub(crate) images: i64,
    /// Places of this process's images among them, `[own]`, i64, on the device.
    pub(crate) places: Tensor,
}

thread_local! {
    static PLACEMENT: RefCell<Option<Placement>> = const { RefCell::new(None) };
}

/// Runs `work` on images with this placement; `None` where this process has all of them.
pub(crate) fn placed<T>(placement: Option<Placement>, work: impl FnOnce() -> T) -> T {
    /// Restores the former placement, after a panic too.
    struct Restore(Option<Placement>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLACEMENT.replace(self.0.take());
        }
    }
    let _restore = Restore(PLACEMENT.replace(placement));
    work()
}

/// Returns random numbers for `own` images, one row an image, that do not depend on how many processes
/// share the batch.
///
/// Where several processes train one network together ([`distributed`](crate::distributed)), `draw` is
/// asked for the rows of the whole batch, on every rank from the same seed, and the rows of this rank's
/// images are returned; elsewhere for the rows of the `own` images. Networks with dropout or stochastic
/// depth of their own draw through it, so that two processes train as one does.
///
/// # Shapes
/// `draw`: the number of images n to `[n, …]`. Result: `[own, …]`.
///
/// # Errors
/// Those of `draw`; [`Error::Torch`](crate::Error::Torch) if the result has fewer rows.
///
/// ```
/// use once_for_both::randomness::for_images;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> once_for_both::Result<()> {
/// let keep = for_images(8, |images| Ok(Tensor::f_rand([images, 1], (Kind::Float, Device::Cpu))?))?;
/// assert_eq!(keep.size(), [8, 1]);
/// # Ok(())
/// # }
/// ```
pub fn for_images(own: i64, draw: impl FnOnce(i64) -> Result<Tensor>) -> Result<Tensor> {
    let shared = PLACEMENT.with_borrow(|placement| {
        let placement = placement.as_ref()?;
        (placement.places.size() == [own])
            .then(|| (placement.images, placement.places.shallow_clone()))
    });
    match shared {
        None => draw(own),
        Some((images, places)) => Ok(draw(images)?.f_index_select(0, &places)?),
    }
}

/// Use of random numbers. Each has seeds of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Initialise = 1,
    Scores = 2,
    Step = 3,
    Batch = 4,
    Order = 5,
    Check = 6,
    Reconstruct = 7,
}

/// Returns the seed of a step and purpose: a hash by SplitMix64's finaliser.
pub(crate) fn derive_seed(seed: u64, step: u64, purpose: Purpose) -> u64 {
    let scramble = |mut x: u64| {
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    scramble(scramble(scramble(seed) ^ step) ^ purpose as u64)
}

/// Seeds libtorch's generators, on all devices, for one step and purpose.
pub(crate) fn seed_torch(seed: u64, step: u64, purpose: Purpose) {
    self::seed(derive_seed(seed, step, purpose));
}
