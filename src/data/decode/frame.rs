//! The header of a JPEG file, as far as it takes to decode only its upper part.

/// Start of frame, baseline and extended sequential.
const SEQUENTIAL: [u8; 2] = [0xc0, 0xc1];
/// Markers that begin with this are starts of frames as well, except for these three.
const FRAMES: std::ops::RangeInclusive<u8> = 0xc0..=0xcf;
const NOT_FRAMES: [u8; 3] = [0xc4, 0xc8, 0xcc];
const START_OF_SCAN: u8 = 0xda;

/// The frame of a file whose one scan holds all components, from the top to the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    /// Where in the file the height is, with two bytes.
    height_at: usize,
    components: usize,
    /// Where in the file the coded data begin.
    pub data_at: usize,
    /// Rows below a row that may have a share in its colours: chroma with half the rows is
    /// interpolated.
    reach: usize,
}

impl Frame {
    /// Reads the header of a file; `None` if anything in it is unusual, so that it takes the
    /// whole file to decode any part: progressive files, a scan for each component.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut frame: Option<Self> = None;
        let mut at = 2;
        loop {
            let [0xff, marker, high, low] = *bytes.get(at..)?.first_chunk()? else {
                return None;
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let segment = bytes.get(at + 4..at + 2 + length)?;
            match marker {
                START_OF_SCAN => {
                    let whole = frame.filter(|frame| frame.is_whole_in(segment));
                    return whole.map(|frame| Self { data_at: at + 2 + length, ..frame });
                }
                marker if SEQUENTIAL.contains(&marker) && frame.is_none() => {
                    frame = Some(Self::parse(segment, at + 4)?);
                }
                marker if FRAMES.contains(&marker) && !NOT_FRAMES.contains(&marker) => return None,
                _ => {}
            }
            at += 2 + length;
        }
    }

    fn parse(segment: &[u8], at: usize) -> Option<Self> {
        // Bits of a sample, rows, columns, number of components; of each its name, its
        // samples across and down in half a byte each, its table.
        let ([8, heights @ .., components], descriptions) = segment.split_first_chunk::<6>()?
        else {
            return None;
        };
        let [top, bottom, left, right] = *heights;
        let samples_down = descriptions.chunks_exact(3).map(|component| component[1] & 15);
        let frame = Self {
            width: usize::from(u16::from_be_bytes([left, right])),
            height: usize::from(u16::from_be_bytes([top, bottom])),
            height_at: at + 1,
            data_at: 0,
            components: usize::from(*components),
            reach: usize::from(samples_down.max()?),
        };
        // Without a height, it stands behind the scan.
        (frame.width > 0 && frame.height > 0).then_some(frame)
    }

    fn is_whole_in(&self, scan: &[u8]) -> bool {
        scan.first().is_some_and(|&components| usize::from(components) == self.components)
    }

    /// Rows to be decoded so that the first `rows` come out as they do in the whole.
    pub fn rows_for(&self, rows: usize) -> usize {
        // Luma is not interpolated: with all components at its size, nothing reaches anywhere.
        let reach = if self.reach > 1 { self.reach } else { 0 };
        rows.saturating_add(reach).min(self.height)
    }

    /// The file with so many rows: the decoder stops behind them.
    pub fn shortened(&self, bytes: &[u8], rows: usize) -> Option<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let height = bytes.get_mut(self.height_at..self.height_at + 2)?;
        height.copy_from_slice(&u16::try_from(rows).ok()?.to_be_bytes());
        Some(bytes)
    }
}
