//! Random erasing (Zhong et al., 2020), as timm's `RandomErasing` in mode `pixel`.

use super::crop::{expect_interval, Rectangle};
use super::RandomStream;
use crate::range::{Range, POSITIVE_SHARE, SHARE};
use crate::Result;
use serde::{Deserialize, Serialize};

/// Attempts at a rectangle before the image is left unchanged.
const ATTEMPTS: usize = 10;

/// Options of random erasing: a rectangle of the normalised image is replaced by normal noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandomErasing {
    /// Probability of erasing.
    pub probability: f64,
    /// Smallest and largest share of the image's area; uniform.
    pub area: (f64, f64),
    /// Smallest aspect ratio, height / width; the largest is its inverse. Uniform in its logarithm.
    pub min_aspect: f64,
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { probability: 0.25, area: (0.02, 1.0 / 3.0), min_aspect: 0.3 }
    }
}

/// Erased rectangle and its noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Erased {
    /// Erased rectangle.
    pub rectangle: Rectangle,
    /// Standard normal noise, channels × height × width.
    pub noise: Vec<f32>,
}

impl RandomErasing {
    /// Draws rectangle and noise for an image of this size; `None` for no erasing. The rectangle is
    /// smaller than the image in width and height.
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
        let max_log_aspect = -self.min_aspect.ln();
        for _ in 0..ATTEMPTS {
            let area = (width * height) as f64 * stream.between(self.area.0, self.area.1);
            let aspect = stream.between(-max_log_aspect, max_log_aspect).exp();
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
        SHARE.check("transform.erasing.probability", self.probability)?;
        expect_interval("transform.erasing.area", self.area, POSITIVE_SHARE)?;
        Range::closed(1e-3, 1.0).check("transform.erasing.min_aspect", self.min_aspect)
    }
}
