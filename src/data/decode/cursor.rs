//! In-memory reader for the JPEG decoder.

use zune_jpeg::zune_core::bytestream::{ZByteIoError, ZByteReaderTrait, ZSeekFrom};

/// Slice with a read position.
///
/// It replaces zune's `ZCursor`, which reads through `std::io::Read`. That is not inlined, so every
/// refill of the Huffman decoder calls `memcpy` for four bytes and decoding takes 1/7 longer.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Offset of the next byte. Beyond the end, `read_byte_no_error` returns 0.
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    #[inline(always)]
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }
}

impl ZByteReaderTrait for Cursor<'_> {
    #[inline(always)]
    fn read_byte_no_error(&mut self) -> u8 {
        let byte = self.bytes.get(self.position).copied().unwrap_or_default();
        self.position = self.position.saturating_add(1);
        byte
    }

    #[inline(always)]
    fn read_exact_bytes(&mut self, buffer: &mut [u8]) -> Result<(), ZByteIoError> {
        self.peek_exact_bytes(buffer)?;
        self.position += buffer.len();
        Ok(())
    }

    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, ZByteIoError> {
        let count = self.peek_bytes(buffer)?;
        self.position += count;
        Ok(count)
    }

    fn peek_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, ZByteIoError> {
        let count = buffer.len().min(self.rest().len());
        buffer[..count].copy_from_slice(&self.rest()[..count]);
        Ok(count)
    }

    #[inline(always)]
    fn peek_exact_bytes(&mut self, buffer: &mut [u8]) -> Result<(), ZByteIoError> {
        let Some(bytes) = self.rest().get(..buffer.len()) else {
            return Err(ZByteIoError::NotEnoughBytes(self.rest().len(), buffer.len()));
        };
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    #[inline(always)]
    fn z_seek(&mut self, from: ZSeekFrom) -> Result<u64, ZByteIoError> {
        let moved = |start: usize, by: i64| start.checked_add_signed(isize::try_from(by).ok()?);
        let position = match from {
            ZSeekFrom::Start(position) => usize::try_from(position).ok(),
            ZSeekFrom::End(by) => moved(self.bytes.len(), by),
            ZSeekFrom::Current(by) => moved(self.position, by),
        };
        self.position = position.ok_or(ZByteIoError::SeekError("position before the start"))?;
        Ok(self.position as u64)
    }

    #[inline(always)]
    fn is_eof(&mut self) -> Result<bool, ZByteIoError> {
        Ok(self.position >= self.bytes.len())
    }

    fn z_position(&mut self) -> Result<u64, ZByteIoError> {
        Ok(self.position as u64)
    }

    fn read_remaining(&mut self, sink: &mut Vec<u8>) -> Result<usize, ZByteIoError> {
        let rest = self.rest();
        sink.extend_from_slice(rest);
        self.position += rest.len();
        Ok(rest.len())
    }
}
