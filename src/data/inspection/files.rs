//! Decoding of all images of a class folder or of tar shards.

use super::{ClassCount, ImageFault, InspectedSet, SizeCount};
use crate::data::image_folder::{read_image_file, ImageFolder};
use crate::data::shards::{compression, pattern_text};
use crate::data::{Dataset, EncodedImage, LabelledImage, TarShards};
use crate::error::in_words;
use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Read;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lists the classes and images of a folder and decodes all of them.
pub(super) fn inspect_classes(root: &Path, max_pixels: usize) -> Result<InspectedSet> {
    let mut faults = Vec::new();
    let listed = ImageFolder::list(root, &mut |error| {
        faults.push(fault(root, &error));
        Ok(())
    });
    let folder = listed?.with_max_pixels(max_pixels)?;
    let counts = folder.class_names().zip(folder.images_by_class());
    let classes = counts.map(|(name, images)| ClassCount { name, images }).collect();
    Ok(inspect_set(&folder, classes, faults))
}

/// Scans the shards of a pattern and decodes all images.
pub(super) fn inspect_shards(pattern: &Path, max_pixels: usize) -> Result<InspectedSet> {
    let mut faults = Vec::new();
    let listed = TarShards::list(pattern_text(pattern)?, &mut |error| {
        faults.push(fault(pattern, &error));
        Ok(())
    });
    let shards = listed?.with_max_pixels(max_pixels)?;
    let counts = shards.images_by_class().into_iter().enumerate();
    let counts = counts.map(|(class, images)| ClassCount { name: class.to_string(), images });
    Ok(inspect_set(&shards, counts.collect(), faults))
}

/// Decodes all images of a set with known classes and the faults that were found before.
fn inspect_set(
    images: &dyn Dataset,
    classes: Vec<ClassCount>,
    mut faults: Vec<ImageFault>,
) -> InspectedSet {
    let Decoded { sizes, faults: mut found } = decode_all(images);
    let size = |((width, height), images)| SizeCount { width, height, images };
    let mut sizes: Vec<_> = sizes.into_iter().map(size).collect();
    sizes.sort_by_key(|size| Reverse(size.images));
    found.sort_by_key(|(index, _)| *index);
    faults.extend(found.into_iter().map(|(_, fault)| fault));
    let name = String::new();
    InspectedSet { name, images: images.len(), channels: images.channels(), classes, sizes, faults }
}

/// Sizes with their number of images, and faults by index.
#[derive(Default)]
struct Decoded {
    sizes: BTreeMap<(usize, usize), usize>,
    faults: Vec<(usize, ImageFault)>,
}

/// Decodes all images of a set on all cores.
fn decode_all(images: &dyn Dataset) -> Decoded {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut decoded = Decoded::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= images.len() {
                return decoded;
            }
            match images.load(index) {
                Ok(LabelledImage { image, .. }) => {
                    *decoded.sizes.entry((image.width(), image.height())).or_insert(0) += 1;
                }
                Err(error) => {
                    decoded.faults.push((index, fault(images.name(index).as_ref(), &error)));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().fold(Decoded::default(), |mut all, worker| {
            let part = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
            for (size, images) in part.sizes {
                *all.sizes.entry(size).or_insert(0) += images;
            }
            all.faults.extend(part.faults);
            all
        })
    })
}

/// Decodes an image file and returns its width and height.
pub(super) fn size_of(path: &Path, max_pixels: usize) -> Result<(usize, usize)> {
    let mut file = Vec::new();
    read_image_file(path, max_pixels, &mut file)?;
    let image = EncodedImage::open_within(&file, max_pixels).and_then(EncodedImage::decode);
    match image {
        Ok(image) => Ok((image.width(), image.height())),
        Err(source) => Err(Error::Image { name: path.display().to_string(), source }),
    }
}

/// Extensions of compressed tar archives, beside those that begin with `.tar`, such as `.tar.zst`.
const PACKED: [&str; 5] = ["tgz", "tbz", "tbz2", "txz", "tzst"];

/// Returns the format of a compressed tar archive: a compressed file with the name of one, or one of gzip whose
/// first header has the mark of tar. `None` for another file, or one that cannot be read.
pub(crate) fn packed_shard(path: &Path) -> Option<&'static str> {
    let mut start = Vec::new();
    let file = crate::files::open(path).ok()?;
    (&file).take(6).read_to_end(&mut start).ok()?;
    let format = compression(&start)?;
    let is_packed = has_packed_name(path) || (format == "gzip" && has_tar_mark(start.chain(file)));
    is_packed.then_some(format)
}

fn has_packed_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    stem.ends_with(".tar") || PACKED.contains(&extension)
}

/// Whether the first header of an archive in gzip has the mark of tar, which those of old formats have not.
fn has_tar_mark(file: impl Read) -> bool {
    let mut header = [0; 262];
    let unpacked = MultiGzDecoder::new(file).read_exact(&mut header);
    unpacked.is_ok() && header.ends_with(b"ustar")
}

/// Fault of the file, folder or shard that the error names, else of `path`.
pub(super) fn fault(path: &Path, error: &Error) -> ImageFault {
    let named = match error {
        Error::Io { path, .. } | Error::EmptyFolder { path, .. } | Error::Shard { path, .. } => {
            path
        }
        _ => path,
    };
    ImageFault { path: named.display().to_string(), reason: in_words(error) }
}
