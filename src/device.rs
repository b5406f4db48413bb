//! Devices by name, and loading of libtorch's CUDA library.
//!
//! Linkers with `--as-needed` (the default of most Linux systems) drop `libtorch_cuda.so`, since
//! the program references none of its symbols. `tch::Cuda::is_available` then returns false on a
//! machine with a GPU. Loading the library at run time registers the CUDA backend, but only before
//! the first CUDA query of the process: libtorch caches the result.

use crate::distributed::local_rank;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// Loads libtorch's CUDA library, so that this process can use CUDA.
///
/// Call it before any other use of CUDA in the process; [`parse`] calls it. The library is loaded
/// once; later calls return the result of the first.
///
/// # Errors
/// [`Error::Device`] if libtorch is CPU-only, or its CUDA library cannot be loaded.
pub fn enable_cuda() -> Result<()> {
    static LOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(load_cuda).clone();
    loaded.map_err(|reason| Error::Device { device: "cuda".into(), reason })
}

/// Returns the device of a name: `cpu`, `cuda`, `cuda:1`, or `auto` (CUDA if it can be loaded and has a device, else
/// the CPU). The index of `cuda` and `auto` is the number of this process on its machine ([`local_rank`]),
/// which is 0 for a process alone; also 0 where the launcher shows each process one card.
///
/// # Errors
/// [`Error::Invalid`] for another name; [`Error::Device`], with the reason, for a CUDA device that
/// is not available; [`DistributedError::Variable`](crate::error::DistributedError::Variable) for a
/// `LOCAL_RANK` that is not a number.
pub fn parse(name: &str) -> Result<Device> {
    match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => return cuda(name, Index::OfProcess(local_rank()?)),
        "auto" => return auto(cuda_devices(), Index::OfProcess(local_rank()?)),
        _ => {}
    }
    match name.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
        Some(index) => cuda(name, Index::Of(index)),
        None => Err(Error::invalid("device", "cpu, cuda, cuda:N or auto", name)),
    }
}

/// Index of a CUDA device.
#[derive(Debug, Clone, Copy)]
enum Index {
    /// As the user wrote it.
    Of(usize),
    /// That of a process with this number on its machine.
    OfProcess(usize),
}

impl Index {
    /// Returns the index among `count` devices.
    fn among(self, count: usize) -> std::result::Result<usize, String> {
        let devices = format!("expected less than {count}, the number of CUDA devices");
        match self {
            Self::Of(index) | Self::OfProcess(index) if index < count => Ok(index),
            Self::Of(index) => Err(format!("index: got {index}, {devices}")),
            Self::OfProcess(_) if count == 1 => Ok(0),
            Self::OfProcess(rank) => Err(format!(
                "LOCAL_RANK: got {rank}, {devices}; start as many processes as there are devices"
            )),
        }
    }
}

/// Returns the name of a device, as [`parse`] takes it.
pub(crate) fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => type_of(other).into(),
    }
}

/// Waits until the work that is queued on a device is done: by a number that is read from it, whatever it is, since
/// [`tch::Cuda::synchronize`] panics where that work has failed. Nothing is read from a CPU, which has no queue.
///
/// # Errors
/// [`Error::Torch`] if the work has failed.
pub(crate) fn synchronise(device: Device) -> Result<()> {
    if let Device::Cuda(_) = device {
        Tensor::f_empty([1], (Kind::Float, device))?.f_double_value(&[0])?;
    }
    Ok(())
}

/// Returns the name of a type of device.
pub(crate) fn type_of(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Mps => "mps",
        Device::Vulkan => "vulkan",
    }
}

fn cuda(name: &str, index: Index) -> Result<Device> {
    let found = cuda_devices().and_then(|count| index.among(count));
    found.map(Device::Cuda).map_err(|reason| Error::Device { device: name.into(), reason })
}

/// Returns the device of `auto`, from the number of CUDA devices or the reason why there is none. A process whose
/// index is beyond them is refused: on the CPU it would hold back the others.
fn auto(devices: std::result::Result<usize, String>, index: Index) -> Result<Device> {
    match devices {
        Err(_) | Ok(0) => Ok(Device::Cpu),
        Ok(count) => index
            .among(count)
            .map(Device::Cuda)
            .map_err(|reason| Error::Device { device: "auto".into(), reason }),
    }
}

