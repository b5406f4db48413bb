//! Generated JPEGs of a photograph's size and detail: gradients, coarse and fine noise.

use jpeg_encoder::{ColorType, Encoder};
use std::error::Error;
use std::path::Path;

pub const WIDTH: usize = 500;
pub const HEIGHT: usize = 375;
const CLASSES: usize = 4;

/// Writes `count` images into class folders and returns their total number of bytes.
pub fn generate(folder: &Path, count: usize) -> Result<usize, Box<dyn Error>> {
    let mut total = 0;
    for number in 0..count {
        let class = folder.join(format!("class{}", number % CLASSES));
        std::fs::create_dir_all(&class)?;
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 90);
        encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
        encoder.encode(&pixels(number), WIDTH as u16, HEIGHT as u16, ColorType::Rgb)?;
        std::fs::write(class.join(format!("{number}.jpg")), &bytes)?;
        total += bytes.len();
    }
    Ok(total)
}

fn pixels(number: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT * 3);
    let period = 20.0 + (number % 30) as f64;
    let wave = |x: usize, channel: usize| 63.0 * (x as f64 / period + channel as f64).sin();
    let waves: Vec<[f64; 3]> = (0..WIDTH).map(|x| [0, 1, 2].map(|c| wave(x, c))).collect();
    for y in 0..HEIGHT {
        for (x, wave) in waves.iter().enumerate() {
            let shared = 90.0 + y as f64 / 7.0 + noise(number, x / 4, y / 4) * 60.0;
            for (channel, wave) in wave.iter().enumerate() {
                let fine = noise(number + 7 * channel + 1, x, y) * 24.0;
                pixels.push((shared + wave + fine).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

/// Pseudo-random number in [−½, ½) of a seed and a place.
fn noise(seed: usize, x: usize, y: usize) -> f64 {
    let mut hash = (seed as u64) << 40 ^ (x as u64) << 20 ^ y as u64;
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        hash = (hash ^ hash >> 30).wrapping_mul(factor);
    }
    (hash >> 40) as f64 / (1 << 24) as f64 - 0.5
}
