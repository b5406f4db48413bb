//! Affine maps with bicubic interpolation, as Pillow's `Image.transform`.

use crate::data::Image;

/// Where a pixel of the result is looked up: x' = a·x + b·y + c and y' = d·x + e·y + f, with
/// coordinates at pixel centres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine(pub [f64; 6]);

impl Affine {
    /// About the centre, counter-clockwise.
    pub(super) fn rotation(degrees: f64, width: usize, height: usize) -> Self {
        let (sine, cosine) = (-degrees.to_radians()).sin_cos();
        let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
        Self([cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y])
    }

    /// The mapped image; what comes from outside gets the colour of `fill`.
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

/// The value at a place within the image.
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
    // The conversion cuts off below 0 and above 255, and the fraction. A value that is whole but
    // for rounding must not lose one.
    sums.map(|sum| (sum + 1e-3) as u8)
}

/// The four pixels around a coordinate, held at the edge, and their weights: cubic with a = −1, as
/// Pillow has it here (when resizing, it takes −½).
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
