//! Random erasing (Zhong et al., 2020) as timm has it, mode "pixel".

use super::crop::Rectangle;
use super::RandomStream;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Attempts at a rectangle that fits before the image is left as it is.
const ATTEMPTS: usize = 10;

/// Replaces a rectangle by noise, after normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandomErasing {
    /// Probability that it takes place.
    pub probability: f64,
    /// Least and greatest share of the image's area.
    pub area: (f64, f64),
    /// Least height / width; the greatest is its inverse. Uniform in its logarithm.
    pub least_aspect: f64,
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { probability: 0.25, area: (0.02, 1.0 / 3.0), least_aspect: 0.3 }
    }
}

/// A rectangle and the noise that replaces it.
#[derive(Debug, Clone, PartialEq)]
pub struct Erased {
    /// What is replaced.
    pub rectangle: Rectangle,
    /// Standard normal numbers, channels × height × width.
    pub noise: Vec<f32>,
}

impl RandomErasing {
    /// What to erase of an image, if anything. The rectangle is smaller than the image on both
    /// sides.
    pub fn draw(
        &self,
        width: usize,
        height: usize,
        channels: usize,
        stream: &mut RandomStream,
    ) -> Option<Erased> {
        if !stream.chance(self.probability) {
            return None;
        }
        let longest = -self.least_aspect.ln();
        for _ in 0..ATTEMPTS {
            let area = (width * height) as f64 * stream.between(self.area.0, self.area.1);
            let aspect = stream.between(-longest, longest).exp();
            let rows = (area * aspect).sqrt().round_ties_even() as usize;
            let columns = (area / aspect).sqrt().round_ties_even() as usize;
            if (1..height).contains(&rows) && (1..width).contains(&columns) {
                let top = stream.up_to(height - rows);
                let left = stream.up_to(width - columns);
                let rectangle = Rectangle { left, top, width: columns, height: rows };
                let noise = stream.standard_normals(channels * rows * columns);
                return Some(Erased { rectangle, noise });
            }
        }
        None
    }

    pub(super) fn validate(&self) -> Result<()> {
        super::expect_probability("probability of erasing", self.probability)?;
        let (least, most) = self.area;
        if !(0.0 < least && least <= most && most <= 1.0) {
            let actual = format!("{least} to {most}");
            return Err(Error::invalid("erased area", "0 < least ≤ most ≤ 1", actual));
        }
        if !(0.0 < self.least_aspect && self.least_aspect <= 1.0) {
            return Err(Error::invalid(
                "erased aspect",
                "more than 0, at most 1",
                self.least_aspect,
            ));
        }
        Ok(())
    }
}
