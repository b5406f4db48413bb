//! Images in one folder per class, as in torchvision's `ImageFolder`.

use super::dataset::Checksum;
use super::{Dataset, DEFAULT_MAX_PIXELS};
use crate::error::DecodeError;
use crate::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Extensions of image files, compared without regard to case. Those of formats that are not decoded are
/// among them, so that such an image is refused by its content, and not ignored.
const EXTENSIONS: [&str; 19] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "heic",
    "heif", "hif", "avif", "jxl", "jp2", "j2k",
];

/// Longest accepted file, in bytes for each pixel of the limit: that of uncompressed RGBA of 16 bits.
const MAX_BYTES_PER_PIXEL: u64 = 8;
/// Accepted length beside the pixels: headers, comments, colour profiles.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Data set of image files at `ROOT/CLASS/IMAGE`, the layout of ImageNet.
///
/// Classes are numbered in the order of their folder names; images by class, then by file name.
/// Image files are those with the extension of an image format, JPEG and PNG or another one: the format is
/// recognised by content, and a file that is neither JPEG nor PNG is refused when it is decoded. Hidden
/// files and folders, files with other extensions, and folders inside a class folder are ignored.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<OsString>,
    files: Vec<File>,
    max_pixels: usize,
}

#[derive(Debug, Clone)]
struct File {
    class: u32,
    name: OsString,
}

impl ImageFolder {
    /// Lists the classes and images under `root`, without opening an image.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read or a broken symbolic link;
    /// [`Error::EmptyFolder`] if there is no class folder, or a class folder has no image.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        Self::list(&root.into(), &mut Err)
    }

    /// [`open`](Self::open) that hands every error to `fault`, and goes on where it returns `Ok`: what
    /// cannot be listed is then left out.
    pub(super) fn list(root: &Path, fault: &mut dyn FnMut(Error) -> Result<()>) -> Result<Self> {
        let classes = entries(root, |name| !is_hidden(name), FileType::is_dir, fault)?;
        if classes.is_empty() {
            let expected = "at least one class folder";
            fault(Error::EmptyFolder { path: root.into(), expected })?;
        }
        let mut files = Vec::new();
        for (class, folder) in (0..).zip(&classes) {
            let path = root.join(folder);
            let image = |name: &OsStr| !is_hidden(name) && has_image_extension(name);
            let names = entries(&path, image, FileType::is_file, fault)?;
            if names.is_empty() {
                let expected = "at least one image (.jpg, .jpeg, .jfif, .png)";
                fault(Error::EmptyFolder { path, expected })?;
            }
            files.extend(names.into_iter().map(|name| File { class, name }));
        }
        Ok(Self { root: root.into(), classes, files, max_pixels: DEFAULT_MAX_PIXELS })
    }

    /// Number of images of each class.
    pub(super) fn images_by_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.files.iter().for_each(|file| counts[file.class as usize] += 1);
        counts
    }

    /// Sets the largest accepted number of pixels of an image, which bounds the memory that decoding
    /// takes. Default [`DEFAULT_MAX_PIXELS`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0.
    pub fn with_max_pixels(self, max_pixels: usize) -> Result<Self> {
        if max_pixels == 0 {
            return Err(Error::invalid("max_pixels", "at least 1", max_pixels));
        }
        Ok(Self { max_pixels, ..self })
    }

    /// Names of the classes, by class index. A byte that is not UTF-8 is written as `\xE9`, so that different names stay
    /// different.
    pub fn class_names(&self) -> impl ExactSizeIterator<Item = String> + '_ {
        self.classes.iter().map(|name| shown(name))
    }

    /// Path of an image.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an index out of range.
    pub fn path(&self, index: usize) -> Result<PathBuf> {
        let file = self.file(index)?;
        Ok(self.root.join(&self.classes[file.class as usize]).join(&file.name))
    }

    fn file(&self, index: usize) -> Result<&File> {
        self.files.get(index).ok_or_else(|| no_such_index(index, self.files.len()))
    }
}

/// Returns the first class in which a set for evaluation differs from training, in words; `None` if they have the same
/// classes, by name.
pub(crate) fn other_class(set: &str, training: &[String], own: &[String]) -> Option<String> {
    let number = (0..training.len().max(own.len())).find(|&at| training.get(at) != own.get(at))?;
    let [expected, actual] =
        [training, own].map(|names| names.get(number).map_or("none", |name| name));
    Some(format!("class {number} of {set}: got {actual}, expected {expected} as in train"))
}

