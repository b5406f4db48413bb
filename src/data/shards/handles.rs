//! Open shards.

use crate::Result;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

/// Shards that are kept open. Many systems allow a process 1024 open files.
const MOST_OPEN: usize = 256;

/// Handles of the shards that were used last.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<VecDeque<(usize, Arc<File>)>>);

impl Handles {
    /// Returns the handle of a shard, which is opened by `open` unless it is open.
    pub fn get(&self, shard: usize, open: impl FnOnce() -> Result<File>) -> Result<Arc<File>> {
        let known = self.with(|handles| {
            let place = handles.iter().rposition(|(open, _)| *open == shard)?;
            let handle = handles.remove(place)?;
            handles.push_back(handle.clone());
            Some(handle.1)
        });
        if let Some(file) = known {
            return Ok(file);
        }
        // Other threads go on meanwhile; one that opens the same shard keeps a second handle.
        let file = Arc::new(open()?);
        self.with(|handles| {
            handles.push_back((shard, Arc::clone(&file)));
            if handles.len() > MOST_OPEN {
                handles.pop_front();
            }
        });
        Ok(file)
    }

    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<(usize, Arc<File>)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_were_used_last_stay_open_within_the_limit() -> Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let handles = Handles::default();
        let mut opened = 0;
        let mut get = |shard| {
            handles.get(shard, || {
                opened += 1;
                File::open(path).map_err(|source| crate::Error::io("open", path, source))
            })
        };
        for shard in 0..MOST_OPEN + 10 {
            get(shard)?;
            // Used again and again, so it stays open.
            get(0)?;
        }
        assert_eq!((opened, handles.with(|handles| handles.len())), (MOST_OPEN + 10, MOST_OPEN));
        Ok(())
    }
}
