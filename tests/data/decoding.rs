use crate::assert_refused;
use crate::sets::{difference, file, picture};
use crate::support::TestResult;
use once_for_both::data::{decode, EncodedImage};
use once_for_both::error::DecodeError;
use std::error::Error;

/// Files of every supported kind.
const FILES: [&str; 11] = [
    "colour.jpg",
    "full_chroma.jpg",
    "progressive.jpg",
    "turned.jpg",
    "grey.jpg",
    "cmyk.jpg",
    "grey.png",
    "grey_alpha.png",
    "palette.png",
    "alpha.png",
    "grey16.png",
];

#[test]
fn decode_of_every_file_kind_equals_pillow() -> TestResult {
    let mut failures = Vec::new();
    for name in FILES {
        let (actual, expected) = (picture(name)?, picture(&format!("expected/{name}.png"))?);
        let (largest, mean) = difference(&actual, &expected)?;
        if largest > 0 {
            failures.push(format!("{name}: largest difference {largest}, mean {mean:.3}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn decode_of_16_bit_png_keeps_the_upper_8_bits() -> TestResult {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Sixteen);
    let values = [0x12_34_u16, 0xff_ff, 0x00_ff, 0x80_00, 0x7f_ff, 0x01_00];
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    encoder.write_header()?.write_image_data(&data)?;
    assert_eq!(decode(&bytes)?.pixels(), [0x12, 0xff, 0x00, 0x80, 0x7f, 0x01]);
    Ok(())
}

#[test]
fn decode_of_other_formats_is_an_unknown_format_error_that_names_them() {
    let files: [(&[u8], &str); 11] = [
        (b"GIF89a....", "GIF"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "WebP"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0", "AVIF"),
        (b"BM\x36\0\0\0", "BMP"),
        (b"<!doctype html><html>", "HTML"),
        (b"\xff\xd8", "unknown"),
        (b"RIFF", "unknown"),
        (b"\x89PNG", "unknown"),
    ];
    for (bytes, format) in files {
        match decode(bytes) {
            Err(DecodeError::UnknownFormat { name, found }) => {
                assert_eq!((name, &found[..]), (format, &bytes[..bytes.len().min(8)]));
            }
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }
}

#[test]
fn decode_of_a_git_lfs_pointer_is_an_error_with_what_to_do() {
    let refused = decode(b"version https://git-lfs.github.com/spec/v1\noid sha256:0").err();
    let text = refused.map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("Git LFS pointer") && text.ends_with("git lfs pull"), "{text}");
}

#[test]
fn decode_of_a_file_of_0_bytes_is_an_empty_error() {
    assert_refused!(decode(b""), DecodeError::Empty);
}

#[test]
fn decode_of_truncated_file_is_an_error_at_every_length() -> TestResult {
    for name in ["colour.jpg", "progressive.jpg", "grey.jpg", "alpha.png", "palette.png"] {
        let whole = file(name)?;
        for length in (8..whole.len()).step_by(7).chain(whole.len() - 12..whole.len()) {
            assert!(
                decode(&whole[..length]).is_err(),
                "{length} of {} bytes of {name}",
                whole.len()
            );
        }
    }
    Ok(())
}

/// The files have about a hundred bytes; their headers claim up to 10¹² pixels.
#[test]
fn decode_of_header_with_too_many_pixels_is_a_too_large_error() -> TestResult {
    let most = i32::MAX as u32;
    for (width, height) in [(1_000_000, 1_000_000), (1, most), (most, 1), (60_000, 60_000)] {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        // Compressed data of zero rows.
        encoder.write_header()?.write_chunk(png::chunk::IDAT, &[120, 156, 3, 0, 0, 0, 0, 1])?;
        match decode(&bytes) {
            Err(DecodeError::TooLarge { width: w, height: h, .. }) => {
                assert_eq!((w, h), (width as usize, height as usize));
            }
            other => panic!("{width} × {height}: {other:?}"),
        }
    }
    Ok(())
}

/// Cameras write a thumbnail, with an end-of-image marker of its own, into the EXIF header.
#[test]
fn truncated_jpeg_with_thumbnail_in_header_is_a_truncated_error() -> TestResult {
    let (whole, small) = (file("colour.jpg")?, file("grey.jpg")?);
    let mut header = [0xff, 0xe1].to_vec();
    header.extend(u16::try_from(small.len() + 8)?.to_be_bytes());
    header.extend(b"Exif\0\0");
    header.extend(&small);
    let bytes = [&whole[..2], &header, &whole[2..]].concat();
    assert_eq!(decode(&bytes)?, decode(&whole)?);
    let cut = bytes.len() - (whole.len() - 2) * 3 / 10;
    for rows in [1, 10, usize::MAX] {
        let opened = EncodedImage::open(&bytes[..cut]).and_then(|file| file.decode_top(rows));
        match opened {
            Err(DecodeError::Truncated { length }) => assert_eq!(length, cut),
            other => panic!("{rows} rows: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn decode_of_damaged_file_is_an_error_with_source() -> TestResult {
    let mut png = file("alpha.png")?;
    let middle = png.len() / 2;
    png[middle] ^= 0xff;
    let refused = decode(&png).expect_err("wrong checksum");
    assert!(matches!(refused, DecodeError::Png { .. }) && refused.source().is_some());
    let jpeg = [b"\xff\xd8\xff\xdb\x00\x05".as_slice(), &[7; 50], b"\xff\xd9"].concat();
    let refused = decode(&jpeg).expect_err("invalid quantisation table");
    assert!(matches!(refused, DecodeError::Jpeg { .. }) && refused.source().is_some());
    let whole = file("colour.jpg")?;
    let refused = decode(&whole[..whole.len() - 2]).expect_err("no end-of-image marker");
    assert!(matches!(refused, DecodeError::Truncated { .. }), "{refused:?}");
    Ok(())
}

#[test]
fn decode_of_changed_bytes_never_panics() -> TestResult {
    for name in ["colour.jpg", "progressive.jpg", "cmyk.jpg", "alpha.png", "palette.png"] {
        let whole = file(name)?;
        for at in (0..whole.len()).step_by(5) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let _ = decode(&bytes);
        }
    }
    Ok(())
}
