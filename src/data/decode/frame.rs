//! The parts of a JPEG header that are needed to decode only the top rows.

/// Start-of-frame markers of baseline and extended sequential files.
const SEQUENTIAL: [u8; 2] = [0xc0, 0xc1];
/// All start-of-frame markers lie in this range, which has three markers of other meaning.
const FRAMES: std::ops::RangeInclusive<u8> = 0xc0..=0xcf;
const NOT_FRAMES: [u8; 3] = [0xc4, 0xc8, 0xcc];
const START_OF_SCAN: u8 = 0xda;

/// Frame of a sequential JPEG with a single scan of all components, coded from top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    /// Offset of the two bytes of the height.
    height_at: usize,
    components: usize,
    /// Offset of the entropy-coded data.
    pub data_at: usize,
    /// Number of rows below a row that may influence its colours: subsampled chroma is
    /// interpolated vertically.
    reach: usize,
}

impl Frame {
    /// Parses the header. `None` for a file that must be decoded as a whole: progressive, with a
    /// scan for each component, or with a header this parser does not know.
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
                    let single_scan = frame.filter(|frame| frame.has_all_components(segment));
                    return single_scan.map(|frame| Self { data_at: at + 2 + length, ..frame });
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
        // Bits of a sample, height, width, number of components; for each component its id, its
        // horizontal and vertical sampling factors (half a byte each) and its table.
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
        // A height of 0 means that it is given after the scan (DNL marker).
        (frame.width > 0 && frame.height > 0).then_some(frame)
    }

    fn has_all_components(&self, scan: &[u8]) -> bool {
        scan.first().is_some_and(|&components| usize::from(components) == self.components)
    }

    /// Number of rows to decode so that the first `rows` equal those of the whole image.
    pub fn rows_for(&self, rows: usize) -> usize {
        // Without vertical subsampling, no row depends on another.
        let reach = if self.reach > 1 { self.reach } else { 0 };
        rows.saturating_add(reach).min(self.height)
    }

    /// Returns the file with its height set to `rows`: the decoder stops after them.
    pub fn shortened(&self, bytes: &[u8], rows: usize) -> Option<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let height = bytes.get_mut(self.height_at..self.height_at + 2)?;
        height.copy_from_slice(&u16::try_from(rows).ok()?.to_be_bytes());
        Some(bytes)
    }
}
