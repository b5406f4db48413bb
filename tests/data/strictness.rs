//! Damage that decoders fill with grey or with the pixels of another place.

use crate::assert_refused;
use crate::sets::file;
use crate::support::TestResult;
use once_for_both::data::{decode, EncodedImage};
use once_for_both::error::DecodeError;
use std::error::Error;

const END: [u8; 2] = [0xff, 0xd9];
const START_OF_SCAN: u8 = 0xda;

/// Offsets of the markers of a kind, and of the bytes after their segments.
fn segments(bytes: &[u8], marker: u8) -> Vec<(usize, usize)> {
    let starts = (2..bytes.len() - 4).filter(|&at| bytes[at..at + 2] == [0xff, marker]);
    starts
        .map(|at| (at, at + 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]))))
        .collect()
}

/// Files of one scan.
const SEQUENTIAL: [&str; 6] = [
    "colour.jpg",
    "full_chroma.jpg",
    "grey.jpg",
    "cmyk.jpg",
    "odd/restart.jpg",
    "odd/odd_sides_422.jpg",
];

#[test]
fn decode_of_a_scan_cut_to_any_length_before_its_end_marker_is_an_error() -> TestResult {
    for name in SEQUENTIAL {
        let whole = file(name)?;
        let (_, data) = segments(&whole, START_OF_SCAN)[0];
        for end in (data..whole.len() - 4).step_by(11).chain([data, data + 1]) {
            let cut = [&whole[..end], &END].concat();
            let refused = decode(&cut);
            let right =
                matches!(refused, Err(DecodeError::Jpeg { .. } | DecodeError::Implausible { .. }));
            assert!(right, "{} bytes of the scan of {name}: {refused:?}", end - data);
        }
    }
    Ok(())
}

#[test]
fn decode_top_of_a_cut_scan_is_an_error_in_rows_that_are_missing() -> TestResult {
    let whole = file("full_chroma.jpg")?;
    let (_, data) = segments(&whole, START_OF_SCAN)[0];
    let half = data + (whole.len() - data) / 2;
    let cut = [&whole[..half], &END].concat();
    let top = |rows| EncodedImage::open(&cut).and_then(|file| file.decode_top(rows));
    assert_eq!(top(8)?, EncodedImage::open(&whole)?.decode_top(8)?);
    assert_refused!(top(24), DecodeError::Jpeg { .. });
    assert_refused!(top(34), DecodeError::Jpeg { .. });
    Ok(())
}

#[test]
fn decode_of_a_progressive_file_without_one_of_its_scans_is_an_error() -> TestResult {
    let whole = file("progressive.jpg")?;
    let scans = segments(&whole, START_OF_SCAN);
    assert_eq!(scans.len(), 10);
    for (number, &(start, _)) in scans.iter().enumerate() {
        // The end, and with it the tables of the next scan.
        let end = scans.get(number + 1).map_or(whole.len() - 2, |&(next, _)| next);
        let without = [&whole[..start], &whole[end..]].concat();
        assert_refused!(decode(&without), DecodeError::Jpeg { .. });
        let truncated = [&whole[..start], &END].concat();
        assert_refused!(decode(&truncated), DecodeError::Jpeg { .. });
    }
    Ok(())
}

#[test]
fn decode_of_a_progressive_file_with_a_cut_scan_is_an_error() -> TestResult {
    let whole = file("progressive.jpg")?;
    for (_, data) in segments(&whole, START_OF_SCAN) {
        let length = whole[data..].windows(2).position(|p| p[0] == 0xff && p[1] != 0);
        let end = data + length.ok_or("no marker after a scan")?;
        let cut = [&whole[..data], &whole[end..]].concat();
        let refused = decode(&cut);
        let right =
            matches!(refused, Err(DecodeError::Jpeg { .. } | DecodeError::Implausible { .. }));
        assert!(right, "scan at {data}: {refused:?}");
    }
    Ok(())
}

