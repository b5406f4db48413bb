//! Peak memory of a forward pass.

use crate::Result;
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
        extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc's function takes any number, locks the heaps itself, and frees nothing in use.
        unsafe { malloc_trim(0) };
        true
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
