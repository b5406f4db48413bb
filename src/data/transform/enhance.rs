//! Brightness, contrast, saturation and sharpness, as in Pillow's `ImageEnhance`.
//!
//! Each is degenerate + factor·(image − degenerate) with a degenerate image: factor 0 gives the
//! degenerate image, 1 the image itself. Arithmetic and rounding are Pillow's.

use crate::data::Image;

/// degenerate + factor·(value − degenerate), clamped to 0..=255 and truncated.
fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    (f32::from(degenerate) + factor * (f32::from(value) - f32::from(degenerate))) as u8
}

/// Luminance of a pixel (ITU-R 601).
fn grey(pixel: &[u8]) -> u8 {
    match *pixel {
        [red, green, blue] => {
            let weighted =
                u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
            ((weighted + 0x8000) >> 16) as u8
        }
        _ => pixel[0],
    }
}

/// Brightness. Degenerate image: black.
pub(super) fn brightness(image: &mut Image, factor: f64) {
    let table: [u8; 256] = std::array::from_fn(|value| blend(0, value as u8, factor as f32));
    image.pixels_mut().iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// Contrast. Degenerate image: the mean luminance.
pub(super) fn contrast(image: &mut Image, factor: f64) {
    let channels = image.channels();
    let pixels = image.pixels().chunks_exact(channels);
    let count = pixels.len() as f64;
    let sum: u64 = pixels.map(|pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / count + 0.5) as u8;
    let table: [u8; 256] = std::array::from_fn(|value| blend(mean, value as u8, factor as f32));
    image.pixels_mut().iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// Saturation. Degenerate image: the luminance of each pixel. Grey images do not change.
pub(super) fn colour(image: &mut Image, factor: f64) {
    let channels = image.channels();
    for pixel in image.pixels_mut().chunks_exact_mut(channels) {
        let grey = grey(pixel);
        pixel.iter_mut().for_each(|byte| *byte = blend(grey, *byte, factor as f32));
    }
}

/// Sharpness. Degenerate image: smoothed by the 3 × 3 kernel with weight 5 at its centre and 1
/// elsewhere, divided by 13. Border pixels do not change.
pub(super) fn sharpness(image: &mut Image, factor: f64) {
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    if width < 3 || height < 3 {
        return;
    }
    let original = image.pixels().to_vec();
    let stride = width * channels;
    for y in 1..height - 1 {
        let rows = [y - 1, y, y + 1].map(|row| &original[row * stride..][..stride]);
        let row = &mut image.pixels_mut()[y * stride..][..stride];
        for at in channels..stride - channels {
            let centre = rows[1][at];
            let sum: u32 = rows
                .iter()
                .flat_map(|row| [row[at - channels], row[at], row[at + channels]])
                .map(u32::from)
                .sum();
            // sum/13 rounded to nearest; there are no ties.
            let smooth = (2 * (sum + 4 * u32::from(centre)) + 13) / 26;
            row[at] = blend(smooth as u8, centre, factor as f32);
        }
    }
}
