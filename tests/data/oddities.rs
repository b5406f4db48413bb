//! Files with the oddities of large data sets: tests/data/images/odd.py wrote them, and Pillow's
//! pixels of each.

use crate::sets::{difference, file, picture};
use crate::support::TestResult;
use once_for_both::data::EncodedImage;
use std::fs;
use std::path::Path;

fn names() -> TestResult<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images/odd");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().map_err(|name| format!("{name:?}"))?;
        if !name.ends_with(".png.png") && !name.ends_with(".jpg.png") {
            names.push(format!("odd/{name}"));
        }
    }
    Ok(names)
}

/// Fill bytes, junk before and after the end, CMYK and YCCK, RGB without conversion, all chroma
/// subsamplings, quantisation tables of 16 bits, EXIF orientation, animated and interlaced PNG.
#[test]
fn decode_of_every_odd_file_equals_pillow() -> TestResult {
    let names = names()?;
    assert_eq!(names.len(), 27);
    let mut failures = Vec::new();
    for name in names {
        let expected = picture(&format!("{name}.png"))?;
        match picture(&name).and_then(|actual| difference(&actual, &expected)) {
            Ok((0, _)) => {}
            Ok((largest, mean)) => {
                failures.push(format!("{name}: largest difference {largest}, mean {mean:.3}"));
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn decode_top_of_every_odd_file_equals_the_top_of_the_whole_image() -> TestResult {
    for name in names()? {
        let (bytes, whole) = (file(&name)?, picture(&name)?);
        for rows in [1, 7, 16, 17, 33] {
            let part = EncodedImage::open(&bytes)?.decode_top(rows)?;
            let expected = &whole.pixels()[..3 * whole.width() * rows.min(whole.height())];
            assert_eq!(part.pixels(), expected, "{rows} rows of {name}");
        }
    }
    Ok(())
}
