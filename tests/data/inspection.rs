//! `inspect_images`: counts, sizes, and every fault.

use crate::archives::archive;
use crate::assert_refused;
use crate::sets::file;
use crate::support::TestResult;
use flate2::write::GzEncoder;
use flate2::Compression;
use once_for_both::data::{
    inspect_images, ImageFolder, ImageInspection, ImageSource, InspectedSet, DEFAULT_MAX_PIXELS,
};
use once_for_both::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::tempdir;

fn put(folder: &Path, name: &str, bytes: &[u8]) -> TestResult {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().ok_or("no parent")?)?;
    Ok(fs::write(path, bytes)?)
}

fn inspect(path: &Path) -> TestResult<ImageInspection> {
    Ok(inspect_images(path, DEFAULT_MAX_PIXELS)?)
}

/// The only set of an inspection.
fn only(inspection: &ImageInspection) -> &InspectedSet {
    assert_eq!(inspection.sets.len(), 1);
    &inspection.sets[0]
}

#[test]
fn inspection_of_class_folders_counts_images_and_names_every_bad_file() -> TestResult {
    let folder = tempdir()?;
    let root = folder.path();
    for name in ["ape/a.jpg", "ape/b.jpg", "bear/c.jpg"] {
        put(root, name, &file("colour.jpg")?)?;
    }
    put(root, "bear/d.png", &file("odd/animated.png")?)?;
    put(root, "bear/e.jpg", b"GIF89a....")?;
    put(root, "bear/f.jpg", b"")?;
    put(root, "ape/g.jpg", &file("colour.jpg")?[..700])?;
    put(root, "cat/notes.txt", b"no image")?;
    let inspection = inspect(root)?;
    assert_eq!((inspection.source, inspection.is_accepted()), (ImageSource::ClassFolders, false));
    let set = only(&inspection);
    assert_eq!((set.images, set.channels), (7, 3));
    let classes: Vec<_> = set.classes.iter().map(|c| (c.name.as_str(), c.images)).collect();
    assert_eq!(classes, [("ape", 3), ("bear", 4), ("cat", 0)]);
    let sizes: Vec<_> = set.sizes.iter().map(|s| (s.width, s.height, s.images)).collect();
    assert_eq!(sizes, [(45, 34, 3), (20, 15, 1)]);
    let expected = [
        ("cat", "expected at least one image"),
        ("ape/g.jpg", "without an end-of-image marker"),
        ("bear/e.jpg", "got GIF"),
        ("bear/f.jpg", "got 0 bytes"),
    ];
    assert_eq!(set.faults.len(), expected.len(), "{:?}", set.faults);
    for (fault, (path, reason)) in set.faults.iter().zip(expected) {
        assert!(fault.path.ends_with(path) && fault.reason.contains(reason), "{fault:?}");
    }
    Ok(())
}

#[test]
fn inspection_accepts_what_the_loader_accepts_and_survives_json() -> TestResult {
    let folder = tempdir()?;
    for split in ["train", "val"] {
        put(folder.path(), &format!("{split}/ape/a.jpg"), &file("colour.jpg")?)?;
    }
    let inspection = inspect(folder.path())?;
    assert_eq!(inspection.source, ImageSource::TrainAndVal);
    assert!(inspection.is_accepted());
    let names: Vec<_> = inspection.sets.iter().map(|set| (set.name.as_str(), set.images)).collect();
    assert_eq!(names, [("train", 1), ("val", 1)]);
    let json = serde_json::to_string(&inspection)?;
    assert_eq!(serde_json::from_str::<ImageInspection>(&json)?, inspection);
    put(folder.path(), "val/bear/a.jpg", &file("colour.jpg")?)?;
    let other = inspect(folder.path())?;
    let reason = &other.sets[1].faults[0].reason;
    assert_eq!(reason, "class 1 of val: got bear, expected none as in train");
    fs::remove_dir_all(folder.path().join("val/bear"))?;
    fs::remove_file(folder.path().join("val/ape/a.jpg"))?;
    assert!(!inspect(folder.path())?.is_accepted());
    assert_refused!(ImageFolder::open(folder.path().join("val")), Error::EmptyFolder { .. });
    Ok(())
}

