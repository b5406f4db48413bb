//! What masked image modeling paints, as pictures.

use super::html::{escape, section};
use crate::components::Reconstruction;
use crate::data::{Image, Normalisation};
use crate::error::expect_shape;
use crate::tensors::to_host;
use crate::{Error, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use tch::Tensor;

/// An image, what was hidden of it, and what was painted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What it shows, and when it was painted.
    pub label: String,
    /// The image.
    pub original: Image,
    /// The image with its hidden patches grey.
    pub hidden: Image,
    /// The image with its hidden patches painted.
    pub painted: Image,
}

/// Shown in place of a hidden patch.
const GREY: f64 = 128.0;

impl Sample {
    /// Pictures of all images of a reconstruction; `pixels` is how the network's images were
    /// normalised, `label` says what the image with a number is called.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the images have 1 or 3 channels, as many as `pixels`;
    /// [`Error::Shape`] if the three parts of the reconstruction differ in shape.
    pub fn of(
        reconstruction: &Reconstruction,
        pixels: &Normalisation,
        label: impl Fn(usize) -> String,
    ) -> Result<Vec<Self>> {
        let Reconstruction { images, hidden, painted } = reconstruction;
        let (batch, channels, height, width) = images.size4()?;
        pixels.validate(channels as usize)?;
        for (name, tensor) in [("hidden", hidden), ("painted", painted)] {
            expect_shape("pictures of a reconstruction", name, tensor, &images.size())?;
        }
        let shape = [channels as usize, height as usize, width as usize];
        let one = |number: i64| -> Result<Self> {
            let of = |tensor: &Tensor| to_host(&tensor.f_get(number)?);
            let (original, mask) = (bytes(&of(images)?, shape, pixels), of(hidden)?);
            let cover = |(value, mask): (&f64, &f64)| if *mask > 0.5 { GREY } else { *value };
            let covered: Vec<f64> = original.iter().zip(&mask).map(cover).collect();
            Ok(Self {
                label: label(number as usize),
                original: picture(&original, shape)?,
                hidden: picture(&covered, shape)?,
                painted: picture(&bytes(&of(painted)?, shape, pixels), shape)?,
            })
        };
        (0..batch).map(one).collect()
    }
}

/// Normalised numbers as those of bytes, channels first.
fn bytes(values: &[f64], [_, height, width]: [usize; 3], pixels: &Normalisation) -> Vec<f64> {
    let colours = pixels.mean.iter().zip(&pixels.std);
    let planes = values.chunks(height * width).zip(colours);
    let plane = |(plane, (mean, std)): (&[f64], (&f64, &f64))| -> Vec<f64> {
        plane.iter().map(|value| 255.0 * (value * std + mean)).collect()
    };
    planes.flat_map(plane).collect()
}

/// Channels first to channels last; what is not a number becomes black.
fn picture(values: &[f64], [channels, height, width]: [usize; 3]) -> Result<Image> {
    let area = height * width;
    let byte = |at: usize| values[at % channels * area + at / channels].round() as u8;
    Image::new(width, height, channels, (0..area * channels).map(byte).collect())
}

/// The section of the page; nothing if there are no samples.
pub(super) fn paintings(samples: &[Sample]) -> Result<String> {
    if samples.is_empty() {
        return Ok(String::new());
    }
    let mut body = String::from("<div class=\"samples\">");
    for sample in samples {
        let label = escape(&sample.label);
        body += "<figure class=\"sample\"><div>";
        let pictures = [&sample.original, &sample.hidden, &sample.painted];
        for (image, what) in pictures.into_iter().zip(["original", "hidden", "painted"]) {
            body += &tag(image, &format!("{what}: {label}"))?;
        }
        body += &format!("</div><figcaption>{label}</figcaption></figure>");
    }
    let how = "Masked image modeling: the image, what the network saw of it, and what it painted into the \
               hidden patches. Brightness and contrast are the image's own.";
    Ok(section("Painting", how, &(body + "</div>")))
}

/// An image that is in the page itself. `words` is escaped already.
fn tag(image: &Image, words: &str) -> Result<String> {
    let data = BASE64_STANDARD.encode(png(image).map_err(|reason| {
        Error::invalid("picture for the report", "one that PNG can hold", reason)
    })?);
    let (width, height) = (image.width(), image.height());
    let class = if width < 64 { " class=\"pixels\"" } else { "" };
    Ok(format!(
        "<img{class} width=\"{width}\" height=\"{height}\" alt=\"{words}\" src=\"data:image/png;base64,{data}\">"
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
