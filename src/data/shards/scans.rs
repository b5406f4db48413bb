//! Scans of all shards of a data set.

use super::scan::{scan, Scan, Stamp};
use crate::{files, Error, Result};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shards that are scanned at once: a scan waits for the disk or the network, not for the processor.
const SCANS_AT_ONCE: usize = 16;

/// Scans of shards by their absolute paths.
pub(super) type Scans = BTreeMap<PathBuf, Scan>;

/// Scan of a shard, and whether it was made now.
pub(super) struct Scanned {
    /// Absolute path.
    pub key: PathBuf,
    pub scan: Scan,
    pub is_fresh: bool,
}

/// Scans all shards that `known` does not have, several at once; returns the results in their order.
pub(super) fn scan_all(paths: &[PathBuf], known: &Scans) -> Vec<Result<Scanned>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut scanned = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(number) else { return scanned };
            scanned.push((number, scan_or_take(path, known)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let threads = SCANS_AT_ONCE.min(paths.len());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    all.sort_unstable_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, scanned)| scanned).collect()
}

/// Takes the scan of a shard that has not changed from `known`, or scans it.
fn scan_or_take(path: &Path, known: &Scans) -> Result<Scanned> {
    let key = std::path::absolute(path).map_err(|source| Error::io("read", path, source))?;
    if let Some(scan) = known.get(&key) {
        let about = files::open(path).and_then(|file| Stamp::of(&file));
        if about.map_err(|source| Error::io("read", path, source))? == scan.stamp {
            return Ok(Scanned { key, scan: scan.clone(), is_fresh: false });
        }
    }
    Ok(Scanned { key, scan: scan(path)?, is_fresh: true })
}
