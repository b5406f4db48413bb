//! Where tensors live, and how CUDA becomes reachable at all.
//!
//! A binary linked with `--as-needed` (the default on most Linux systems) drops libtorch's CUDA
//! library, because no symbol of it is referenced, and CUDA then "is not available" on a machine
//! that has it. Loading the library at run time registers the backend, but only before the first
//! CUDA query: libtorch remembers the answer.

use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tch::Device;

/// Makes CUDA available to this process if its libtorch has it.
///
/// Call it before any other use of CUDA in the process; [`parse`] does. The library is loaded
/// once, later calls return the first answer.
///
/// # Errors
/// [`Error::Device`] if this libtorch has no CUDA part, or it cannot be loaded.
pub fn enable_cuda() -> Result<()> {
    static LOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(load_cuda).clone();
    loaded.map_err(|reason| Error::Device { device: "cuda".into(), reason })
}

/// A device from its name: `cpu`, `cuda`, `cuda:1`, or `auto` (CUDA where there is one).
///
/// # Errors
/// [`Error::Invalid`] for another name; [`Error::Device`] if CUDA is asked for and not there,
/// with the reason.
pub fn parse(name: &str) -> Result<Device> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    if name == "auto" {
        return Ok(cuda(name, 0).unwrap_or(Device::Cpu));
    }
    let index = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|index| index.parse().ok()),
        None => None,
    };
    match index {
        Some(index) => cuda(name, index),
        None => Err(Error::invalid("device", "cpu, cuda, cuda:N or auto", name)),
    }
}

fn cuda(name: &str, index: usize) -> Result<Device> {
    let refused = |reason: String| Err(Error::Device { device: name.into(), reason });
    if let Err(Error::Device { reason, .. }) = enable_cuda() {
        return refused(reason);
    }
    if !tch::Cuda::is_available() {
        return refused("libtorch has CUDA, but finds no NVIDIA driver or no GPU".into());
    }
    let count = tch::Cuda::device_count().max(0) as usize;
    if index >= count {
        return refused(format!("there are {count} CUDA devices, numbered from 0"));
    }
    Ok(Device::Cuda(index))
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
    load_for_good(&library).map_err(|error| format!("cannot load {}: {error}", library.display()))
}

/// Folder of the libtorch this process runs on.
fn loaded_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    Path::new(&line[line.find('/')?..]).parent().map(Path::to_path_buf)
}

/// Folder of the libtorch this crate was built against.
fn built_folder() -> Option<PathBuf> {
    option_env!("OFB_LIBTORCH_LIB").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

#[cfg(target_os = "linux")]
fn load_for_good(library: &Path) -> std::result::Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libtorch's own library; its initialisers register the CUDA backend and have no
    // other precondition. It is never unloaded, so nothing of it can dangle.
    let handle = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL)? };
    std::mem::forget(handle);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn load_for_good(_library: &Path) -> std::result::Result<(), libloading::Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        assert!(matches!(parse("cpu"), Ok(Device::Cpu)));
        assert!(parse("auto").is_ok());
        for name in ["gpu", "cuda:", "cuda:x", "cuda1", ""] {
            assert!(matches!(parse(name), Err(Error::Invalid { actual, .. }) if actual == name));
        }
    }

    #[test]
    fn a_device_that_is_not_there_says_why() {
        let error = parse("cuda:4096");
        assert!(matches!(error, Err(Error::Device { device, .. }) if device == "cuda:4096"));
    }
}