/// A name as text, with bytes that are not UTF-8 in hexadecimal.
fn shown(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> usize {
        self.classes.len()
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        self.path(index)
            .map_or_else(|_| format!("image {index}"), |path| path.display().to_string())
    }

    /// Of the names of classes and files, in memory; not of `root`.
    fn fingerprint(&self) -> u32 {
        let mut checksum = Checksum::of_classes(self.classes.len());
        self.classes.iter().for_each(|name| checksum.add(name.as_encoded_bytes()));
        for file in &self.files {
            checksum.add(&file.class.to_le_bytes());
            checksum.add(file.name.as_encoded_bytes());
        }
        checksum.finish()
    }

    fn max_pixels(&self) -> usize {
        self.max_pixels
    }

    fn read(&self, index: usize, file: &mut Vec<u8>) -> Result<Option<usize>> {
        let class = self.file(index)?.class as usize;
        read_image_file(&self.path(index)?, self.max_pixels, file)?;
        Ok(Some(class))
    }
}

/// Reads the file of an image of at most `max_pixels` pixels into `content`, replacing it.
pub(super) fn read_image_file(path: &Path, max_pixels: usize, content: &mut Vec<u8>) -> Result<()> {
    let unreadable = |source| Error::io("read", path, source);
    content.clear();
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    check_file_length(length, max_pixels, || path.display().to_string())?;
    file.read_to_end(content).map_err(unreadable)?;
    Ok(())
}

/// Refuses a file that is longer than any image of at most `max_pixels` pixels.
pub(super) fn check_file_length(
    length: u64,
    max_pixels: usize,
    name: impl FnOnce() -> String,
) -> Result<()> {
    let most = (max_pixels as u64).saturating_mul(MAX_BYTES_PER_PIXEL);
    let most = most.saturating_add(MAX_HEADER_BYTES);
    if length <= most {
        return Ok(());
    }
    let source = DecodeError::TooLong { length, most };
    Err(Error::Image { name: name(), source })
}

/// Returns the error of an index out of range.
pub(super) fn no_such_index(index: usize, len: usize) -> Error {
    Error::invalid("image index", format!("less than {len}"), index)
}

/// Returns the sorted names of the entries of `folder` that pass `wanted` and `kind`.
///
/// Symbolic links are followed. A broken one is an error: ignoring it could remove a class and so
/// change the indices of all later classes.
fn entries(
    folder: &Path,
    wanted: impl Fn(&OsStr) -> bool,
    kind: impl Fn(&FileType) -> bool,
    fault: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let listed = match listed {
        Ok(listed) => listed,
        Err(source) => {
            fault(Error::io("read", folder, source))?;
            return Ok(names);
        }
    };
    for entry in listed.into_iter().filter(|entry| wanted(&entry.file_name())) {
        match file_type(&entry) {
            Ok(found) if kind(&found) => names.push(entry.file_name()),
            Ok(_) => {}
            Err(error) => fault(error)?,
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Type of an entry, or of what a symbolic link leads to.
fn file_type(entry: &DirEntry) -> Result<FileType> {
    let path = entry.path();
    let found = entry.file_type().map_err(|source| Error::io("read", &path, source))?;
    if !found.is_symlink() {
        return Ok(found);
    }
    let target = fs::metadata(&path).map_err(|source| Error::io("follow", path, source))?;
    Ok(target.file_type())
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Returns whether a file name has the extension of an image format, decoded or not.
pub(crate) fn has_image_extension(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| {
        EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_class_that_is_another_or_missing_is_named() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let training = names(&["ant", "bee", "cat"]);
        for (own, expected) in [
            (&["ant", "bee", "cat"][..], None),
            (&["ant", "cat"], Some("class 1 of val: got cat, expected bee as in train")),
            (&["ant", "bee"], Some("class 2 of val: got none, expected cat as in train")),
            (
                &["ant", "bee", "cat", "dog"],
                Some("class 3 of val: got dog, expected none as in train"),
            ),
        ] {
            assert_eq!(other_class("val", &training, &names(own)).as_deref(), expected);
        }
    }
}
