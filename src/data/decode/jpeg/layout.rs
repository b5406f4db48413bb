//! Markers of a JPEG file: what its header claims, and whether every scan is there.

use super::error;
use super::progression::Progression;
use crate::error::DecodeError;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// All start-of-frame markers lie in this range, which has three markers of other meaning.
const FRAMES: std::ops::RangeInclusive<u8> = 0xc0..=0xcf;
const HUFFMAN_TABLES: u8 = 0xc4;
const ARITHMETIC_CONDITIONING: u8 = 0xcc;
const RESTARTS: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
/// Markers without a segment besides restart markers: private use in arithmetic coding.
const TEMPORARY: u8 = 0x01;
/// Most scans of a file. Programs write about ten; each visits the whole image, and a few bytes can
/// code an empty one.
const MOST_SCANS: usize = 100;

/// One colour component of a frame.
#[derive(Debug, Clone, Copy)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
}

/// Size and components in the header.
#[derive(Debug)]
struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
}

/// Header of a file all of whose scans are there.
#[derive(Debug)]
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    /// Least number of bytes of coded data for an image of this size, and the number in the file.
    least: u64,
    coded: u64,
}

impl Layout {
    /// Walks the markers from the first to the end-of-image marker.
    pub fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        let truncated = || DecodeError::Truncated { length: bytes.len() };
        let mut frame: Option<Frame> = None;
        let mut scans: Option<Scans> = None;
        let mut at = 2;
        loop {
            let (marker, after) = next_marker(bytes, at).ok_or_else(truncated)?;
            at = after;
            if RESTARTS.contains(&marker) || marker == TEMPORARY {
                continue;
            }
            if marker == END_OF_IMAGE || marker == START_OF_IMAGE {
                break;
            }
            let segment = segment(bytes, at).ok_or_else(truncated)?;
            at += 2 + segment.len();
            match (marker, &frame) {
                (START_OF_SCAN, None) => return Err(error("a scan before the size of the image")),
                (START_OF_SCAN, Some(frame)) => {
                    let end = frame.end_of_scan(bytes, segment, at).ok_or_else(truncated)?;
                    let scans = scans.get_or_insert_with(|| Scans::new(frame));
                    scans.add(frame, segment, end - at)?;
                    if frame.is_whole(segment) {
                        break;
                    }
                    at = end;
                }
                (HUFFMAN_TABLES | ARITHMETIC_CONDITIONING, _) => {}
                (marker, found) if FRAMES.contains(&marker) => {
                    if found.is_some() {
                        return Err(error("two sizes in the header"));
                    }
                    frame = Some(Frame::parse(marker, segment)?);
                }
                _ => {}
            }
        }
        let (Some(frame), Some(scans)) = (frame, scans) else {
            return Err(error("no scan before the end of the image"));
        };
        scans.progression.check_complete()?;
        let Frame { width, height, .. } = frame;
        Ok(Self { width, height, least: scans.least, coded: scans.coded })
    }

    /// Refuses a file with fewer coded bytes than the shortest possible for its size.
    pub fn check_length(&self, length: usize) -> Result<(), DecodeError> {
        let Self { width, height, least, coded } = *self;
        if coded >= least {
            return Ok(());
        }
        Err(DecodeError::Implausible { width, height, length, coded, least })
    }
}

/// What the scans of a file have coded so far.
struct Scans {
    count: usize,
    least: u64,
    coded: u64,
    progression: Progression,
}

impl Scans {
    fn new(frame: &Frame) -> Self {
        let progression = Progression::new(frame.components.len(), frame.progressive);
        Self { count: 0, least: 0, coded: 0, progression }
    }

    fn add(&mut self, frame: &Frame, header: &[u8], coded: usize) -> Result<(), DecodeError> {
        let (components, [first, last, approximation]) =
            frame.scanned(header).ok_or_else(|| error("a damaged scan header"))?;
        self.count += 1;
        if self.count > MOST_SCANS {
            return Err(error(format!("more than {MOST_SCANS} scans")));
        }
        self.progression.add(
            &components,
            (first, last),
            (approximation >> 4, approximation & 15),
        )?;
        // A block of a sequential scan has at least a bit for the DC difference and one for the end
        // of the block; in a progressive file the DC scans have one, and AC scans may have none.
        let bits = match (frame.progressive, first) {
            (false, _) => 2,
            (true, 0) => 1,
            (true, _) => 0,
        };
        let least = (frame.blocks(&components) * bits).div_ceil(8);
        self.least = self.least.saturating_add(least);
        self.coded = self.coded.saturating_add(coded as u64);
        Ok(())
    }
}

