//! Readers on files with random changes: pixels or a typed error, in bounded time and memory.

use crate::sets::file;
use crate::support::alone::{measured, run_alone};
use crate::support::mutation::{cases, mutated, run_bounded};
use crate::support::TestResult;
use flate2::write::GzEncoder;
use once_for_both::data::idx::read_idx;
use once_for_both::data::{decode, Dataset, EncodedImage, TarShards};
use std::io::Write;
use std::path::Path;

/// The largest file has 5 KB, of which deflate makes at most 5 MB, and a progressive JPEG a few more.
const MOST_MEGABYTES: f64 = 64.0;

const JPEGS: [&str; 12] = [
    "colour.jpg",
    "progressive.jpg",
    "grey.jpg",
    "cmyk.jpg",
    "full_chroma.jpg",
    "odd/restart.jpg",
    "odd/ycck.jpg",
    "odd/sampled_411.jpg",
    "odd/sampled_440.jpg",
    "odd/odd_sides_422.jpg",
    "odd/tables_of_16_bits.jpg",
    "odd/fill_bytes.jpg",
];
const PNGS: [&str; 8] = [
    "alpha.png",
    "palette.png",
    "grey16.png",
    "grey_alpha.png",
    "odd/animated.png",
    "odd/interlaced.png",
    "odd/palette_transparency.png",
    "odd/two_colours.png",
];

fn files(names: &[&str]) -> TestResult<Vec<Vec<u8>>> {
    names.iter().map(|name| file(name)).collect()
}

/// Pixels or an error with a message; the top rows equal those of the whole image.
fn check_image(bytes: &[u8], case: u64) {
    let rows = 1 + case as usize % 40;
    let top = EncodedImage::open(bytes).and_then(|file| file.decode_top(rows));
    match decode(bytes) {
        Ok(whole) => {
            assert_eq!(whole.pixels().len(), whole.width() * whole.height() * 3);
            let top = top.expect("the whole image was decoded");
            assert_eq!(top.pixels(), &whole.pixels()[..top.pixels().len()]);
        }
        Err(error) => assert!(error.to_string().contains("expected")),
    }
}

/// Makes the checksums of a PNG's chunks right again, so that changes reach the decoder.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).and_then(|four| four.first_chunk()) {
        let end = (at + 8).saturating_add(u32::from_be_bytes(*length) as usize);
        let Some(content) = bytes.get(at + 4..end) else { break };
        let checksum = crc32fast::hash(content).to_be_bytes();
        let Some(target) = bytes.get_mut(end..end + 4) else { break };
        target.copy_from_slice(&checksum);
        at = end + 4;
    }
    bytes
}

fn run(test: &str) -> TestResult {
    let alone = run_alone(&format!("mutations::{test}"), &[])?;
    println!("{test}: {} cases, {} MB", cases()?, alone.megabytes);
    assert!(alone.megabytes < MOST_MEGABYTES, "{} MB", alone.megabytes);
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn mutated_jpeg_files_give_pixels_or_errors_in_bounded_time_and_memory() -> TestResult {
    run("jpeg_cases")
}

#[test]
#[cfg(target_os = "linux")]
fn mutated_png_files_give_pixels_or_errors_in_bounded_time_and_memory() -> TestResult {
    run("png_cases")
}

#[test]
#[cfg(target_os = "linux")]
fn mutated_idx_files_give_values_or_errors_in_bounded_time_and_memory() -> TestResult {
    run("idx_cases")
}

#[test]
#[cfg(target_os = "linux")]
fn mutated_tar_shards_give_samples_or_errors_in_bounded_time_and_memory() -> TestResult {
    run("shard_cases")
}

#[test]
#[ignore = "started by the test that measures its memory"]
fn jpeg_cases() -> TestResult {
    let (files, cases) = (files(&JPEGS)?, cases()?);
    measured(|| {
        run_bounded(cases, move |case| {
            check_image(&mutated(&files[case as usize % files.len()], case), case);
        })
    })
}

#[test]
#[ignore = "started by the test that measures its memory"]
fn png_cases() -> TestResult {
    let (files, cases) = (files(&PNGS)?, cases()?);
    measured(|| {
        run_bounded(cases, move |case| {
            let bytes = mutated(&files[case as usize % files.len()], case);
            // Three of four: wrong checksums are found before anything else.
            check_image(&if case % 4 == 0 { bytes } else { with_checksums(bytes) }, case);
        })
    })
}

#[test]
#[ignore = "started by the test that measures its memory"]
fn idx_cases() -> TestResult {
    let (folder, cases) = (tempfile::tempdir()?, cases()?);
    let values: Vec<u8> = (0..2000_u32).map(|at| ((at * at) >> 7) as u8).collect();
    let plain = [&[0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 10, 0, 0, 0, 10], &values[..]].concat();
    let folder = folder.path().to_owned();
    measured(|| {
        run_bounded(cases, move |case| {
            check_idx(&folder, &plain, case).expect("a file is written and packed");
        })
    })
}

/// A plain file, or one that is changed before or after it is packed.
fn check_idx(folder: &Path, plain: &[u8], case: u64) -> TestResult {
    let pack = |bytes: &[u8]| -> TestResult<Vec<u8>> {
        let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes)?;
        Ok(packer.finish()?)
    };
    let bytes = match case % 3 {
        0 => mutated(plain, case),
        1 => pack(&mutated(plain, case))?,
        _ => mutated(&pack(plain)?, case),
    };
    // A new file for each case: writing over one waits for the disk.
    let path = folder.join(case.to_string());
    std::fs::write(&path, bytes)?;
    match read_idx(&path) {
        Ok(array) => assert_eq!(array.values.len(), array.shape.iter().product::<usize>()),
        Err(error) => assert!(error.to_string().contains(&path.display().to_string())),
    }
    Ok(std::fs::remove_file(path)?)
}

