//! Reading at positions of a file.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// Bytes that are read at once: the headers and the class between the images of two samples.
const AHEAD: usize = 8192;

/// Reads bytes at a position, without moving the position of the file.
#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, position)
}

/// Reads bytes at a position. One read after the other, because they share the position of the file.
#[cfg(not(unix))]
pub(super) fn read_at(file: &File, bytes: &mut [u8], position: u64) -> io::Result<usize> {
    use std::sync::{Mutex, PoisonError};
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = file;
    file.seek(SeekFrom::Start(position))?;
    file.read(bytes)
}

/// Fills `bytes` from a position; returns how many there are before the end of the file.
pub(super) fn fill_at(file: &File, bytes: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match read_at(file, &mut bytes[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reader of the headers in a file: seeking reads nothing, and no more bytes than allowed are read.
pub(super) struct Window<'a> {
    file: &'a File,
    position: Cell<u64>,
    allowed: Cell<usize>,
    /// Position of the bytes read ahead, and these bytes.
    ahead: RefCell<(u64, Vec<u8>)>,
}

impl<'a> Window<'a> {
    /// Returns a window at `position`.
    pub fn new(file: &'a File, position: u64) -> Self {
        let ahead = RefCell::new((0, Vec::new()));
        Self { file, position: Cell::new(position), allowed: Cell::new(0), ahead }
    }

    /// Position of the next byte.
    pub fn position(&self) -> u64 {
        self.position.get()
    }

    /// Allows to read so many bytes from now on.
    pub fn allow(&self, bytes: usize) {
        self.allowed.set(bytes);
    }
}

impl Read for &Window<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.allowed.get() == 0 && !bytes.is_empty() {
            let message = "got a header with a longer name or longer attributes than is supported";
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        let position = self.position.get();
        let mut ahead = self.ahead.borrow_mut();
        let (start, content) = &mut *ahead;
        if !(*start..*start + content.len() as u64).contains(&position) {
            content.resize(AHEAD, 0);
            *start = position;
            let filled = fill_at(self.file, content, position);
            content.truncate(*filled.as_ref().unwrap_or(&0));
            filled?;
        }
        let rest = &content[(position - *start) as usize..];
        let count = rest.len().min(bytes.len()).min(self.allowed.get());
        bytes[..count].copy_from_slice(&rest[..count]);
        self.position.set(position + count as u64);
        self.allowed.set(self.allowed.get() - count);
        Ok(count)
    }
}

impl Seek for &Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.get().checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        // Reads add to it.
        let position = position.filter(|&position| position <= i64::MAX as u64);
        let position = position.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        self.position.set(position);
        Ok(position)
    }
}
