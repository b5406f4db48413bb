//! Target and loss of masked image modeling (paper section 3.4).

use crate::components::WindowNorm;
use crate::{Error, Result};
use ndarray::{s, Array2, Array4};

/// Returns t = (x − μ)/√(v + 1e-6), with mean μ and unbiased variance v of the in-image pixels in the
/// `window` × `window` around each pixel; v = 0 for a window of one pixel.
///
/// # Errors
/// [`Error::Invalid`] for a window that is even, not positive or above [`WindowNorm::LARGEST`].
pub fn windowed_pixels(images: &Array4<f64>, window: i64) -> Result<Array4<f64>> {
    let half = WindowNorm::new(window)?.window() as usize / 2;
    let (_, _, height, width) = images.dim();
    Ok(Array4::from_shape_fn(images.dim(), |(image, channel, row, column)| {
        let rows = row.saturating_sub(half)..(row + half + 1).min(height);
        let columns = column.saturating_sub(half)..(column + half + 1).min(width);
        let around = images.slice(s![image, channel, rows, columns]);
        let n = around.len() as f64;
        let mean = around.sum() / n;
        let variance = match around.len() {
            1 => 0.0,
            _ => around.mapv(|x| (x - mean).powi(2)).sum() / (n - 1.0),
        };
        (images[(image, channel, row, column)] - mean) / (variance + 1e-6).sqrt()
    }))
}

/// Returns Σ |t − prediction| · M / (Σ M + 1e-5) / C, with M = 1 at pixels of masked patches. Σ M
/// counts a pixel once for all C channels.
///
/// # Shapes
/// `targets`, `prediction`: `[B, C, H, W]`; `token_mask`: `[B, N]`, 1 where masked, over `rows` rows
/// of patches.
///
/// # Errors
/// [`Error::Invalid`] if images and tokens do not match.
pub fn reconstruction_loss(
    targets: &Array4<f64>,
    prediction: &Array4<f64>,
    token_mask: &Array2<f64>,
    rows: usize,
) -> Result<f64> {
    let (batch, channels, height, width) = targets.dim();
    let (masks, tokens) = token_mask.dim();
    let columns = tokens / rows.max(1);
    let even = rows * columns == tokens
        && columns > 0
        && height % rows.max(1) == 0
        && width % columns.max(1) == 0;
    if !even || masks != batch || prediction.dim() != targets.dim() {
        let expected = format!("token mask and prediction of images {:?}", targets.dim());
        let actual = format!("{:?} in {rows} rows, and {:?}", token_mask.dim(), prediction.dim());
        return Err(Error::invalid("shapes of a reconstruction", expected, actual));
    }
    let (mut distance, mut hidden) = (0.0, 0.0);
    for image in 0..batch {
        for row in 0..height {
            for column in 0..width {
                let token = row / (height / rows) * columns + column / (width / columns);
                let masked = token_mask[(image, token)];
                hidden += masked;
                for channel in 0..channels {
                    let at = (image, channel, row, column);
                    distance += masked * (targets[at] - prediction[at]).abs();
                }
            }
        }
    }
    Ok(distance / (hidden + 1e-5) / channels as f64)
}
