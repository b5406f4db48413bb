//! Images of which only the upper part is decoded.

use crate::assert_refused;
use crate::sets::{file, noise};
use crate::support::{in_words, TestResult};
use jpeg_encoder::SamplingFactor::{self, F_1_1, F_1_2, F_2_1, F_2_2, F_2_4, F_4_1};
use jpeg_encoder::{ColorType, Encoder};
use once_for_both::data::{decode, EncodedImage, Image};
use once_for_both::error::DecodeError;
use proptest::prelude::*;

const JPEGS: [&str; 6] =
    ["colour.jpg", "full_chroma.jpg", "progressive.jpg", "turned.jpg", "grey.jpg", "cmyk.jpg"];
const PNGS: [&str; 5] = ["grey.png", "grey_alpha.png", "palette.png", "alpha.png", "grey16.png"];
/// A marker that JPEG does not have: the decoder stops where it meets it.
const DAMAGE: [u8; 2] = [0xff, 0x01];

fn top(bytes: &[u8], rows: usize) -> TestResult<Image> {
    Ok(EncodedImage::open(bytes)?.decode_top(rows)?)
}

/// What is not as in the whole image, if anything.
fn difference(bytes: &[u8], rows: usize) -> TestResult<Option<String>> {
    let whole = decode(bytes)?;
    let part = top(bytes, rows)?;
    let rows = rows.clamp(1, whole.height());
    if (part.width(), part.height()) != (whole.width(), rows) {
        return Ok(Some(format!("{part:?}, expected {} × {rows}", whole.width())));
    }
    let pairs = part.pixels().iter().zip(whole.pixels());
    let stride = 3 * part.width();
    let wrong = pairs.enumerate().find(|(_, (part, whole))| part != whole);
    Ok(wrong.map(|(at, (part, whole))| {
        let (row, column) = (at / stride, at % stride / 3);
        format!("row {row} of {rows}, column {column}: {part}, in the whole {whole}")
    }))
}

/// How a generated JPEG is coded.
#[derive(Debug, Clone)]
struct Coding {
    width: usize,
    height: usize,
    colours: ColorType,
    sampling: SamplingFactor,
    /// MCUs between restart markers; 0: none.
    restart: u16,
    progressive: bool,
    /// A scan for each component.
    scans: bool,
    quality: u8,
    seed: usize,
}

impl Coding {
    fn encode(&self) -> TestResult<Vec<u8>> {
        let Self { width, height, colours, .. } = *self;
        let channels = match colours {
            ColorType::Luma => 1,
            ColorType::Rgb => 3,
            _ => 4,
        };
        // Noise in single pixels and in coarse ones, so that neighbours matter.
        let fine = noise(width * channels, height, 1, self.seed);
        let coarse = noise(width.div_ceil(8), height.div_ceil(8), 3, self.seed + 1);
        let pixels: Vec<u8> = (fine.pixels().iter().enumerate())
            .map(|(at, byte)| {
                let (x, y, channel) =
                    (at / channels % width, at / channels / width, at % channels % 3);
                let block = (y / 8 * coarse.width() + x / 8) * 3 + channel;
                byte / 4 + coarse.pixels()[block] / 4 * 3
            })
            .collect();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, self.quality);
        encoder.set_sampling_factor(self.sampling);
        // The encoder's own tables for separate scans have no codes for restarts.
        encoder.set_restart_interval(if self.scans { 0 } else { self.restart });
        encoder.set_progressive(self.progressive);
        encoder.set_optimized_huffman_tables(self.scans);
        encoder.encode(&pixels, width as u16, height as u16, colours)?;
        Ok(bytes)
    }
}

fn codings() -> impl Strategy<Value = Coding> {
    let sampling = prop::sample::select(vec![F_1_1, F_1_2, F_2_1, F_2_2, F_2_2, F_2_4, F_4_1]);
    let colours = prop::sample::select(vec![
        ColorType::Rgb,
        ColorType::Rgb,
        ColorType::Luma,
        ColorType::Cmyk,
        ColorType::CmykAsYcck,
    ]);
    let restart = prop_oneof![2 => Just(0_u16), 1 => 1_u16..9];
    let kinds = (prop::bool::weighted(0.15), prop::bool::weighted(0.15), 30_u8..=95, 0_usize..999);
    ((1_usize..90, 1_usize..90), colours, sampling, restart, kinds).prop_map(
        |((width, height), colours, sampling, restart, (progressive, scans, quality, seed))| {
            Coding { width, height, colours, sampling, restart, progressive, scans, quality, seed }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// With chroma of every resolution, odd sizes, restart markers, progressive files.
    #[test]
    fn the_upper_part_has_the_pixels_of_the_whole(coding in codings(), share in 0.0_f64..1.0) {
        let rows = 1 + (share * coding.height as f64) as usize;
        let bytes = in_words(coding.encode())?;
        // The decoder fails at some small whole files of several scans.
        let several = coding.scans || coding.progressive;
        let one_scan = !several && !matches!(coding.sampling, F_2_4 | F_4_1);
        prop_assume!(one_scan || decode(&bytes).is_ok());
        if let Some(difference) = in_words(difference(&bytes, rows))? {
            prop_assert!(false, "{}", difference);
        }
    }
}

#[test]
fn every_number_of_rows_of_every_kind_of_file_is_as_in_the_whole() -> TestResult {
    for name in JPEGS.iter().chain(&PNGS) {
        let bytes = file(name)?;
        let encoded = EncodedImage::open(&bytes)?;
        assert_eq!((encoded.width(), encoded.height()), (45, 34), "{name}");
        for rows in 0..=36 {
            assert_eq!(difference(&bytes, rows)?, None, "{rows} rows of {name}");
        }
        assert_eq!(difference(&bytes, usize::MAX)?, None, "{name}");
    }
    Ok(())
}

#[test]
fn a_cut_is_noticed_however_little_is_decoded() -> TestResult {
    for name in JPEGS.iter().chain(&PNGS) {
        let whole = file(name)?;
        for length in (8..whole.len()).step_by(13).chain(whole.len() - 12..whole.len()) {
            assert!(
                top(&whole[..length], 1).is_err(),
                "{length} of {} bytes of {name}",
                whole.len()
            );
        }
    }
    Ok(())
}

/// A photograph-like JPEG with damage at a share of its length.
fn damaged(share: f64) -> TestResult<Vec<u8>> {
    let coding = Coding {
        width: 96,
        height: 160,
        colours: ColorType::Rgb,
        sampling: F_2_2,
        restart: 0,
        progressive: false,
        scans: false,
        quality: 85,
        seed: 5,
    };
    let mut bytes = coding.encode()?;
    let at = (bytes.len() as f64 * share) as usize;
    bytes[at..at + 2].copy_from_slice(&DAMAGE);
    Ok(bytes)
}

#[test]
fn damage_counts_where_it_is_decoded_and_only_there() -> TestResult {
    let bytes = damaged(0.7)?;
    assert_refused!(decode(&bytes), DecodeError::Jpeg { .. });
    for rows in [130, 160] {
        assert_refused!(EncodedImage::open(&bytes)?.decode_top(rows), DecodeError::Jpeg { .. });
    }
    for rows in [1, 50, 80] {
        assert_eq!(top(&bytes, rows)?, top(&damaged(0.9)?, rows)?);
    }
    Ok(())
}

#[test]
fn changed_bytes_never_panic() -> TestResult {
    for name in JPEGS {
        let whole = file(name)?;
        for at in (0..whole.len()).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x5a;
            let _ = top(&bytes, 9);
        }
    }
    Ok(())
}
