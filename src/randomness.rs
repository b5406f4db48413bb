//! Randomness as a function of (seed, step, purpose).
//!
//! libtorch's global generator is reseeded before every use, so a run that was interrupted and
//! resumed draws what the uninterrupted run draws. The generator belongs to the whole process: two
//! sessions that step in different threads draw from each other's.

/// What random numbers are for.
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

/// Mixes three numbers into one (the finaliser of SplitMix64, applied in turn).
pub(crate) fn derive_seed(seed: u64, step: u64, purpose: Purpose) -> u64 {
    let scramble = |mut x: u64| {
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    scramble(scramble(scramble(seed) ^ step) ^ purpose as u64)
}

/// Seeds libtorch's generators on all devices.
pub(crate) fn seed_torch(seed: u64, step: u64, purpose: Purpose) {
    tch::manual_seed(derive_seed(seed, step, purpose) as i64);
}
