//! WebDataset tar shards: archives of images and their classes.

mod handles;
mod index;
mod pattern;
mod samples;
mod scan;
mod scans;
mod window;

pub(crate) use pattern::{is_shard_pattern, pattern_text};
pub(super) use scan::compression;

use super::dataset::Checksum;
use super::image_folder::{check_file_length, no_such_index};
use super::{Dataset, DEFAULT_MAX_PIXELS};
use crate::error::ShardError;
use crate::{files, Error, Result};
use handles::Handles;
use samples::Member;
use scan::{name, shard_error, Stamp};
use scans::{scan_all, Scanned, Scans};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tar::Archive;
use window::{fill_at, Window};

/// Data set of WebDataset tar shards: each sample is an image (`.jpg`, `.jpeg` or `.png`) and its
/// class (`.cls`, an integer in ASCII digits), consecutive members of an archive whose names are
/// equal up to the first dot of the base name.
///
/// Members with other extensions, folders, and names that begin with a dot are ignored. Images are
/// numbered by shard, in the order of the pattern, then in the order of the archive.
///
/// Opening reads the headers and the classes of all shards and no image; an
/// [index file](Self::open_with_index) saves it. 16 bytes of memory an image hold the positions.
/// Images are read at their positions, so every index is as fast as another, and batches and resume
/// are those of any [`Dataset`]; [`Order::Shards`](super::Order::Shards) shuffles so that the reads
/// are nearly sequential.
///
/// ```no_run
/// use once_for_both::data::{Loader, LoaderOptions, Order, TarShards};
/// use std::sync::Arc;
///
/// # fn main() -> once_for_both::Result<()> {
/// let shards = TarShards::open("imagenet/train-{000..146}.tar")?;
/// let order = Order::Shards { buffer: 20_000, repeats: 3 };
/// let options = LoaderOptions { order, ..LoaderOptions::deit(224, 256) };
/// let mut train = Loader::new(Arc::new(shards), options, tch::Device::Cpu)?;
/// assert_eq!(train.at(0)?.images.size(), [256, 3, 224, 224]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TarShards {
    shards: Vec<Shard>,
    members: Vec<Member>,
    classes: usize,
    max_pixels: usize,
    handles: Handles,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    stamp: Stamp,
    /// Indices of its images.
    images: Range<usize>,
}

impl TarShards {
    /// Scans the shards of a pattern, up to 16 at once. The number of classes is the largest class + 1;
    /// [`with_classes`](Self::with_classes) sets another.
    ///
    /// In a pattern, `{000..146}` stands for a range of numbers, `{a,b}` for each of a list, and `::`
    /// separates patterns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a pattern with unbalanced or empty braces, or one that names a shard
    /// twice; [`Error::Io`] for a shard that cannot be read; [`Error::Shard`] for a damaged shard or
    /// incomplete samples.
    pub fn open(pattern: &str) -> Result<Self> {
        Self::list(pattern, &mut Err)
    }