#[test]
fn decode_of_unsupported_jpeg_processes_is_an_error_that_names_them() -> TestResult {
    let whole = file("colour.jpg")?;
    let (frame, _) = segments(&whole, 0xc0)[0];
    for (marker, bits, name) in [
        (0xc9, 8, "arithmetic"),
        (0xca, 8, "arithmetic"),
        (0xc3, 8, "lossless"),
        (0xc5, 8, "hierarchical"),
        (0xc1, 12, "12-bit"),
    ] {
        let mut bytes = whole.clone();
        (bytes[frame + 1], bytes[frame + 4]) = (marker, bits);
        let refused = decode(&bytes).expect_err(name);
        assert!(
            matches!(refused, DecodeError::Unsupported { process } if process == name),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(name));
    }
    Ok(())
}

#[test]
fn decode_with_bytes_left_before_a_restart_marker_is_an_error() -> TestResult {
    let mut bytes = file("odd/restart.jpg")?;
    let restart = bytes.windows(2).position(|pair| pair == [0xff, 0xd0]).ok_or("no restart")?;
    bytes.splice(restart..restart, [1, 2, 3]);
    let refused = decode(&bytes).expect_err("bytes that no block used");
    let source = refused.source().ok_or("no source")?.to_string();
    assert!(source.contains("extraneous bytes"), "{source}");
    Ok(())
}

#[test]
fn decode_of_damaged_png_is_an_error() -> TestResult {
    let whole = file("alpha.png")?;
    let data = whole.windows(4).position(|name| name == b"IDAT").ok_or("no image data")?;
    let length = u32::from_be_bytes(whole[data - 4..data].try_into()?) as usize;
    let mut checksum = whole.clone();
    checksum[data + 4 + length] ^= 1;
    let source = decode(&checksum).err().ok_or("accepted")?.source().map(ToString::to_string);
    let source = source.ok_or("no source")?;
    assert!(source.ends_with("while decoding IDAT chunk."), "{source}");
    // A complete file whose image data are cut: length and checksum are right.
    let kept = &whole[data + 4..data + 4 + length / 2];
    let mut cut = Vec::new();
    cut.extend(&whole[..data - 4]);
    cut.extend(u32::try_from(kept.len())?.to_be_bytes());
    let mut content = b"IDAT".to_vec();
    content.extend(kept);
    cut.extend(&content);
    cut.extend(crc32fast::hash(&content).to_be_bytes());
    cut.extend(&whole[data + 8 + length..]);
    for (what, bytes) in [("checksum", checksum), ("cut", cut), ("no end", whole[..data].into())] {
        let refused = decode(&bytes);
        let right =
            matches!(refused, Err(DecodeError::Png { .. } | DecodeError::Implausible { .. }));
        assert!(right, "{what}: {refused:?}");
    }
    Ok(())
}

/// Progressive JPEG of one grey block with this number of scans, all coefficients zero.
fn of_scans(count: usize) -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| {
        [&[0xff, marker, 0, content.len() as u8 + 2], content].concat()
    };
    // A table with the single code 0, for the symbol 0: no difference, or the end of the block.
    let table = |number| segment(0xc4, &[&[number, 1][..], &[0; 16]].concat());
    let scan = |selection: [u8; 3]| {
        // The code and padding.
        [segment(START_OF_SCAN, &[&[1, 1, 0][..], &selection].concat()), vec![0x7f]].concat()
    };
    // The DC coefficient; each AC coefficient without its lower 8 bits, and then one bit after
    // another.
    let refined = (0..=8).rev().map(|low| if low == 8 { 8 } else { (low + 1) << 4 | low });
    let coefficients = (1..64).flat_map(|at| refined.clone().map(move |bits| [at, at, bits]));
    let scans = std::iter::once([0, 0, 0]).chain(coefficients).take(count).flat_map(scan);
    [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(0xc2, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0]),
        table(0),
        table(0x10),
        scans.collect(),
        END.to_vec(),
    ]
    .concat()
}

/// 170 KB of empty scans take 12 s for 64 megapixels.
#[test]
fn decode_of_more_than_100_scans_is_an_error() -> TestResult {
    let reason = |count| -> TestResult<String> {
        let refused = decode(&of_scans(count)).expect_err("scans are missing");
        Ok(refused.source().ok_or("no source")?.to_string())
    };
    assert_eq!(reason(100)?, "a missing scan of component 0");
    assert_eq!(reason(101)?, "more than 100 scans");
    Ok(())
}