#[test]
fn inspection_of_classes_of_which_one_is_named_train_counts_them() -> TestResult {
    let folder = tempdir()?;
    for class in ["bus", "train"] {
        put(folder.path(), &format!("{class}/a.jpg"), &file("colour.jpg")?)?;
    }
    let inspection = inspect(folder.path())?;
    assert_eq!((inspection.source, inspection.is_accepted()), (ImageSource::ClassFolders, true));
    assert_eq!((only(&inspection).images, only(&inspection).classes.len()), (2, 2));
    // As Jupyter and NAS devices leave behind.
    put(folder.path(), "train/.ipynb_checkpoints/a.jpg", &file("colour.jpg")?)?;
    let inspection = inspect(folder.path())?;
    assert_eq!((inspection.source, inspection.is_accepted()), (ImageSource::ClassFolders, true));
    // Without val/, a train/ of classes is one of a data set that lacks its evaluation.
    put(folder.path(), "train/ape/a.jpg", &file("colour.jpg")?)?;
    let inspection = inspect(folder.path())?;
    assert_eq!((inspection.source, inspection.is_accepted()), (ImageSource::TrainAndVal, false));
    Ok(())
}

#[test]
fn inspection_of_a_compressed_shard_says_that_it_is_one() -> TestResult {
    let folder = tempdir()?;
    let gzip = |bytes: &[u8]| -> TestResult<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes)?;
        Ok(encoder.finish()?)
    };
    let shard = gzip(&archive(&[("a.jpg", b"image"), ("a.cls", b"0")])?)?;
    put(folder.path(), "shard", &shard)?;
    // Archives of old formats have no mark.
    put(folder.path(), "0.tar.gz", &gzip(&[0; 1024])?)?;
    put(folder.path(), "0.TGZ", &gzip(b"short")?)?;
    let marks = [
        ("bzip2", "tbz2", b"BZh91AY&SY"),
        ("xz", "txz", b"\xfd7zXZ\0\0\0\0\0"),
        ("zstd", "tzst", b"\x28\xb5\x2f\xfd\0\0\0\0\0\0"),
    ];
    let mut names = ["shard", "0.tar.gz", "0.TGZ"].map(|name| (name.to_owned(), "gzip")).to_vec();
    for (format, short, mark) in marks {
        for name in [format!("0.tar.{format}"), format!("0.{short}")] {
            put(folder.path(), &name, mark)?;
            names.push((name, format));
        }
    }
    for (name, format) in names {
        let name = name.as_str();
        let inspection = inspect(&folder.path().join(name))?;
        assert_eq!(inspection.source, ImageSource::TarShards, "{name}");
        let reason = &only(&inspection).faults[0].reason;
        let expected =
            format!("format: got {format}, expected an archive that is not compressed; unpack it");
        assert!(!inspection.is_accepted() && reason.ends_with(&expected), "{name}: {reason}");
    }
    Ok(())
}

#[test]
fn inspection_of_one_image_returns_its_size_or_its_fault() -> TestResult {
    let folder = tempdir()?;
    put(folder.path(), "a.jpg", &file("colour.jpg")?)?;
    put(folder.path(), "b.jpg", b"RIFF\x24\0\0\0WEBPVP8 ")?;
    let good = inspect(&folder.path().join("a.jpg"))?;
    assert_eq!((good.source, good.is_accepted()), (ImageSource::ImageFile, true));
    assert_eq!((only(&good).sizes[0].width, only(&good).sizes[0].height), (45, 34));
    let bad = inspect(&folder.path().join("b.jpg"))?;
    assert!(!bad.is_accepted() && only(&bad).faults[0].reason.contains("WebP"));
    let small = inspect_images(&folder.path().join("a.jpg"), 1000)?;
    assert!(only(&small).faults[0].reason.contains("max_pixels"));
    let missing = inspect_images(&folder.path().join("c.jpg"), 1000);
    assert_refused!(missing, Error::Io { path, .. } if path.ends_with("c.jpg"));
    Ok(())
}

