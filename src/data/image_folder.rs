//! Images in one folder for each class, as ImageNet is laid out.

use super::{decode, Dataset, LabelledImage};
use crate::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Endings of image files, in any case.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// `ROOT/CLASS/IMAGE`: classes and the images of each are numbered in the order of their names.
///
/// Hidden files and folders, other files, and folders in the folder of a class are passed over.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<OsString>,
    files: Vec<File>,
}

#[derive(Debug, Clone)]
struct File {
    class: u32,
    name: OsString,
}

impl ImageFolder {
    /// Lists the images; none is opened.
    ///
    /// # Errors
    /// [`Error::Io`] if a folder cannot be read or a link leads nowhere, [`Error::EmptyFolder`] if there are no classes, or
    /// no images of one of them.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let classes = list(&root, |name| !is_hidden(name), FileType::is_dir)?;
        if classes.is_empty() {
            return Err(Error::EmptyFolder { path: root, expected: "folders, one for each class" });
        }
        let mut files = Vec::new();
        for (class, folder) in (0..).zip(&classes) {
            let path = root.join(folder);
            let image = |name: &OsStr| !is_hidden(name) && has_image_extension(name);
            let names = list(&path, image, FileType::is_file)?;
            if names.is_empty() {
                return Err(Error::EmptyFolder { path, expected: "images (jpg, jpeg, png)" });
            }
            files.extend(names.into_iter().map(|name| File { class, name }));
        }
        Ok(Self { root, classes, files })
    }

    /// Names of the classes, by number.
    pub fn class_names(&self) -> impl ExactSizeIterator<Item = String> + '_ {
        self.classes.iter().map(|name| name.to_string_lossy().into_owned())
    }

    /// Where an image is.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such index.
    pub fn path(&self, index: usize) -> Result<PathBuf> {
        let file = self.file(index)?;
        Ok(self.root.join(&self.classes[file.class as usize]).join(&file.name))
    }

    fn file(&self, index: usize) -> Result<&File> {
        self.files.get(index).ok_or_else(|| no_such_index(index, self.files.len()))
    }
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

    fn load(&self, index: usize) -> Result<LabelledImage> {
        let class = self.file(index)?.class as usize;
        let mut file = Vec::new();
        self.read(index, &mut file)?;
        let image =
            decode(&file).map_err(|source| Error::Image { name: self.name(index), source })?;
        Ok(LabelledImage { image, class })
    }

    fn read(&self, index: usize, file: &mut Vec<u8>) -> Result<Option<usize>> {
        let class = self.file(index)?.class as usize;
        let path = self.path(index)?;
        file.clear();
        fs::File::open(&path)
            .and_then(|mut opened| opened.read_to_end(file))
            .map_err(|source| Error::io("read", &path, source))?;
        Ok(Some(class))
    }
}

/// The error of an index that a data set does not have.
pub(super) fn no_such_index(index: usize, len: usize) -> Error {
    Error::invalid("index of an image", format!("less than {len}"), index)
}

/// Sorted names in a folder that are wanted, of entries of one kind. Links are followed: where one
/// leads nowhere, a class that is left out would give all later ones other numbers.
fn list(
    folder: &Path,
    wanted: impl Fn(&OsStr) -> bool,
    kind: impl Fn(&FileType) -> bool,
) -> Result<Vec<OsString>> {
    let unreadable = |source| Error::io("read", folder, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if !wanted(&name) {
            continue;
        }
        let mut found = entry.file_type().map_err(unreadable)?;
        if found.is_symlink() {
            let path = entry.path();
            let target = fs::metadata(&path).map_err(|source| Error::io("follow", path, source))?;
            found = target.file_type();
        }
        if kind(&found) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn has_image_extension(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| {
        EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}
