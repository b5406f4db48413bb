//! Pictures of masked image modeling.

use super::html::{self, escape};
use crate::components::Reconstruction;
use crate::data::{Image, Normalisation};
use crate::error::expect_shape;
use crate::tensors::to_host;
use crate::{Error, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use tch::Tensor;

/// Three pictures of one image: the original, masked, and reconstructed by the PMIM decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Caption, such as "test image 3, step 400".
    pub label: String,
    /// The image.
    pub original: Image,
    /// The image with its masked patches grey.
    pub masked: Image,
    /// The image with predicted pixels in its masked patches.
    pub reconstructed: Image,
}

/// Pixel value of a masked patch.
const GREY: f64 = 128.0;

impl Sample {
    /// Returns one sample for each image of `reconstruction`. `pixels` is the normalisation of the
    /// network's images, which is undone; `label` returns the caption of the image with an index.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the images have pixels, and 1 or 3 channels, as many as `pixels`;
    /// [`Error::Shape`] if the three parts of the reconstruction differ in shape.
    pub fn of(
        reconstruction: &Reconstruction,
        pixels: &Normalisation,
        label: impl Fn(usize) -> String,
    ) -> Result<Vec<Self>> {
        let Reconstruction { images, masked, reconstructed } = reconstruction;
        let (batch, channels, height, width) = images.size4()?;
        pixels.validate(channels as usize)?;
        if height == 0 || width == 0 {
            let actual = format!("{height} x {width}");
            return Err(Error::invalid("size of the images", "at least 1 x 1 pixels", actual));
        }
        for (name, tensor) in [("masked", masked), ("reconstructed", reconstructed)] {
            expect_shape("pictures of a reconstruction", name, tensor, &images.size())?;
        }
        let shape = [channels as usize, height as usize, width as usize];
        let one = |number: i64| -> Result<Self> {
            let of = |tensor: &Tensor| to_host(&tensor.f_get(number)?);
            let (original, mask) = (pixel_values(&of(images)?, shape, pixels), of(masked)?);
            let cover = |(value, mask): (&f64, &f64)| if *mask > 0.5 { GREY } else { *value };
            let covered: Vec<f64> = original.iter().zip(&mask).map(cover).collect();
            Ok(Self {
                label: label(number as usize),
                original: picture(&original, shape)?,
                masked: picture(&covered, shape)?,
                reconstructed: picture(&pixel_values(&of(reconstructed)?, shape, pixels), shape)?,
            })
        };
        (0..batch).map(one).collect()
    }
}

/// Undoes the normalisation: values from 0 to 255, channels first.
fn pixel_values(
    values: &[f64],
    [_, height, width]: [usize; 3],
    pixels: &Normalisation,
) -> Vec<f64> {
    let colours = pixels.mean.iter().zip(&pixels.std);
    let planes = values.chunks(height * width).zip(colours);
    let plane = |(plane, (mean, std)): (&[f64], (&f64, &f64))| -> Vec<f64> {
        plane.iter().map(|value| 255.0 * (value * std + mean)).collect()
    };
    planes.flat_map(plane).collect()
}

/// Rounds pixel values, channels first, to an image, channels last; NaN becomes black.
fn picture(values: &[f64], [channels, height, width]: [usize; 3]) -> Result<Image> {
    let area = height * width;
    let byte = |at: usize| values[at % channels * area + at / channels].round() as u8;
    Image::new(width, height, channels, (0..area * channels).map(byte).collect())
}

/// Section "Masked image modeling" of the page; empty without samples.
pub(super) fn section(samples: &[Sample]) -> Result<String> {
    if samples.is_empty() {
        return Ok(String::new());
    }
    let mut body = String::from("<div class=\"samples\">");
    for sample in samples {
        let label = escape(&sample.label);
        body += "<figure class=\"sample\"><div>";
        let pictures = [&sample.original, &sample.masked, &sample.reconstructed];
        let names = ["original", "masked", "reconstructed"];
        for (image, name) in pictures.into_iter().zip(names) {
            let tag = tag(image, &format!("{name}: {label}"))?;
            body += &format!("<div class=\"picture\">{tag}<span>{name}</span></div>");
        }
        body += &format!("</div><figcaption>{label}</figcaption></figure>");
    }
    let how = "An image, the patches masked in the network's input (grey), and the decoder's \
               prediction of their pixels. The decoder predicts normalised pixels; mean and \
               standard deviation are the original's: judge structure, not brightness.";
    Ok(html::section("Masked image modeling", how, &(body + "</div>")))
}

/// An `img` element with the image as a data URL. `alt` must be escaped.
fn tag(image: &Image, alt: &str) -> Result<String> {
    let data = BASE64_STANDARD.encode(png(image).map_err(|reason| {
        Error::invalid("picture of the report", "an image that PNG can encode", reason)
    })?);
    let (width, height) = (image.width(), image.height());
    let class = if width < 64 { " class=\"pixels\"" } else { "" };
    Ok(format!(
        "<img{class} width=\"{width}\" height=\"{height}\" alt=\"{alt}\" \
         src=\"data:image/png;base64,{data}\">"
    ))
}

fn png(image: &Image) -> std::result::Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width() as u32, image.height() as u32);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match image.channels() {
        1 => png::ColorType::Grayscale,
        _ => png::ColorType::Rgb,
    });
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.pixels())?;
    writer.finish()?;
    Ok(bytes)
}
