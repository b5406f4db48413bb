//! Bicubic resizing and horizontal flip.

use super::crop::Rectangle;
use crate::data::Image;
use crate::{Error, Result};
use fast_image_resize::images::{CroppedImage, Image as Pixels, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions};

/// Bicubic kernel with a = −½ and antialiasing, as Pillow's.
const BICUBIC: ResizeAlg = ResizeAlg::Convolution(FilterType::CatmullRom);

/// Resizer that reuses its buffers. Each worker thread has its own.
#[derive(Debug, Default)]
pub struct Resizer(fast_image_resize::Resizer);

impl Resizer {
    /// Returns a rectangle of an image, resized to `width` × `height`. Pixels outside the rectangle
    /// have no influence.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the rectangle is not inside the image, or `width` or `height` is 0.
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

    /// Returns a whole image, resized to `width` × `height`.
    pub(super) fn whole(&mut self, image: &Image, width: usize, height: usize) -> Result<Image> {
        self.resize(&view(image)?, image.channels(), (width, height))
    }

    /// Resizes a whole source. The crop box of fast_image_resize 6.1's own options is not used:
    /// with it, the crate can read beyond the box.
    fn resize(
        &mut self,
        source: &impl IntoImageView,
        channels: usize,
        (width, height): (usize, usize),
    ) -> Result<Image> {
        let side = |length: usize| {
            u32::try_from(length).map_err(|_| Error::invalid("image side", "less than 2³²", length))
        };
        let mut resized = Pixels::new(side(width)?, side(height)?, pixel_type(channels));
        self.0
            .resize(source, &mut resized, &ResizeOptions::new().resize_alg(BICUBIC))
            .map_err(|error| Error::invalid("resized image", "sides of at least 1", error))?;
        Image::new(width, height, channels, resized.into_vec())
    }
}

/// Returns a rectangle of an image. It must lie inside the image.
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
        .map_err(|error| Error::invalid("image size", "width and height less than 2³²", error))
}

fn pixel_type(channels: usize) -> PixelType {
    if channels == 1 {
        PixelType::U8
    } else {
        PixelType::U8x3
    }
}

/// Flips an image horizontally, in place.
pub fn flip_horizontal(image: &mut Image) {
    let (width, channels) = (image.width(), image.channels());
    for row in image.pixels_mut().chunks_exact_mut(width * channels) {
        match channels {
            1 => row.reverse(),
            _ => row.as_chunks_mut::<3>().0.reverse(),
        }
    }
}
