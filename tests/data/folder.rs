use crate::assert_refused;
use crate::sets::file;
use crate::support::TestResult;
use once_for_both::data::{Dataset, ImageFolder};
use once_for_both::error::DecodeError;
use once_for_both::Error;
use std::fs;
use std::path::Path;
use tempfile::{tempdir, TempDir};

fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> TestResult {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().ok_or("no parent")?)?;
    Ok(fs::write(path, bytes)?)
}

#[test]
fn image_folder_numbers_classes_and_images_by_name_and_ignores_other_files() -> TestResult {
    let folder = tempdir()?;
    let (jpeg, png) = (file("colour.jpg")?, file("grey.png")?);
    put(&folder, "zebra/b.PNG", &png)?;
    put(&folder, "zebra/a.JPEG", &jpeg)?;
    put(&folder, "ape/c.Jpg", &jpeg)?;
    // A PNG file with the extension .jpg, as there is one in ImageNet.
    put(&folder, "ape/d.jpg", &png)?;
    for ignored in ["ape/notes.txt", "ape/.hidden.jpg", "ape/more/e.jpg", ".git/f.jpg", "g.jpg"] {
        put(&folder, ignored, b"?")?;
    }
    let set = ImageFolder::open(folder.path())?;
    assert_eq!(set.class_names().collect::<Vec<_>>(), ["ape", "zebra"]);
    assert_eq!((set.len(), set.classes(), set.channels()), (4, 2, 3));
    for (index, (name, class)) in
        [("ape/c.Jpg", 0), ("ape/d.jpg", 0), ("zebra/a.JPEG", 1), ("zebra/b.PNG", 1)]
            .into_iter()
            .enumerate()
    {
        assert_eq!(set.path(index)?, folder.path().join(name));
        let sample = set.load(index)?;
        assert_eq!((sample.class, sample.image.width(), sample.image.height()), (class, 45, 34));
    }
    Ok(())
}

/// A file that was ignored would be missing from training without notice.
#[test]
fn images_of_other_formats_are_listed_and_refused_by_their_content() -> TestResult {
    let folder = tempdir()?;
    let jpeg = file("colour.jpg")?;
    for name in ["a.jfif", "b.WEBP"] {
        put(&folder, &format!("ape/{name}"), &jpeg)?;
    }
    put(&folder, "bear/a.webp", b"RIFF\x24\0\0\0WEBPVP8 ")?;
    put(&folder, "bear/b.bmp", b"BM6\0\0\0\0\0")?;
    put(&folder, "bear/c.gif", b"GIF89a....")?;
    put(&folder, "bear/d.tif", b"II*\0\x08\0\0\0")?;
    put(&folder, "bear/e.tiff", b"MM\0*\0\0\0\x08")?;
    put(&folder, "bear/f.ppm", b"P6\n1 1\n255\nabc")?;
    put(&folder, "bear/g.pgm", b"P5\n1 1\n255\na")?;
    put(&folder, "bear/h.HEIC", b"\0\0\0\x18ftypheic\0\0")?;
    put(&folder, "bear/i.avif", b"\0\0\0\x18ftypavif\0\0")?;
    put(&folder, "bear/j.jxl", b"\xff\x0a\0\0")?;
    put(&folder, "bear/k.jpe", b"version https://git-lfs.github.com/spec/v1\n")?;
    let set = ImageFolder::open(folder.path())?;
    assert_eq!(set.len(), 13);
    assert_eq!((set.load(0)?.image.width(), set.load(1)?.image.width()), (45, 45));
    let formats = ["WebP", "BMP", "GIF", "TIFF", "TIFF", "PPM", "PGM", "HEIC", "AVIF", "JPEG XL"];
    for (index, format) in formats.iter().enumerate() {
        assert_refused!(set.load(2 + index), Error::Image { source: DecodeError::UnknownFormat { name, .. }, .. } if name == *format);
    }
    assert_refused!(set.load(12), Error::Image { source: DecodeError::LfsPointer, .. });
    Ok(())
}

#[test]
fn open_of_missing_folder_is_an_io_error() {
    let path = Path::new("/nowhere/at/all");
    assert_refused!(ImageFolder::open(path), Error::Io { path: named, .. } if named == path);
}

#[test]
fn open_of_folder_without_classes_is_an_empty_folder_error() -> TestResult {
    let folder = tempdir()?;
    put(&folder, "a.jpg", b"?")?;
    let error = ImageFolder::open(folder.path());
    assert_refused!(error, Error::EmptyFolder { path, .. } if path == folder.path());
    Ok(())
}

#[test]
fn open_with_class_without_images_is_an_empty_folder_error() -> TestResult {
    let folder = tempdir()?;
    put(&folder, "ape/a.jpg", b"?")?;
    put(&folder, "bear/a.txt", b"?")?;
    let error = ImageFolder::open(folder.path());
    assert_refused!(error, Error::EmptyFolder { path, .. } if path == folder.path().join("bear"));
    Ok(())
}

