//! Bicubic resizing and mirroring.

use super::crop::Rectangle;
use crate::data::Image;
use crate::{Error, Result};
use fast_image_resize::images::{CroppedImage, Image as Pixels, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions};

/// Bicubic with a = −½ whose support grows as the image shrinks, like that of Pillow.
const BICUBIC: ResizeAlg = ResizeAlg::Convolution(FilterType::CatmullRom);

/// Resizes images, and keeps its memory for the next one. Every worker has its own.
#[derive(Debug, Default)]
pub struct Resizer(fast_image_resize::Resizer);

impl Resizer {
    /// A rectangle of an image at `width` × `height`. Pixels beside the rectangle have no influence:
    /// first cut, then resized.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the rectangle reaches beyond the image, or a side is zero.
    pub fn crop(
        &mut self,
        image: &Image,
        crop: Rectangle,
        width: usize,
        height: usize,
    ) -> Result<Image> {
        let refused = |error: String| {
            let (width, height) = (image.width(), image.height());
            Error::invalid(
                "crop",
                format!("within {width} × {height} ({error})"),
                format!("{crop:?}"),
            )
        };
        let side =
            |length: usize| u32::try_from(length).map_err(|error| refused(error.to_string()));
        let source = view(image)?;
        let (left, top) = (side(crop.left)?, side(crop.top)?);
        let (columns, rows) = (side(crop.width)?, side(crop.height)?);
        let source = CroppedImage::new(&source, left, top, columns, rows)
            .map_err(|error| refused(error.to_string()))?;
        self.resize(&source, image.channels(), (width, height))
    }

    /// A whole image at `width` × `height`.
    pub(super) fn whole(&mut self, image: &Image, width: usize, height: usize) -> Result<Image> {
        self.resize(&view(image)?, image.channels(), (width, height))
    }

    /// Whole sources only: with the crop box of its own options, fast_image_resize 6.1 can read
    /// beyond its rows.
    fn resize(
        &mut self,
        source: &impl IntoImageView,
        channels: usize,
        (width, height): (usize, usize),
    ) -> Result<Image> {
        let side = |length: usize| {
            u32::try_from(length).map_err(|_| Error::invalid("side", "a 32-bit number", length))
        };
        let mut resized = Pixels::new(side(width)?, side(height)?, pixel_type(channels));
        self.0
            .resize(source, &mut resized, &ResizeOptions::new().resize_alg(BICUBIC))
            .map_err(|error| Error::invalid("resizing", "within the image", error))?;
        Image::new(width, height, channels, resized.into_vec())
    }
}

/// A rectangle of an image that reaches to neither side beyond it.
pub(super) fn cut(image: &Image, rectangle: Rectangle) -> Result<Image> {
    let Rectangle { left, top, width, height } = rectangle;
    let (channels, stride) = (image.channels(), image.width() * image.channels());
    let rows = image.pixels().chunks_exact(stride).skip(top).take(height);
    let pixels = rows.flat_map(|row| &row[left * channels..][..width * channels]).copied();
    Image::new(width, height, channels, pixels.collect())
}

fn view(image: &Image) -> Result<ImageRef<'_>> {
    let (width, height) = (image.width() as u32, image.height() as u32);
    ImageRef::new(width, height, image.pixels(), pixel_type(image.channels()))
        .map_err(|error| Error::invalid("image", "of less than 2³² columns and rows", error))
}

fn pixel_type(channels: usize) -> PixelType {
    if channels == 1 {
        PixelType::U8
    } else {
        PixelType::U8x3
    }
}

/// Mirrors an image: left becomes right.
pub fn flip_horizontal(image: &mut Image) {
    let (width, channels) = (image.width(), image.channels());
    for row in image.pixels_mut().chunks_exact_mut(width * channels) {
        match channels {
            1 => row.reverse(),
            _ => row.as_chunks_mut::<3>().0.reverse(),
        }
    }
}
