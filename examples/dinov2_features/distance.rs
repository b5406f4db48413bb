//! How far features are from those of the dense network.

use once_for_both::Result;
use serde::Serialize;
use tch::{Kind, Tensor};

/// Mean distances of class tokens and of patch tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distance {
    /// 1 − cosine of the class token.
    pub class_cosine: f64,
    /// ‖s − t‖/‖t‖ of the class token.
    pub class_error: f64,
    /// 1 − cosine of a patch token.
    pub patch_cosine: f64,
    /// ‖s − t‖/‖t‖ of a patch token.
    pub patch_error: f64,
    /// Standard error of `class_cosine` over images.
    pub class_cosine_se: f64,
    /// Standard error of `patch_cosine` over images.
    pub patch_cosine_se: f64,
}

/// Distances of single images.
#[derive(Debug, Default)]
pub struct Distances {
    /// Class token's 1 − cosine and error, patch tokens' 1 − cosine and error.
    images: Vec<[f64; 4]>,
}

/// 1 − cosine of single images, by which two networks are compared in pairs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Images {
    pub class_cosines: Vec<f64>,
    pub patch_cosines: Vec<f64>,
}

impl Distances {
    /// Adds the features `[B, tokens, C]` of the images of a batch, and those of the dense network.
    pub fn add(&mut self, features: &Tensor, dense: &Tensor) -> Result<()> {
        let norm = |x: &Tensor| x.f_norm_scalaropt_dim(2, [-1i64].as_slice(), false);
        let cosine = Tensor::f_cosine_similarity(features, dense, -1, 1e-8)?;
        let error = norm(&features.f_sub(dense)?)?.f_div(&norm(dense)?)?;
        let tokens = cosine.size()[1];
        let of = |values: &Tensor| -> Result<[Vec<f64>; 2]> {
            let patches = values.f_narrow(1, 1, tokens - 1)?;
            let patches = patches.f_mean_dim([1i64].as_slice(), false, Kind::Double)?;
            Ok([
                Vec::try_from(values.f_select(1, 0)?.f_to_kind(Kind::Double)?)?,
                Vec::try_from(patches)?,
            ])
        };
        let ([class, patch], [class_error, patch_error]) = (of(&cosine)?, of(&error)?);
        for at in 0..class.len() {
            self.images.push([1.0 - class[at], class_error[at], 1.0 - patch[at], patch_error[at]]);
        }
        Ok(())
    }

    /// Returns those of single images, to five decimal places.
    pub fn images(&self) -> Images {
        let all = |at: usize| self.images.iter().map(|own| (own[at] * 1e5).round() / 1e5).collect();
        Images { class_cosines: all(0), patch_cosines: all(2) }
    }

    /// Returns the means over all images.
    pub fn mean(&self) -> Distance {
        let count = self.images.len().max(1) as f64;
        let mean = |at: usize| self.images.iter().map(|image| image[at]).sum::<f64>() / count;
        let standard_error = |at: usize| {
            let squares = self.images.iter().map(|image| (image[at] - mean(at)).powi(2));
            (squares.sum::<f64>() / (count - 1.0).max(1.0) / count).sqrt()
        };
        Distance {
            class_cosine: mean(0),
            class_error: mean(1),
            patch_cosine: mean(2),
            patch_error: mean(3),
            class_cosine_se: standard_error(0),
            patch_cosine_se: standard_error(2),
        }
    }
}
