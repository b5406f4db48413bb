//! Bytes of a pickle, read with every bound checked.

use crate::error::CheckpointError;

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// The next `count` bytes, borrowed: a length that lies allocates nothing.
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
                found: format!("{} where {count} are announced", left.len()),
            }),
        }
    }

    /// A little-endian number of `width` ≤ 8 bytes.
    pub(super) fn unsigned(&mut self, width: u64) -> Result<u64, CheckpointError> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// What follows a length of `width` bytes.
    pub(super) fn counted(&mut self, width: u64) -> Result<&'a [u8], CheckpointError> {
        let count = self.unsigned(width)?;
        self.take(count)
    }

    /// Up to the end of the line, without it.
    pub(super) fn line(&mut self) -> Result<&'a [u8], CheckpointError> {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        let length = left.iter().position(|&byte| byte == b'\n').unwrap_or(left.len());
        let line = self.take(length as u64)?;
        self.take(1)?;
        Ok(line)
    }
}
