//! Memory of forward passes: its peak, and pages that the process keeps between them.

use crate::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::Device;

/// Memory beside the weights that forward passes of the dense network and of the subnet need at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeakMemory {
    /// Of the dense network, in bytes.
    pub dense: u64,
    /// Of the subnet, in bytes.
    pub subnet: u64,
}

/// Returns the memory that a call of a network needs at most beside what the process had before, in bytes: its
/// activations, without its weights.
///
/// On a CPU with Linux and glibc: after a first call, the allocator returns what is free to the system, the kernel's peak of the
/// resident set (`VmHWM` of `/proc/self/status`) is set back, and the network is called again. The peak is exact to some
/// pages; what other threads of the process allocate meanwhile counts, too. `None` elsewhere, and where `/proc` does not
/// allow it: tch binds no statistics of libtorch's allocator of CUDA, so on a card memory is not measured.
///
/// # Errors
/// Those of the network.
pub fn peak_memory(forward: &dyn Fn() -> Result<()>, device: Device) -> Result<Option<u64>> {
    if device != Device::Cpu || !return_free_memory() {
        return Ok(None);
    }
    // Where freed memory stays, what is free within the heap would count, too.
    if !KEPT.load(Ordering::Relaxed) {
        return peak_of_a_call(forward);
    }
    keep(false);
    let peak = peak_of_a_call(forward);
    keep(true);
    peak
}

fn peak_of_a_call(forward: &dyn Fn() -> Result<()>) -> Result<Option<u64>> {
    forward()?;
    return_free_memory();
    // Sets the peak to what is in use.
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        return Ok(None);
    }
    let before = in_use("VmRSS:");
    forward()?;
    Ok(in_use("VmHWM:").zip(before).map(|(peak, before)| peak.saturating_sub(before)))
}

/// A number of bytes in the status of this process.
fn in_use(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns what the allocator holds free to the system; false where it cannot.
fn return_free_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes any number, locks the heaps itself, and frees nothing in use.
        unsafe { glibc::malloc_trim(0) };
        true
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

/// From now on, memory that this process frees stays with it. Only on Linux with glibc.
///
/// By default glibc returns large blocks to the system, and the top of the heap when much of it is free; the next
/// forward pass takes the pages again, one by one. Whether it does depends on where the blocks happen to lie: latencies of
/// one and the same network, built twice, differed by a third.
pub(super) fn keep_freed_memory() {
    keep(true);
}

/// Whether freed memory stays with the process.
static KEPT: AtomicBool = AtomicBool::new(false);

/// Sets whether memory that is freed from now on stays with the process, or large blocks return to the system.
fn keep(kept: bool) {
    KEPT.store(kept, Ordering::Relaxed);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let (most_mapped, trim) = if kept { (0, -1) } else { glibc::DEFAULTS };
        for (parameter, value) in
            [(glibc::M_MMAP_MAX, most_mapped), (glibc::M_TRIM_THRESHOLD, trim)]
        {
            // SAFETY: takes any numbers, and sets one under the lock of the heap.
            unsafe { glibc::mallopt(parameter, value) };
        }
    }
}

/// Functions and constants of `malloc.h`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    /// Free bytes at the top of the heap above which they return to the system; -1: never.
    pub(super) const M_TRIM_THRESHOLD: c_int = -1;
    /// Largest number of blocks that are mapped each on its own.
    pub(super) const M_MMAP_MAX: c_int = -4;
    /// Their values at the start of a process.
    pub(super) const DEFAULTS: (c_int, c_int) = (65_536, 128 * 1024);

    extern "C" {
        pub(super) fn malloc_trim(pad: usize) -> c_int;
        pub(super) fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
}
