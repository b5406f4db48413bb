//! The library with the NCCL process group, opened with the first CUDA tensor.

use super::c10d::{Backend, Place, Result, Store};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The library as build.rs made it; empty if it did not.
const BUILT: &str = match option_env!("OFB_NCCL_LIBRARY") {
    Some(library) => library,
    None => "",
};
/// Why build.rs did not make it.
const REASON: &str = match option_env!("OFB_NCCL_REASON") {
    Some(reason) => reason,
    None => "this program was built without libtorch",
};

/// Opens a process group over NCCL, on the card of this index. An error says what to install, or which
/// rank has the same card.
pub(super) fn open(store: &Store, place: Place, card: usize, limit: Duration) -> Result<Backend> {
    if BUILT.is_empty() {
        return Err(REASON.into());
    }
    crate::device::enable_cuda().map_err(|error| error.to_string())?;
    Backend::nccl(&library()?, store, place, card, limit)
}

/// The library beside the program, so that both can be installed on another machine, or where it was
/// built.
fn library() -> Result<PathBuf> {
    let built = Path::new(BUILT);
    let beside = std::env::current_exe().ok().zip(built.file_name());
    let beside = beside.map(|(program, name)| program.with_file_name(name));
    let found = beside.iter().map(PathBuf::as_path).chain([built]).find(|path| path.is_file());
    found.map(Path::to_path_buf).ok_or_else(|| {
        format!("library {BUILT}: got none, expected it there or beside the program; copy it there")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_without_nccl_says_what_to_install() {
        assert_ne!(BUILT.is_empty(), REASON.is_empty(), "{BUILT}: {REASON}");
    }
}
