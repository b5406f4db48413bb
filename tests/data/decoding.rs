use crate::sets::{difference, file, picture};
use crate::support::TestResult;
use once_for_both::data::{decode, EncodedImage};
use once_for_both::error::DecodeError;
use std::error::Error;

/// Every kind of file, and how far a value may be from Pillow's: for JPEG, decoders round
/// differently, and differ more where chroma is enlarged.
const FILES: [(&str, u8); 11] = [
    ("colour.jpg", 6),
    ("full_chroma.jpg", 3),
    ("progressive.jpg", 6),
    ("turned.jpg", 6),
    ("grey.jpg", 2),
    ("cmyk.jpg", 4),
    ("grey.png", 0),
    ("grey_alpha.png", 0),
    ("palette.png", 0),
    ("alpha.png", 0),
    ("grey16.png", 0),
];

#[test]
fn every_kind_of_file_becomes_rgb_as_pillow_has_it() -> TestResult {
    let mut failures = Vec::new();
    for (name, allowed) in FILES {
        let (actual, expected) = (picture(name)?, picture(&format!("expected/{name}.png"))?);
        let (largest, mean) = difference(&actual, &expected)?;
        println!("{name}: {largest} at most, {mean:.3} on average");
        if largest > allowed {
            failures.push(format!("{name}: differs by {largest}, allowed {allowed}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn of_16_bits_the_upper_8_stay() -> TestResult {
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
fn other_formats_are_refused() {
    for bytes in [b"GIF89a....".as_slice(), b"", b"\xff\xd8", b"RIFF", b"\x89PNG"] {
        match decode(bytes) {
            Err(DecodeError::UnknownFormat { found }) => {
                assert_eq!(found, bytes[..bytes.len().min(8)]);
            }
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }
}

#[test]
fn every_cut_of_a_file_is_refused() -> TestResult {
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

/// A header of a hundred bytes asks for terabytes.
#[test]
fn pictures_that_claim_too_much_are_refused_before_memory_is_taken() -> TestResult {
    for (width, height) in [(1_000_000, 1_000_000), (1, i32::MAX as u32), (60_000, 60_000)] {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        // Coded data of no rows at all.
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

/// A camera writes a thumbnail into the header, with an end of its own.
#[test]
fn the_end_of_a_thumbnail_is_not_that_of_the_file() -> TestResult {
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
fn damaged_files_are_refused_with_the_cause() -> TestResult {
    let mut png = file("alpha.png")?;
    let middle = png.len() / 2;
    png[middle] ^= 0xff;
    let refused = decode(&png).expect_err("a checksum is wrong");
    assert!(matches!(refused, DecodeError::Png { .. }) && refused.source().is_some());
    let jpeg = [b"\xff\xd8\xff\xdb\x00\x05".as_slice(), &[7; 50], b"\xff\xd9"].concat();
    let refused = decode(&jpeg).expect_err("its table is garbage");
    assert!(matches!(refused, DecodeError::Jpeg { .. }) && refused.source().is_some());
    let whole = file("colour.jpg")?;
    let refused = decode(&whole[..whole.len() - 2]).expect_err("it has no end");
    assert!(matches!(refused, DecodeError::Truncated { .. }), "{refused:?}");
    Ok(())
}

#[test]
fn changed_bytes_never_panic() -> TestResult {
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
