//! Memory that a header's claim may reserve.

use crate::assert_refused;
use crate::sets::file;
use crate::support::alone::{measured, run_alone};
use crate::support::TestResult;
use jpeg_encoder::{ColorType, Encoder};
use once_for_both::data::{decode, EncodedImage, DEFAULT_MAX_PIXELS};
use once_for_both::error::DecodeError;
use std::fs;

/// Sets the size in the header of a JPEG file.
fn claim(mut bytes: Vec<u8>, width: u16, height: u16) -> TestResult<Vec<u8>> {
    let frame = bytes.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2]));
    let frame = frame.ok_or("no frame header")?;
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    Ok(bytes)
}

/// PNG file of compressed data of zero rows.
fn empty_png(width: u32, height: u32, colours: png::ColorType) -> TestResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colours);
    encoder.write_header()?.write_chunk(png::chunk::IDAT, &[120, 156, 3, 0, 0, 0, 0, 1])?;
    Ok(bytes)
}

#[test]
fn open_of_a_claim_that_the_length_of_the_file_cannot_hold_is_an_implausible_error() -> TestResult {
    for name in ["colour.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg"] {
        let bytes = claim(file(name)?, 7000, 7000)?;
        let refused = EncodedImage::open(&bytes);
        assert_refused!(refused, DecodeError::Implausible { width: 7000, height: 7000, .. });
    }
    for colours in [png::ColorType::Grayscale, png::ColorType::Rgba] {
        let bytes = empty_png(4000, 6000, colours)?;
        let refused = EncodedImage::open(&bytes);
        assert_refused!(refused, DecodeError::Implausible { width: 4000, height: 6000, .. });
    }
    Ok(())
}

/// Files of one colour have the fewest bytes a pixel.
#[test]
fn open_of_the_shortest_files_of_their_size_is_accepted() -> TestResult {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 50);
    encoder.set_optimized_huffman_tables(true);
    encoder.encode(&vec![128; 2000 * 1500], 2000, 1500, ColorType::Luma)?;
    let image = decode(&bytes)?;
    assert_eq!((image.width(), image.height()), (2000, 1500));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2000, 1500);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(&vec![0; 2000 * 1500])?;
    assert!(bytes.len() < 7000, "{}", bytes.len());
    assert_eq!(decode(&bytes)?.pixels(), vec![0; 3 * 2000 * 1500]);
    Ok(())
}

#[test]
fn open_above_the_limit_of_pixels_is_a_too_large_error() -> TestResult {
    let bytes = file("colour.jpg")?;
    assert_eq!(EncodedImage::open_within(&bytes, 45 * 34)?.width(), 45);
    let refused = EncodedImage::open_within(&bytes, 45 * 34 - 1);
    assert_refused!(refused, DecodeError::TooLarge { width: 45, height: 34, most: 1529 });
    let claimed = claim(bytes, 13_000, 13_000)?;
    let refused = EncodedImage::open(&claimed);
    assert_refused!(refused, DecodeError::TooLarge { most: DEFAULT_MAX_PIXELS, .. });
    let refused = EncodedImage::open_within(&claimed, usize::MAX);
    assert_refused!(refused, DecodeError::Implausible { .. });
    Ok(())
}

/// The file to decode is in the environment.
#[test]
#[ignore = "started by the tests that measure memory"]
fn decode_in_a_process_of_its_own() -> TestResult {
    let bytes = fs::read(std::env::var("OFB_DECODE")?)?;
    let decoded = measured(|| decode(&bytes).is_ok())?;
    println!("decoded {decoded}");
    Ok(())
}

/// Whether a file is decoded, and the growth of memory in MB.
#[cfg(target_os = "linux")]
fn peak_of(bytes: &[u8]) -> TestResult<(bool, f64)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("image");
    fs::write(&path, bytes)?;
    let environment = [("OFB_DECODE", path.as_os_str())];
    let alone = run_alone("memory::decode_in_a_process_of_its_own", &environment)?;
    Ok((alone.output.contains("decoded true"), alone.megabytes))
}

#[test]
#[cfg(target_os = "linux")]
fn peak_memory_of_small_files_with_large_claims_is_below_8_mb() -> TestResult {
    let small = file("colour.jpg")?;
    let cases = [
        ("JPEG within the limit", claim(small.clone(), 8000, 8000)?),
        ("JPEG above it", claim(small, 13_000, 13_000)?),
        ("progressive JPEG", claim(file("progressive.jpg")?, 8000, 8000)?),
        ("grey PNG", empty_png(8000, 8000, png::ColorType::Grayscale)?),
        ("RGBA PNG", empty_png(1 << 24, 3, png::ColorType::Rgba)?),
    ];
    for (what, bytes) in cases {
        let (decoded, megabytes) = peak_of(&bytes)?;
        assert!(!decoded && megabytes < 8.0, "{what}: {decoded}, {megabytes} MB");
    }
    Ok(())
}

/// 5 megapixels: at most 5 bytes a pixel, 11 for a JPEG of several scans.
#[test]
#[cfg(target_os = "linux")]
fn peak_memory_of_large_images_is_as_documented() -> TestResult {
    let (width, height) = (2500_u16, 2000_u16);
    let values = vec![77; 5_000_000 * 3];
    let jpeg = |progressive| -> TestResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 95);
        encoder.set_progressive(progressive);
        encoder.encode(&values, width, height, ColorType::Rgb)?;
        Ok(bytes)
    };
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, u32::from(width), u32::from(height));
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header()?.write_image_data(&values[..5_000_000])?;
    for (what, bytes, most) in
        [("JPEG", jpeg(false)?, 5.0), ("progressive", jpeg(true)?, 11.0), ("PNG", png, 5.0)]
    {
        let (decoded, megabytes) = peak_of(&bytes)?;
        let per_pixel = megabytes / 5.0;
        assert!(decoded && per_pixel < most + 0.5, "{what}: {decoded}, {per_pixel} bytes a pixel");
    }
    Ok(())
}
