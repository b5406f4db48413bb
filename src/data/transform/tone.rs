//! Point operations: each value is looked up in a table of 256 entries. Arithmetic and rounding are
//! Pillow's.

use crate::data::Image;

/// Applies one table to all channels.
fn map(image: &mut Image, value: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|at| value(at as u8));
    image.pixels_mut().iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// Applies to each channel a table computed from its histogram.
fn map_by_histogram(image: &mut Image, table: impl Fn(&[u32; 256]) -> [u8; 256]) {
    let channels = image.channels();
    for channel in 0..channels {
        let mut histogram = [0; 256];
        let values = image.pixels().iter().skip(channel).step_by(channels);
        values.for_each(|&byte| histogram[usize::from(byte)] += 1);
        let table = table(&histogram);
        let values = image.pixels_mut().iter_mut().skip(channel).step_by(channels);
        values.for_each(|byte| *byte = table[usize::from(*byte)]);
    }
}

/// 255 − value.
pub(super) fn invert(image: &mut Image) {
    map(image, |value| 255 - value);
}

/// Inverts values of at least `threshold`.
pub(super) fn solarize(image: &mut Image, threshold: u16) {
    map(image, |value| if u16::from(value) < threshold { value } else { 255 - value });
}

/// Adds `add` to values below 128, saturating at 255.
pub(super) fn solarize_add(image: &mut Image, add: u8) {
    map(image, |value| if value < 128 { value.saturating_add(add) } else { value });
}

/// Keeps the upper `bits` of 8 bits; 0 gives a black image.
pub(super) fn posterize(image: &mut Image, bits: u32) {
    let mask = !(0xff_u16 >> bits.min(8)) as u8;
    map(image, |value| value & mask);
}

/// Stretches the values of each channel to 0..=255.
pub(super) fn auto_contrast(image: &mut Image) {
    map_by_histogram(image, |histogram| {
        let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let high = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
        let scale = 255.0 / high.saturating_sub(low) as f64;
        std::array::from_fn(|value| {
            if high <= low {
                return value as u8;
            }
            (value as f64 * scale - low as f64 * scale) as u8
        })
    });
}

/// Equalizes the histogram of each channel.
pub(super) fn equalize(image: &mut Image) {
    map_by_histogram(image, |histogram| {
        let total: u32 = histogram.iter().sum();
        let last = histogram.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (total - last) / 255;
        let mut below = step / 2;
        std::array::from_fn(|value| {
            if step == 0 {
                return value as u8;
            }
            let mapped = (below / step).min(255) as u8;
            below += histogram[value];
            mapped
        })
    });
}