    /// [`open`](Self::open) that takes from the file `index` what it has of shards whose length and
    /// time of the last change are the same, scans the others, and then writes the file anew, without what
    /// it has of shards that are no longer there.
    ///
    /// Several data sets may share an index, and several processes may open it at once. Nothing else
    /// is written, nor anything by [`open`](Self::open).
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`Error::File`] if the file is something else or damaged;
    /// [`Error::Io`] if it cannot be read or written.
    pub fn open_with_index(pattern: &str, index: &Path) -> Result<Self> {
        let mut scans = index::read(index)?;
        let (set, fresh) = Self::list_with(pattern, &scans, &mut Err)?;
        if !fresh.is_empty() {
            scans.extend(fresh);
            // Copies in the folder of a job that has ended would add up.
            scans.retain(|path, _| !matches!(path.try_exists(), Ok(false)));
            index::write(index, &scans)?;
        }
        Ok(set)
    }

    /// [`open`](Self::open) that hands every error of a shard to `fault`, and goes on where it returns
    /// `Ok`: the shard is then left out.
    pub(super) fn list(pattern: &str, fault: &mut dyn FnMut(Error) -> Result<()>) -> Result<Self> {
        Self::list_with(pattern, &Scans::new(), fault).map(|(set, _)| set)
    }

    /// [`list`](Self::list) with the scans of shards that are `known`. Returns the other scans, too.
    fn list_with(
        pattern: &str,
        known: &Scans,
        fault: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<(Self, Scans)> {
        let paths = pattern::expand(pattern)?;
        let (mut shards, mut members, mut fresh) = (Vec::new(), Vec::new(), Scans::new());
        for (path, scanned) in paths.iter().zip(scan_all(&paths, known)) {
            let Scanned { key, scan, is_fresh } = match scanned {
                Ok(scanned) => scanned,
                Err(error) => {
                    fault(error)?;
                    continue;
                }
            };
            let images = members.len()..members.len() + scan.members.len();
            shards.push(Shard { path: path.clone(), stamp: scan.stamp, images });
            members.extend_from_slice(&scan.members);
            if is_fresh {
                fresh.insert(key, scan);
            }
        }
        let classes = members.iter().map(|member: &Member| member.class as usize + 1).max();
        let (classes, handles) = (classes.unwrap_or(0), Handles::default());
        Ok((Self { shards, members, classes, max_pixels: DEFAULT_MAX_PIXELS, handles }, fresh))
    }

    /// Sets the number of classes.
    ///
    /// # Errors
    /// [`Error::Shard`] naming the first image whose class is not less than `classes`.
    pub fn with_classes(self, classes: usize) -> Result<Self> {
        let class = |member: &Member| member.class as usize;
        match self.members.iter().position(|member| class(member) >= classes) {
            None => Ok(Self { classes, ..self }),
            Some(index) => {
                let (shard, member) = self.place(index)?;
                let (class, member) = (class(member), self.member_name(index));
                Err(shard_error(
                    &shard.path,
                    ShardError::ClassOutOfRange { member, class, classes },
                ))
            }
        }
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

    /// Paths of the shards, in their order.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Number of images of each class.
    pub(super) fn images_by_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        self.members.iter().for_each(|member| counts[member.class as usize] += 1);
        counts
    }

    /// The shard of an image, and its member.
    fn place(&self, index: usize) -> Result<(&Shard, &Member)> {
        let member = self.members.get(index).ok_or_else(|| no_such_index(index, self.len()))?;
        Ok((&self.shards[self.shard_number(index)], member))
    }

    /// Number of the shard of an image. The last one for an index out of range.
    fn shard_number(&self, index: usize) -> usize {
        let after = self.shards.partition_point(|shard| shard.images.end <= index);
        after.min(self.shards.len().saturating_sub(1))
    }

    /// Name of an image's member, read from its shard; its number if that fails.
    fn member_name(&self, index: usize) -> String {
        let name = || -> Option<String> {
            let (shard, member) = self.place(index).ok()?;
            let file = self.handles.get(self.shard_number(index), || shard.open()).ok()?;
            let window = Window::new(&file, member.header_position());
            window.allow(scan::MOST_HEADER_BYTES);
            let mut archive = Archive::new(&window);
            let entry = archive.entries().ok()?.next()?.ok()?;
            Some(name(&entry))
        };
        name().unwrap_or_else(|| format!("image {index}"))
    }
}

impl Dataset for TarShards {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        match self.place(index) {
            Ok((shard, _)) => format!("{} in {}", self.member_name(index), shard.path.display()),
            Err(_) => format!("image {index}"),
        }
    }

    fn shards(&self) -> Vec<Range<usize>> {
        self.shards.iter().map(|shard| shard.images.clone()).collect()
    }

    /// Of the names of the shards, and of the positions, lengths and classes of their images: all in
    /// memory. Not of the folders of the shards.
    fn fingerprint(&self) -> u32 {
        let mut checksum = Checksum::of_classes(self.classes);
        for shard in &self.shards {
            checksum.add(shard.path.file_name().unwrap_or_default().as_encoded_bytes());
            for member in &self.members[shard.images.clone()] {
                let row = [member.block, member.length, member.class].map(u32::to_le_bytes);
                checksum.add(row.as_flattened());
            }
        }
        checksum.finish()
    }

    fn max_pixels(&self) -> usize {
        self.max_pixels
    }

    fn read(&self, index: usize, file: &mut Vec<u8>) -> Result<Option<usize>> {
        let (shard, member) = self.place(index)?;
        check_file_length(u64::from(member.length), self.max_pixels, || self.name(index))?;
        let handle = self.handles.get(self.shard_number(index), || shard.open())?;
        file.clear();
        file.resize(member.length as usize, 0);
        let read = fill_at(&handle, file, member.position());
        let read = read.map_err(|source| Error::io("read", &shard.path, source))?;
        match read == file.len() {
            true => Ok(Some(member.class as usize)),
            false => {
                Err(shard.changed("length", shard.stamp.length, member.position() + read as u64))
            }
        }
    }
}

impl Shard {
    /// Opens the shard, and checks that it is the one that was scanned.
    fn open(&self) -> Result<File> {
        let unreadable = |source| Error::io("read", &self.path, source);
        let file = files::open(&self.path).map_err(unreadable)?;
        let Stamp { length, modified } = Stamp::of(&file).map_err(unreadable)?;
        if length != self.stamp.length {
            return Err(self.changed("length", self.stamp.length, length));
        }
        if modified != self.stamp.modified {
            let what = "time of the last change in nanoseconds since 1970";
            return Err(self.changed(what, self.stamp.modified, modified));
        }
        Ok(file)
    }

    fn changed(&self, what: &'static str, expected: u64, found: u64) -> Error {
        shard_error(&self.path, ShardError::Changed { what, expected, found })
    }
}
