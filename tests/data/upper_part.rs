//! `EncodedImage::decode_top`: decoding of the top rows only.

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
/// No valid JPEG marker: the decoder fails where it reads it.
const DAMAGE: [u8; 2] = [0xff, 0x01];

fn top(bytes: &[u8], rows: usize) -> TestResult<Image> {
    Ok(EncodedImage::open(bytes)?.decode_top(rows)?)
}

/// First difference between the decoded top rows and the whole image, if there is one.
fn difference(bytes: &[u8], rows: usize) -> TestResult<Option<String>> {
    let whole = decode(bytes)?;
    let part = top(bytes, rows)?;
    let rows = rows.clamp(1, whole.height());
    if (part.width(), part.height()) != (whole.width(), rows) {
        return Ok(Some(format!("got {part:?}, expected {} × {rows}", whole.width())));
    }
    let pairs = part.pixels().iter().zip(whole.pixels());
    let stride = 3 * part.width();
    let wrong = pairs.enumerate().find(|(_, (part, whole))| part != whole);
    Ok(wrong.map(|(at, (part, whole))| {
        let (row, column) = (at / stride, at % stride / 3);
        format!("row {row} of {rows}, column {column}: got {part}, expected {whole}")
    }))
}

/// Size and coding of a generated JPEG.
#[derive(Debug, Clone)]
struct Coding {
    width: usize,
    height: usize,
    colours: ColorType,
    sampling: SamplingFactor,
    /// MCUs between restart markers; 0 for no markers.
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
        // Noise per pixel and per 8 × 8 block, so that interpolation between rows matters.
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
        // The encoder's tables for separate scans do not support restart markers.
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
    #![proptest_config(ProptestConfig::with_cases(750))]

    /// All chroma subsamplings, odd sizes, restart markers, progressive files.
    #[test]
    fn decode_top_of_generated_jpeg_equals_the_top_of_the_whole_image(coding in codings(), share in 0.0_f64..1.0) {
        let rows = 1 + (share * coding.height as f64) as usize;
        let bytes = in_words(coding.encode())?;
        if let Some(difference) = in_words(difference(&bytes, rows))? {
            prop_assert!(false, "{}", difference);
        }
    }

    /// The coded values are the same, in another order.
    #[test]
    fn decode_of_a_scan_per_component_equals_that_of_a_single_scan(coding in codings(), progressive in any::<bool>()) {
        let single = Coding { scans: false, progressive: false, ..coding.clone() };
        let several = Coding { scans: true, progressive, ..coding };
        let (single, several) = (in_words(single.encode())?, in_words(several.encode())?);
        prop_assert!(decode(&single)? == decode(&several)?);
    }
}

#[test]
fn decode_top_of_every_file_kind_and_row_count_equals_the_whole_image() -> TestResult {
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
fn decode_top_of_one_row_of_truncated_file_is_an_error() -> TestResult {
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

/// Generated JPEG with damage at a share of its length.
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
fn decode_top_above_damage_succeeds_and_below_it_fails() -> TestResult {
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
fn decode_top_of_changed_bytes_never_panics() -> TestResult {
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
