//! Seeds of libtorch's generators: [`seed`], and those of a search as a function of (seed, step,
//! purpose).
//!
//! libtorch's global generators are reseeded before every use, so a resumed run draws the same
//! numbers as one without interruption. The generators belong to the process: two searches that
//! step in different threads at the same time disturb each other's random numbers.

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
