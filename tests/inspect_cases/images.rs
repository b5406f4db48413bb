//! Images, and what is neither a file nor a folder.

use super::{file, look};
use crate::support::TestResult;
use once_for_both::Error;
use std::fs;
use std::path::Path;

#[test]
fn data_folder_with_a_bad_image_is_not_accepted_and_the_image_is_named() -> TestResult {
    assert!(look(&file("examples/data"))?.is_accepted());
    let folder = tempfile::tempdir()?;
    let class = folder.path().join("cats");
    fs::create_dir(&class)?;
    fs::write(class.join("torn.jpg"), [0xff, 0xd8, 0xff])?;
    let found = look(folder.path())?;
    assert!(!found.is_accepted());
    assert!(found.to_string().contains("torn.jpg"), "{found}");
    let single = look(&class.join("torn.jpg"))?;
    assert!(!single.is_accepted() && single.to_string().starts_with("kind          image\n"));
    Ok(())
}

#[test]
fn tar_shards_are_decoded_and_every_torn_one_is_named() -> TestResult {
    let found = look(&file("tests/data/shards/webdataset-{000000..000001}.tar"))?;
    assert!(found.is_accepted());
    let text = found.to_string();
    for part in ["tar shards (WebDataset)", "images        5", "classes       5", "45 × 34: 5"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let folder = tempfile::tempdir()?;
    let whole = fs::read(file("tests/data/shards/gnu.tar"))?;
    for (name, length) in [("0.tar", whole.len()), ("1.tar", 7000), ("2.tar", 700)] {
        fs::write(folder.path().join(name), &whole[..length])?;
    }
    let found = look(&folder.path().join("{0..3}.tar"))?;
    let json = serde_json::to_value(&found)?;
    let set = &json["sets"][0];
    assert_eq!((&set["images"], set["faults"].as_array().map(Vec::len)), (&4.into(), Some(3)));
    let text = found.to_string();
    for part in ["1.tar", "2.tar", "the shard is truncated", "3.tar", "cannot read"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let torn = look(&folder.path().join("1.tar"))?;
    assert!(!torn.is_accepted() && torn.to_string().contains("the shard is truncated"), "{torn}");
    Ok(())
}

#[test]
fn compressed_shards_and_images_of_other_formats_are_named_and_not_read_as_weights() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (name, start, said) in [
        ("0.tar.bz2", &b"BZh91AY&SY"[..], "got bzip2"),
        ("0.tar.xz", b"\xfd7zXZ\0\0\0\0", "got xz"),
        ("0.tar.zst", b"\x28\xb5\x2f\xfd\0\0", "got zstd"),
        ("0.tzst", b"\x28\xb5\x2f\xfd\0\0", "got zstd"),
        ("photo.webp", b"RIFF\x24\0\0\0WEBPVP8 ", "got WebP"),
        ("photo.BMP", b"BM6\0\0\0\0\0", "got BMP"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, start)?;
        let found = look(&path)?;
        assert!(!found.is_accepted() && found.to_string().contains(said), "{name}: {found}");
    }
    Ok(())
}

/// Opening a pipe would wait for a writer.
#[cfg(unix)]
#[test]
fn pipe_is_refused_without_being_opened() -> TestResult {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    match look(&pipe) {
        Err(Error::Checkpoint { path, source }) => {
            assert!(path == pipe && source.to_string().contains("a pipe"), "{source}");
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

#[test]
fn path_without_anything_is_an_io_error() {
    assert!(matches!(look(Path::new("not/there")), Err(Error::Io { .. })));
}