#[test]
fn inspection_of_idx_files_counts_images_and_labels() -> TestResult {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let folder = tempdir()?;
    for name in ["images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"] {
        let from = format!("t10k-{name}");
        fs::copy(data.join(&from), folder.path().join(&from))?;
        fs::copy(data.join(&from), folder.path().join(format!("train-{name}")))?;
    }
    let inspection = inspect(folder.path())?;
    assert_eq!((inspection.source, inspection.is_accepted()), (ImageSource::IdxFiles, true));
    for set in &inspection.sets {
        assert_eq!((set.images, set.channels, set.classes.len()), (1000, 1, 10));
        assert_eq!(set.classes.iter().map(|class| class.images).sum::<usize>(), 1000);
    }
    let file = inspect(&folder.path().join("t10k-images-idx3-ubyte.gz"))?;
    assert_eq!((file.source, only(&file).images), (ImageSource::IdxFile, 1000));
    fs::write(folder.path().join("train-labels-idx1-ubyte.gz"), b"\x1f\x8bnot gzip")?;
    let damaged = inspect(folder.path())?;
    assert!(!damaged.is_accepted() && damaged.sets[0].faults[0].reason.contains("gzip"));
    Ok(())
}

#[test]
#[cfg(unix)]
fn inspection_names_broken_links_and_goes_on() -> TestResult {
    let folder = tempdir()?;
    put(folder.path(), "ape/a.jpg", &file("colour.jpg")?)?;
    std::os::unix::fs::symlink("/nowhere/at/all", folder.path().join("ape/b.jpg"))?;
    let inspection = inspect(folder.path())?;
    let set = only(&inspection);
    assert_eq!((set.images, set.faults.len()), (1, 1));
    assert!(set.faults[0].path.ends_with("ape/b.jpg"), "{:?}", set.faults);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn inspection_of_a_pipe_or_device_is_an_error_and_does_not_wait() -> TestResult {
    let folder = tempdir()?;
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let own = path.to_owned();
        std::thread::spawn(move || sender.send(inspect_images(&own, 1).map(drop)));
        let refused = receiver.recv_timeout(std::time::Duration::from_secs(30))?;
        assert_refused!(refused, Error::Io { path: named, .. } if named == path);
    }
    Ok(())
}

#[test]
fn inspection_with_a_limit_of_0_pixels_is_refused_for_every_layout() -> TestResult {
    let folder = tempdir()?;
    put(folder.path(), "ape/a.jpg", &file("colour.jpg")?)?;
    for path in [folder.path().to_owned(), folder.path().join("ape/a.jpg")] {
        assert_refused!(inspect_images(&path, 0), Error::Invalid { name, .. } if name == "max_pixels");
    }
    Ok(())
}

/// Different classes, although no text shows it.
#[cfg(target_os = "linux")]
#[test]
fn inspection_of_classes_whose_names_differ_in_a_byte_that_is_not_utf_8_is_a_fault() -> TestResult {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempdir()?;
    let image = file("colour.jpg")?;
    for (set, name) in [("train", b"\xe9"), ("val", b"\xe8")] {
        let class = folder.path().join(set).join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(&class)?;
        fs::write(class.join("a.jpg"), &image)?;
    }
    let found = inspect(folder.path())?;
    let reasons: Vec<&str> = found.sets[1].faults.iter().map(|own| own.reason.as_str()).collect();
    assert_eq!(reasons, ["class 0 of val: got \\xE8, expected \\xE9 as in train"]);
    Ok(())
}