impl Frame {
    fn parse(marker: u8, segment: &[u8]) -> Result<Self, DecodeError> {
        // Bits of a sample, height, width, number of components; for each component its id, its
        // horizontal and vertical sampling factors (half a byte each) and its table.
        let damaged = || error("a damaged frame header");
        let ([bits, top, bottom, left, right, count], rest) =
            segment.split_first_chunk::<6>().ok_or_else(damaged)?;
        let process = process(marker).or_else(|| (*bits != 8).then(|| precision(*bits)));
        if let Some(process) = process {
            return Err(DecodeError::Unsupported { process });
        }
        let components: Vec<_> = (rest.as_chunks::<3>().0.iter())
            .map(|&[id, factors, _]| Component {
                id,
                across: usize::from(factors >> 4),
                down: usize::from(factors & 15),
            })
            .collect();
        let in_range = |factor| (1..=4).contains(&factor);
        if components.len() != usize::from(*count)
            || !matches!(components.len(), 1 | 3 | 4)
            || !components.iter().all(|c| in_range(c.across) && in_range(c.down))
        {
            return Err(damaged());
        }
        let width = usize::from(u16::from_be_bytes([*left, *right]));
        let height = usize::from(u16::from_be_bytes([*top, *bottom]));
        if width == 0 || height == 0 {
            // A height of 0 means that it is given after the first scan.
            return Err(error(format!("a size of {width} × {height} in the frame header")));
        }
        Ok(Self { width, height, progressive: marker == 0xc2, components })
    }

    /// Indices of the components of a scan, and its last three bytes: first and last coefficient,
    /// and bits of approximation.
    fn scanned(&self, header: &[u8]) -> Option<(Vec<usize>, [u8; 3])> {
        let (&count, rest) = header.split_first()?;
        let (selected, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let mut components = Vec::new();
        for &[id, _] in selected.as_chunks::<2>().0 {
            // Some programs give all components the same id.
            let mut known = self.components.iter().enumerate();
            let (index, _) = known.find(|(at, c)| c.id == id && !components.contains(at))?;
            components.push(index);
        }
        let components = Some(components).filter(|found| (1..=4).contains(&found.len()))?;
        Some((components, *rest.first_chunk()?))
    }

    /// Whether a scan codes all of the image.
    fn is_whole(&self, header: &[u8]) -> bool {
        let all = self.components.len();
        !self.progressive && header.first().is_some_and(|&count| usize::from(count) == all)
    }

    /// Offset of the marker that ends a scan.
    fn end_of_scan(&self, bytes: &[u8], header: &[u8], from: usize) -> Option<usize> {
        if self.is_whole(header) {
            // Coded data has no end-of-image marker: searched from the end, which is quick. The
            // decoder finds one that is too early.
            let coded = bytes.get(from..)?;
            return Some(from + coded.windows(2).rposition(|pair| pair == [0xff, END_OF_IMAGE])?);
        }
        let mut at = from;
        loop {
            let (marker, after) = next_marker(bytes, at)?;
            if !RESTARTS.contains(&marker) {
                return Some(after - 2);
            }
            at = after;
        }
    }

    /// Number of 8 × 8 blocks in a scan of these components.
    fn blocks(&self, scanned: &[usize]) -> u64 {
        let most = |side: fn(&Component) -> usize| self.components.iter().map(side).max();
        let across = most(|c| c.across).unwrap_or(1);
        let down = most(|c| c.down).unwrap_or(1);
        let count = match scanned {
            &[one] => {
                let Component { across: x, down: y, .. } = self.components[one];
                let width = (self.width * x).div_ceil(across).div_ceil(8);
                width * (self.height * y).div_ceil(down).div_ceil(8)
            }
            several => {
                let units = self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down);
                let blocks = several.iter().map(|&index| self.components[index]);
                units * blocks.map(|c| c.across * c.down).sum::<usize>()
            }
        };
        count as u64
    }
}

/// The next marker at or after `from`, and the offset after it. Passes over fill bytes and over bytes
/// that are no marker, such as 0xff of coded data, which a zero follows.
fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        at += bytes[at..].iter().position(|&byte| byte != 0xff)?;
        if bytes[at] != 0 {
            return Some((bytes[at], at + 1));
        }
    }
}

/// Content of the segment whose two bytes of length are at `at`.
fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    bytes.get(at + 2..at + length.max(2))
}

/// Name of a coding process that is not supported.
fn process(frame_marker: u8) -> Option<&'static str> {
    match frame_marker {
        0xc0..=0xc2 => None,
        0xc3 => Some("lossless"),
        0xc5..=0xc7 => Some("hierarchical"),
        0xc9 | 0xca => Some("arithmetic"),
        0xcb => Some("lossless arithmetic"),
        0xcd..=0xcf => Some("hierarchical arithmetic"),
        _ => Some("reserved"),
    }
}

fn precision(bits: u8) -> &'static str {
    match bits {
        12 => "12-bit",
        16 => "16-bit",
        _ => "of other than 8 bits",
    }
}
