//! Decoding of all files of a class folder.

use super::{ClassCount, ImageFault, InspectedSet, SizeCount};
use crate::data::image_folder::{read_image_file, ImageFolder};
use crate::data::{Dataset, EncodedImage};
use crate::error::in_words;
use crate::{Error, Result};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lists the classes and images of a folder and decodes all of them.
pub(super) fn inspect_classes(root: &Path, max_pixels: usize) -> InspectedSet {
    let mut set = InspectedSet { channels: 3, ..InspectedSet::default() };
    let listed = ImageFolder::list(root, &mut |error| {
        set.faults.push(fault(root, &error));
        Ok(())
    });
    let folder = match listed {
        Ok(folder) => folder,
        Err(error) => {
            set.faults.push(fault(root, &error));
            return set;
        }
    };
    set.images = folder.len();
    let counts = folder.class_names().zip(folder.images_by_class());
    set.classes = counts.map(|(name, images)| ClassCount { name, images }).collect();
    let Decoded { sizes, mut faults } = decode_all(&folder, max_pixels);
    let counts = sizes.into_iter();
    set.sizes =
        counts.map(|((width, height), images)| SizeCount { width, height, images }).collect();
    set.sizes.sort_by_key(|size| Reverse(size.images));
    faults.sort_by_key(|(index, _)| *index);
    set.faults.extend(faults.into_iter().map(|(_, fault)| fault));
    set
}

/// Sizes with their number of images, and faults by index.
#[derive(Default)]
struct Decoded {
    sizes: BTreeMap<(usize, usize), usize>,
    faults: Vec<(usize, ImageFault)>,
}

/// Decodes all images of a folder on all cores.
fn decode_all(folder: &ImageFolder, max_pixels: usize) -> Decoded {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut decoded, mut file) = (Decoded::default(), Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Ok(path) = folder.path(index) else { return decoded };
            match size_of(&path, max_pixels, &mut file) {
                Ok(size) => *decoded.sizes.entry(size).or_insert(0) += 1,
                Err(error) => decoded.faults.push((index, fault(&path, &error))),
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
pub(super) fn size_of(
    path: &Path,
    max_pixels: usize,
    file: &mut Vec<u8>,
) -> Result<(usize, usize)> {
    read_image_file(path, max_pixels, file)?;
    let image = EncodedImage::open_within(file, max_pixels).and_then(EncodedImage::decode);
    match image {
        Ok(image) => Ok((image.width(), image.height())),
        Err(source) => Err(Error::Image { name: path.display().to_string(), source }),
    }
}

/// Fault of the file or folder that the error names, else of `path`.
pub(super) fn fault(path: &Path, error: &Error) -> ImageFault {
    let named = match error {
        Error::Io { path, .. } | Error::EmptyFolder { path, .. } => path,
        _ => path,
    };
    ImageFault { path: named.display().to_string(), reason: in_words(error) }
}