/// Ignoring a broken link could remove a class and so change the indices of all later classes.
#[test]
#[cfg(unix)]
fn open_follows_symbolic_links_and_broken_ones_are_io_errors() -> TestResult {
    use std::os::unix::fs::symlink;
    let (folder, elsewhere) = (tempdir()?, tempdir()?);
    put(&elsewhere, "images/a.jpg", &file("colour.jpg")?)?;
    put(&folder, "bear/a.jpg", b"?")?;
    symlink(elsewhere.path().join("images"), folder.path().join("ape"))?;
    symlink("/nowhere/notes", folder.path().join("bear/notes.txt"))?;
    symlink(elsewhere.path().join("images/a.jpg"), folder.path().join("bear/b.jpg"))?;
    let set = ImageFolder::open(folder.path())?;
    assert_eq!(set.class_names().collect::<Vec<_>>(), ["ape", "bear"]);
    assert_eq!((set.len(), set.load(2)?.class), (3, 1));
    for link in ["bear/c.jpg", "alpaca"] {
        let path = folder.path().join(link);
        symlink("/nowhere/at/all", &path)?;
        let refused = ImageFolder::open(folder.path());
        assert_refused!(refused, Error::Io { path: ref named, .. } if *named == path);
        fs::remove_file(&path)?;
    }
    Ok(())
}

#[test]
fn load_of_damaged_missing_or_out_of_range_image_is_an_error_that_names_it() -> TestResult {
    let folder = tempdir()?;
    put(&folder, "ape/bad.jpg", b"not a jpeg")?;
    put(&folder, "ape/gone.jpg", b"?")?;
    let set = ImageFolder::open(folder.path())?;
    fs::remove_file(folder.path().join("ape/gone.jpg"))?;
    assert_refused!(set.load(0), Error::Image { name, .. } if name.ends_with("bad.jpg"));
    assert_refused!(set.load(1), Error::Io { path, .. } if path.ends_with("ape/gone.jpg"));
    assert_refused!(set.load(2), Error::Invalid { actual, .. } if actual == "2");
    Ok(())
}

#[test]
fn load_above_the_limit_of_pixels_is_a_too_large_error_and_0_is_refused() -> TestResult {
    let folder = tempdir()?;
    put(&folder, "ape/a.jpg", &file("colour.jpg")?)?;
    let set = ImageFolder::open(folder.path())?;
    assert_refused!(set.clone().with_max_pixels(0), Error::Invalid { name, .. } if name == "max_pixels");
    assert_eq!(set.clone().with_max_pixels(45 * 34)?.load(0)?.image.width(), 45);
    let refused = set.with_max_pixels(45 * 34 - 1)?.load(0);
    assert_refused!(refused, Error::Image { source: DecodeError::TooLarge { .. }, .. });
    Ok(())
}

/// The file is sparse: it takes no room on disk, but its content would take 60 GB of memory.
#[test]
fn load_of_a_file_longer_than_any_image_is_a_too_long_error_before_it_is_read() -> TestResult {
    let folder = tempdir()?;
    put(&folder, "ape/a.jpg", &file("colour.jpg")?)?;
    let path = folder.path().join("ape/a.jpg");
    fs::OpenOptions::new().write(true).open(path)?.set_len(60_000_000_000)?;
    let refused = ImageFolder::open(folder.path())?.load(0);
    assert_refused!(refused, Error::Image { source: DecodeError::TooLong { .. }, .. });
    Ok(())
}

#[test]
fn folder_named_like_an_image_is_ignored() -> TestResult {
    let folder = tempdir()?;
    put(&folder, "ape/a.jpg", &file("colour.jpg")?)?;
    fs::create_dir_all(folder.path().join("ape/x.jpg"))?;
    assert_eq!(ImageFolder::open(folder.path())?.len(), 1);
    Ok(())
}

#[test]
#[cfg(unix)]
fn open_with_a_loop_of_symbolic_links_is_an_io_error_that_names_it() -> TestResult {
    use std::os::unix::fs::symlink;
    let folder = tempdir()?;
    put(&folder, "ape/a.jpg", &file("colour.jpg")?)?;
    let (first, second) = (folder.path().join("ape/b.jpg"), folder.path().join("ape/c.jpg"));
    symlink(&first, &second)?;
    symlink(&second, &first)?;
    let refused = ImageFolder::open(folder.path());
    assert_refused!(refused, Error::Io { path, .. } if path == first || path == second);
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn file_name_that_is_not_utf_8_is_loaded() -> TestResult {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempdir()?;
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe.jpg");
    fs::create_dir(folder.path().join("ape"))?;
    fs::write(folder.path().join("ape").join(name), file("colour.jpg")?)?;
    let set = ImageFolder::open(folder.path())?;
    assert_eq!((set.load(0)?.image.width(), set.name(0).ends_with(".jpg")), (45, true));
    Ok(())
}
