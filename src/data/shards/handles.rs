//! Open shards.

use crate::{Error, Result};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

/// Largest number of shards that are kept open, where the system allows four times as many open files.
const MOST_OPEN: usize = 256;

/// Handles of the shards that were used last.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<Open>);

#[derive(Debug)]
struct Open {
    handles: VecDeque<(usize, Arc<File>)>,
    /// Largest number of handles.
    most: usize,
}

impl Default for Open {
    fn default() -> Self {
        Self { handles: VecDeque::new(), most: most_open() }
    }
}

impl Open {
    /// Returns the handle of a shard, which becomes the newest; `None` if it is not open.
    fn take(&mut self, shard: usize) -> Option<Arc<File>> {
        let place = self.handles.iter().rposition(|(open, _)| *open == shard)?;
        let handle = self.handles.remove(place)?;
        self.handles.push_back(handle.clone());
        Some(handle.1)
    }

    /// Drops handles, the oldest first, until there are at most `most`.
    fn shrink(&mut self, most: usize) {
        self.handles.drain(..self.handles.len().saturating_sub(most));
    }

    /// Drops all handles, and keeps half as many from then on, unless another thread has changed the limit
    /// since it was `before`.
    fn make_room(&mut self, before: usize) {
        if self.most == before {
            self.most = (self.handles.len() / 2).clamp(1, self.most);
        }
        self.shrink(0);
    }
}

impl Handles {
    /// Returns the handle of a shard, which is opened by `open` unless it is open.
    ///
    /// Where the system allows no further open file, the handles are dropped, half as many are kept from
    /// then on, and `open` is called once more.
    pub fn get(&self, shard: usize, open: impl Fn() -> Result<File>) -> Result<Arc<File>> {
        let (known, most) = self.with(|open| (open.take(shard), open.most));
        if let Some(file) = known {
            return Ok(file);
        }
        // Other threads go on meanwhile; one that opens the same shard keeps a second handle.
        let file = open().or_else(|error| match is_too_many(&error) {
            true => {
                self.with(|open| open.make_room(most));
                open()
            }
            false => Err(error),
        });
        let file = Arc::new(file?);
        self.with(|open| {
            open.handles.push_back((shard, Arc::clone(&file)));
            open.shrink(open.most);
        });
        Ok(file)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Open) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Number of shards that are kept open: a quarter of the open files that the process may have, because a
/// run has two data sets and other files.
fn most_open() -> usize {
    #[cfg(unix)]
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let allowed = None::<u64>;
    let quarter = allowed.and_then(|files| usize::try_from(files / 4).ok());
    quarter.map_or(MOST_OPEN, |quarter| quarter.clamp(1, MOST_OPEN))
}

/// Whether the process, or the system, has as many open files as are allowed.
fn is_too_many(error: &Error) -> bool {
    #[cfg(unix)]
    let codes = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(|own| own.raw_os_error());
    #[cfg(not(unix))]
    let codes = [4]; // ERROR_TOO_MANY_OPEN_FILES of Windows
    let Error::Io { source, .. } = error else { return false };
    source.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::sync::Weak;

    #[test]
    fn shards_that_were_used_last_stay_open_within_the_limit() -> Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let handles = Handles::default();
        let opened = Cell::new(0);
        let get = |shard| {
            handles.get(shard, || {
                opened.set(opened.get() + 1);
                File::open(path).map_err(|source| Error::io("open", path, source))
            })
        };
        let most = most_open();
        for shard in 0..most + 10 {
            get(shard)?;
            // Used again and again, so it stays open.
            get(0)?;
        }
        let held = handles.with(|open| open.handles.len());
        assert_eq!((opened.get(), held), (most + 10, most));
        Ok(())
    }

    #[test]
    #[cfg(unix)]
    fn shard_beyond_the_limit_of_open_files_is_opened_after_the_others_are_dropped() -> Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let (handles, open) = (Handles::default(), RefCell::new(Vec::new()));
        // A system that allows ten open files.
        let get = |shard| {
            handles.get(shard, || {
                open.borrow_mut().retain(|file: &Weak<File>| file.strong_count() > 0);
                if open.borrow().len() >= 10 {
                    let source = rustix::io::Errno::MFILE.into();
                    return Err(Error::io("read", path, source));
                }
                File::open(path).map_err(|source| Error::io("read", path, source))
            })
        };
        for shard in 0..25 {
            let file = get(shard)?;
            open.borrow_mut().push(Arc::downgrade(&file));
        }
        // Half of the files are left to the other parts of the program.
        assert_eq!(handles.with(|open| (open.handles.len(), open.most)), (5, 5));
        let denied = || Err(Error::io("read", path, rustix::io::Errno::ACCESS.into()));
        assert!(handles.get(30, denied).is_err());
        assert_eq!(handles.with(|open| open.handles.len()), 5);
        Ok(())
    }

    /// The second call stands for a thread that fails while the first one waits for its `open`.
    #[test]
    #[cfg(unix)]
    fn limit_is_halved_once_for_two_calls_that_fail_at_once() -> Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let handles = Handles::default();
        let open = || File::open(path).map_err(|source| Error::io("read", path, source));
        for shard in 0..10 {
            handles.get(shard, open)?;
        }
        let fail_once = |tries: &Cell<usize>| {
            tries.set(tries.get() + 1);
            let too_many = || Error::io("read", path, rustix::io::Errno::MFILE.into());
            if tries.get() == 1 {
                Err(too_many())
            } else {
                open()
            }
        };
        let (first, second) = (Cell::new(0), Cell::new(0));
        handles.get(20, || {
            if first.get() == 0 {
                handles.get(21, || fail_once(&second))?;
            }
            fail_once(&first)
        })?;
        assert_eq!((first.get(), second.get()), (2, 2));
        assert_eq!(handles.with(|open| (open.handles.len(), open.most)), (1, 5));
        Ok(())
    }
}