#[test]
#[cfg(target_os = "linux")]
fn mutated_index_of_shards_is_refused_by_name_in_bounded_time_and_memory() -> TestResult {
    run("index_cases")
}

#[test]
#[ignore = "started by the test that measures its memory"]
fn index_cases() -> TestResult {
    let (folder, cases) = (tempfile::tempdir()?, cases()?);
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/shards");
    let pattern = format!("{}/webdataset-{{000000..000001}}.tar", made.display());
    let index = folder.path().join("index");
    TarShards::open_with_index(&pattern, &index)?;
    let good = std::fs::read(&index)?;
    let folder = folder.path().to_owned();
    measured(|| {
        run_bounded(cases, move |case| {
            let path = folder.join(case.to_string());
            std::fs::write(&path, mutated(&good, case)).expect("a file is written");
            let classes = |set: &TarShards| {
                let class = |index| set.read(index, &mut Vec::new()).ok().flatten();
                (0..set.len()).map(class).collect::<Vec<_>>()
            };
            match TarShards::open_with_index(&pattern, &path) {
                Ok(set) => assert_eq!(classes(&set), [0, 3, 1, 4, 2].map(Some)),
                Err(error) => assert!(error.to_string().contains(&path.display().to_string())),
            }
            std::fs::remove_file(path).expect("the file is removed");
        })
    })
}

#[test]
#[ignore = "started by the test that measures its memory"]
fn shard_cases() -> TestResult {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/shards");
    let names = ["webdataset-000000.tar", "pax.tar", "gnu.tar"];
    let shards = names.map(|name| std::fs::read(made.join(name)));
    let shards = shards.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (folder, cases) = (tempfile::tempdir()?, cases()?);
    let folder = folder.path().to_owned();
    measured(|| {
        run_bounded(cases, move |case| {
            let bytes = mutated(&shards[case as usize % shards.len()], case);
            // Three of four: wrong checksums are found before anything else.
            let bytes = if case % 4 == 0 { bytes } else { with_header_checksums(bytes) };
            check_shard(&folder.join(format!("{case}.tar")), &bytes).expect("a file is written");
        })
    })
}

/// Makes the checksums of tar headers right again, so that changes reach what is behind them.
fn with_header_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.as_chunks_mut::<512>().0 {
        let mut header = tar::Header::from_byte_slice(block).clone();
        if header.as_ustar().is_some() || header.as_gnu().is_some() {
            header.set_cksum();
            *block = *header.as_bytes();
        }
    }
    bytes
}

/// Samples that can be read, or an error that names the shard.
fn check_shard(path: &Path, bytes: &[u8]) -> TestResult {
    std::fs::write(path, bytes)?;
    match TarShards::open(path.to_str().ok_or("a path in UTF-8")?) {
        Ok(set) => {
            assert!(!set.is_empty());
            let mut image = Vec::new();
            for index in 0..set.len() {
                assert!(set.read(index, &mut image)?.is_some_and(|class| class < set.classes()));
                assert!(image.len() <= bytes.len() && set.name(index).ends_with(".tar"));
            }
        }
        Err(error) => {
            assert!(error.to_string().contains(&path.display().to_string()));
            let cause = std::error::Error::source(&error).expect("the fault of the shard");
            assert!(cause.to_string().contains("expected"), "{cause}");
        }
    }
    Ok(std::fs::remove_file(path)?)
}
