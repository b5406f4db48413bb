//! Opening tar shards: scanned, and from an index file.

use crate::AnyError;
use once_for_both::data::{Dataset, TarShards};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;
use tar::{Builder, Header};

const SHARDS: usize = 10;
const SAMPLES: usize = 10_000;
/// Bytes of an image. A scan reads none of them.
const IMAGE: usize = 4000;

/// Prints the time that opening takes, and the length of the index.
pub fn opening() -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    for number in 0..SHARDS {
        write(&folder.path().join(format!("{number}.tar")))?;
    }
    let pattern = folder.path().join(format!("{{0..{}}}.tar", SHARDS - 1));
    let pattern = pattern.to_str().ok_or("a path in UTF-8")?;
    let index = folder.path().join("index");
    let seconds = |open: &dyn Fn() -> Result<TarShards, AnyError>| -> Result<f64, AnyError> {
        let started = Instant::now();
        assert_eq!(open()?.len(), SHARDS * SAMPLES);
        Ok(started.elapsed().as_secs_f64())
    };
    println!("{SHARDS} shards of {SAMPLES} samples, in the page cache");
    for round in 1..=3 {
        let scanned = seconds(&|| Ok(TarShards::open(pattern)?))?;
        let written = seconds(&|| Ok(TarShards::open_with_index(pattern, &index)?))?;
        println!("round {round}: {scanned:.3} s scanned, {written:.3} s with index");
    }
    println!("index: {} bytes a sample", index.metadata()?.len() / (SHARDS * SAMPLES) as u64);
    Ok(())
}

/// Writes a shard, each member with a PAX header, as webdataset's `TarWriter` does.
fn write(path: &Path) -> Result<(), AnyError> {
    let mut builder = Builder::new(BufWriter::new(File::create(path)?));
    let image = vec![7; IMAGE];
    for sample in 0..SAMPLES {
        for (ending, content) in [("cls", &b"7"[..]), ("jpg", &image)] {
            builder.append_pax_extensions([("mtime", &b"1000000000.5"[..])])?;
            let mut header = Header::new_ustar();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, format!("{sample:08}.{ending}"), content)?;
        }
    }
    Ok(builder.finish()?)
}
