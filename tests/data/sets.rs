//! Images and data sets for the tests.

use crate::support::TestResult;
use once_for_both::data::{decode, Dataset, Image, LabelledImage};
use once_for_both::{Error, Result};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

/// Bytes of a file in tests/data/images.
pub fn file(name: &str) -> TestResult<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name);
    Ok(std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Decoded image of a file in tests/data/images.
pub fn picture(name: &str) -> TestResult<Image> {
    Ok(decode(&file(name)?).map_err(|error| format!("{name}: {error}"))?)
}

/// Image of pseudo-random values.
pub fn noise(width: usize, height: usize, channels: usize, seed: usize) -> Image {
    let byte = |at: usize| (((at + 1) * (seed * 2 + 7919) * 2_654_435_761) >> 13) as u8;
    let pixels = (0..width * height * channels).map(byte).collect();
    Image::new(width, height, channels, pixels).expect("sides and bytes agree")
}

/// Largest and mean absolute difference of two images of equal size.
pub fn difference(actual: &Image, expected: &Image) -> TestResult<(u8, f64)> {
    let shape = |image: &Image| [image.width(), image.height(), image.channels()];
    if shape(actual) != shape(expected) {
        return Err(format!(
            "image shape: got {:?}, expected {:?}",
            shape(actual),
            shape(expected)
        )
        .into());
    }
    let pairs = actual.pixels().iter().zip(expected.pixels());
    let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = differences.iter().copied().map(f64::from).sum();
    Ok((differences.iter().copied().max().unwrap_or(0), sum / differences.len() as f64))
}

/// Data set of generated images. Loading fails for those in `corrupt` and `unreadable`, and panics
/// for `panics`.
#[derive(Debug, Clone, Default)]
pub struct Generated {
    pub images: usize,
    pub corrupt: BTreeSet<usize>,
    pub panics: Option<usize>,
    pub unreadable: Option<usize>,
    /// Shards other than one of all images.
    pub shards: Option<Vec<Range<usize>>>,
}

impl Generated {
    pub fn of(images: usize) -> Self {
        Self { images, ..Self::default() }
    }
}

pub const CLASSES: usize = 4;

impl Dataset for Generated {
    fn len(&self) -> usize {
        self.images
    }

    fn classes(&self) -> usize {
        CLASSES
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        format!("picture {index}")
    }

    fn shards(&self) -> Vec<Range<usize>> {
        self.shards.clone().unwrap_or_else(|| std::iter::once(0..self.images).collect())
    }

    fn load(&self, index: usize) -> Result<LabelledImage> {
        assert_ne!(self.panics, Some(index), "picture {index} panics");
        if self.unreadable == Some(index) {
            let source = std::io::ErrorKind::PermissionDenied.into();
            return Err(Error::Io { action: "read", path: self.name(index).into(), source });
        }
        if self.corrupt.contains(&index) {
            let source = decode(b"no image").expect_err("not an image");
            return Err(Error::Image { name: self.name(index), source });
        }
        // Sizes vary.
        let image = noise(20 + index % 7, 18 + index % 5, 3, index);
        Ok(LabelledImage { image, class: index % CLASSES })
    }
}
