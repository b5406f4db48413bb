//! Cursor over the bytes of a pickle that checks every bound.

use crate::error::CheckpointError;

/// Position in the bytes of a pickle.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the number of bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Returns the next `count` bytes, borrowed, so that a wrong length allocates nothing.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], CheckpointError> {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        match usize::try_from(count).ok().and_then(|count| left.get(..count)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(CheckpointError::Pickle {
                offset: self.at,
                expected: "more bytes",
                found: format!("{} of {count}", left.len()),
            }),
        }
    }

    /// Reads a little-endian number of `width` ≤ 8 bytes.
    pub(super) fn unsigned(&mut self, width: u64) -> Result<u64, CheckpointError> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Reads a length of `width` bytes, and as many bytes as it says.
    pub(super) fn counted(&mut self, width: u64) -> Result<&'a [u8], CheckpointError> {
        let count = self.unsigned(width)?;
        self.take(count)
    }

    /// Reads up to the end of the line, and returns the line without its end.
    pub(super) fn line(&mut self) -> Result<&'a [u8], CheckpointError> {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        let length = left.iter().position(|&byte| byte == b'\n').unwrap_or(left.len());
        let line = self.take(length as u64)?;
        self.take(1)?;
        Ok(line)
    }
}