/// Returns the number of CUDA devices, or why CUDA cannot be used.
fn cuda_devices() -> std::result::Result<usize, String> {
    if let Err(Error::Device { reason, .. }) = enable_cuda() {
        return Err(reason);
    }
    if !tch::Cuda::is_available() {
        let reason = "libtorch supports CUDA, but found no NVIDIA driver or no GPU; or the program asked for CUDA \
                      before (tch::manual_seed and tch::Cuda do): call device::enable_cuda first";
        return Err(reason.into());
    }
    Ok(tch::Cuda::device_count().max(0) as usize)
}

fn load_cuda() -> std::result::Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let folders = [loaded_folder(), built_folder()];
    let candidates = folders.iter().flatten().map(|folder| folder.join("libtorch_cuda.so"));
    let Some(library) = candidates.into_iter().find(|path| path.exists()) else {
        let folder = folders.into_iter().flatten().next().unwrap_or_default();
        return Err(format!(
            "this libtorch is CPU-only (no libtorch_cuda.so in {}); install a CUDA build, for \
             instance with OFB_CUDA=1 make setup",
            folder.display()
        ));
    };
    load_permanently(&library)
        .map_err(|error| format!("cannot load {}: {error}", library.display()))
}

/// Folder of the libtorch that this process has loaded.
fn loaded_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    Path::new(&line[line.find('/')?..]).parent().map(Path::to_path_buf)
}

/// Folder of the libtorch that this crate was built against.
fn built_folder() -> Option<PathBuf> {
    option_env!("OFB_LIBTORCH_LIB").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

#[cfg(target_os = "linux")]
fn load_permanently(library: &Path) -> std::result::Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: this is libtorch's own library. Its initialisers register the CUDA backend and have
    // no other precondition. It is never unloaded, so no reference to it can dangle.
    let handle = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL)? };
    std::mem::forget(handle);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn load_permanently(_library: &Path) -> std::result::Result<(), libloading::Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_cpu_and_auto_and_rejects_misspelled_names() {
        assert!(matches!(parse("cpu"), Ok(Device::Cpu)));
        assert!(parse("auto").is_ok());
        for name in ["gpu", "cuda:", "cuda:x", "cuda1", ""] {
            assert!(matches!(parse(name), Err(Error::Invalid { actual, .. }) if actual == name));
        }
    }

    #[test]
    fn index_of_process_is_its_local_rank_or_that_of_the_only_device() {
        assert_eq!(Index::OfProcess(3).among(8), Ok(3));
        assert_eq!(Index::OfProcess(3).among(1), Ok(0));
        let refused = Index::OfProcess(3).among(2).err().unwrap_or_default();
        assert!(refused.starts_with("LOCAL_RANK: got 3, expected less than 2"), "{refused}");
        assert!(Index::Of(3).among(1).is_err());
    }

    #[test]
    fn auto_without_cuda_devices_is_the_cpu_and_with_too_few_is_refused() {
        let index = Index::OfProcess(2);
        for devices in [Err("none".into()), Ok(0)] {
            assert!(matches!(auto(devices, index), Ok(Device::Cpu)));
        }
        assert!(matches!(auto(Ok(3), index), Ok(Device::Cuda(2))));
        let refused = auto(Ok(2), index);
        assert!(
            matches!(&refused, Err(Error::Device { device, reason })
                if device == "auto" && reason.starts_with("LOCAL_RANK: got 2, expected less than 2")),
            "{refused:?}"
        );
    }

    #[test]
    fn waiting_for_an_absent_device_is_an_error_and_for_the_cpu_nothing() {
        let _ = enable_cuda();
        assert!(synchronise(Device::Cpu).is_ok());
        assert!(matches!(synchronise(Device::Cuda(100)), Err(Error::Torch { .. })));
    }

    #[test]
    fn parse_of_absent_cuda_device_is_an_error_with_its_name() {
        let error = parse("cuda:4096");
        assert!(matches!(error, Err(Error::Device { device, .. }) if device == "cuda:4096"));
    }
}
