//! Affine maps with bicubic interpolation, as Pillow's `Image.transform` has them.

use crate::data::Image;

/// Affine map `[a, b, c, d, e, f]` from result to source coordinates: x' = a·x + b·y + c and
/// y' = d·x + e·y + f, at pixel centres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine(pub [f64; 6]);

impl Affine {
    /// Returns the counter-clockwise rotation about the image centre.
    pub(super) fn rotation(degrees: f64, width: usize, height: usize) -> Self {
        let (sine, cosine) = (-degrees.to_radians()).sin_cos();
        let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
        Self([cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y])
    }

    /// Maps an image in place. Pixels from outside the image get the colour `fill`.
    pub(super) fn apply(self, image: &mut Image, fill: &[u8]) {
        match image.channels() {
            1 => self.apply_to::<1>(image, fill),
            _ => self.apply_to::<3>(image, fill),
        }
    }

    fn apply_to<const CHANNELS: usize>(self, image: &mut Image, fill: &[u8]) {
        let (width, height) = (image.width(), image.height());
        let original = image.clone();
        let (original, _) = original.pixels().as_chunks::<CHANNELS>();
        let (pixels, _) = image.pixels_mut().as_chunks_mut::<CHANNELS>();
        let Self([a, b, c, d, e, f]) = self;
        for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
                let (x, y) = (a * x + b * y + c, d * x + e * y + f);
                let inside = (0.0..width as f64).contains(&x) && (0.0..height as f64).contains(&y);
                if inside {
                    *pixel = interpolate(original, (width, height), (x, y));
                } else {
                    pixel.copy_from_slice(fill);
                }
            }
        }
    }
}

/// Interpolates the image at a place inside it.
#[inline]
fn interpolate<const CHANNELS: usize>(
    pixels: &[[u8; CHANNELS]],
    (width, height): (usize, usize),
    (x, y): (f64, f64),
) -> [u8; CHANNELS] {
    let (columns, across) = taps(x, width);
    let (rows, down) = taps(y, height);
    let mut sums = [0.0_f32; CHANNELS];
    for (row, vertical) in rows.into_iter().zip(down) {
        let row = &pixels[row * width..][..width];
        for (column, horizontal) in columns.into_iter().zip(across) {
            let weight = vertical * horizontal;
            for (sum, value) in sums.iter_mut().zip(row[column]) {
                *sum += weight * f32::from(value);
            }
        }
    }
    // The conversion clamps to 0..=255 and truncates. 1e-3 keeps a whole value that float rounding
    // has moved just below itself.
    sums.map(|sum| (sum + 1e-3) as u8)
}

/// Returns the four pixels around a coordinate, clamped to the image, and their weights: the cubic
/// kernel with a = −1, as in Pillow's `transform` (Pillow's `resize` has a = −½).
#[inline]
fn taps(coordinate: f64, length: usize) -> ([usize; 4], [f32; 4]) {
    let centred = coordinate - 0.5;
    let first = centred.floor();
    let t = (centred - first) as f32;
    let first = first as isize;
    let places = [-1, 0, 1, 2].map(|step| (first + step).clamp(0, length as isize - 1) as usize);
    let (t2, t3) = (t * t, t * t * t);
    let weights = [-t + 2.0 * t2 - t3, 1.0 - 2.0 * t2 + t3, t + t2 - t3, t3 - t2];
    (places, weights)
}
