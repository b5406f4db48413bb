//! Fingerprints of data sets: those of the images, in any folder, without reading a file.

use crate::archives::{archive, pattern, put};
use crate::sets::Generated;
use crate::support::TestResult;
use once_for_both::data::{Dataset, ImageFolder, TarShards};
use std::fs;
use tempfile::{tempdir, TempDir};

/// Two shards in a folder, with the class of the last image.
fn shards(class: &[u8]) -> TestResult<(TempDir, TarShards)> {
    let folder = tempdir()?;
    put(&folder, "0.tar", &archive(&[("a.jpg", b"image"), ("a.cls", b"4")])?)?;
    put(&folder, "1.tar", &archive(&[("b.jpg", b"image"), ("b.cls", class)])?)?;
    let shards = TarShards::open(pattern(&folder.path().join("{0,1}.tar"))?)?;
    Ok((folder, shards))
}

#[test]
fn fingerprint_of_shards_is_that_of_a_copy_and_needs_no_file() -> TestResult {
    let ((folder, one), (_other, copy)) = (shards(b"1")?, shards(b"1")?);
    let before = one.fingerprint();
    assert_eq!(before, copy.fingerprint());
    fs::remove_file(folder.path().join("0.tar"))?;
    fs::remove_file(folder.path().join("1.tar"))?;
    assert_eq!(one.fingerprint(), before);
    Ok(())
}

#[test]
fn fingerprint_of_shards_with_another_class_name_or_number_of_classes_differs() -> TestResult {
    let (_one, first) = shards(b"1")?;
    let (folder, second) = shards(b"2")?;
    assert_ne!(first.fingerprint(), second.fingerprint());
    fs::rename(folder.path().join("1.tar"), folder.path().join("2.tar"))?;
    let renamed = TarShards::open(pattern(&folder.path().join("{0,2}.tar"))?)?;
    assert_ne!(renamed.fingerprint(), second.fingerprint());
    let fingerprint = second.fingerprint();
    assert_ne!(second.with_classes(9)?.fingerprint(), fingerprint);
    Ok(())
}

#[test]
fn fingerprint_of_an_image_folder_is_that_of_its_names_without_its_path() -> TestResult {
    let open = |names: &[&str]| -> TestResult<u32> {
        let folder = tempdir()?;
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().ok_or("no parent")?)?;
            fs::write(path, b"image")?;
        }
        Ok(ImageFolder::open(folder.path())?.fingerprint())
    };
    let fingerprint = open(&["ape/a.jpg", "bear/b.jpg"])?;
    assert_eq!(open(&["bear/b.jpg", "ape/a.jpg"])?, fingerprint);
    for other in [
        &["ape/a.jpg", "bear/c.jpg"][..],
        &["ape/a.jpg", "cat/b.jpg"],
        &["ape/a.jpg", "ape/b.jpg", "bear/b.jpg"],
    ] {
        assert_ne!(open(other)?, fingerprint, "{other:?}");
    }
    Ok(())
}

#[test]
fn fingerprint_of_another_data_set_is_that_of_its_names() {
    assert_eq!(Generated::of(3).fingerprint(), Generated::of(3).fingerprint());
    assert_ne!(Generated::of(3).fingerprint(), Generated::of(4).fingerprint());
}
