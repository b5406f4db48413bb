//! Weighted k-nearest neighbours.

use super::{hits, Accuracy, Labelled, CHUNK, CLASSES};
use crate::range::Range;
use crate::{Error, Result};
use tch::{Kind, Tensor};

const NEIGHBOURS: Range<i64> = Range::closed(1, 1 << 20);
const TEMPERATURE: Range<f64> = Range::closed(1e-3, 1e3);

/// Weighted k-nearest neighbours: the k training images with the largest cosine s to a test image vote
/// for their classes with weights exp(s/T).
///
/// ```
/// use once_for_both::evaluate::{Knn, Labelled};
/// use tch::Tensor;
///
/// let train = Tensor::from_slice(&[1f32, 0.0, 0.9, 0.1, 0.0, 1.0]).view([3, 2]);
/// let test = Tensor::from_slice(&[1f32, 0.2, 0.1, 1.0]).view([2, 2]);
/// let [classes, truth] = [Tensor::from_slice(&[0i64, 0, 1]), Tensor::from_slice(&[0i64, 1])];
/// let train = Labelled { features: &train, classes: &classes };
/// let test = Labelled { features: &test, classes: &truth };
/// assert_eq!(Knn { neighbours: 2, ..Knn::default() }.accuracy(train, test)?.top1, 1.0);
/// # Ok::<(), once_for_both::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knn {
    /// Number of neighbours k.
    pub neighbours: i64,
    /// Temperature T of the votes.
    pub temperature: f64,
}

impl Default for Knn {
    /// DINO's setting: 20 neighbours, temperature 0.07.
    fn default() -> Self {
        Self { neighbours: 20, temperature: 0.07 }
    }
}

impl Knn {
    /// Returns the accuracy on test images. Similarities are computed in chunks on the device of the
    /// features, and do not depend on the chunk.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more neighbours than training images, no images, a class that is negative or
    /// that no training image can have, or an option out of range; [`Error::Shape`] for features of another
    /// width, or another number of classes than images; [`Error::NonFinite`] for a feature that is not finite.
    pub fn accuracy(&self, train: Labelled, test: Labelled) -> Result<Accuracy> {
        crate::autograd::no_grad(|| self.voted(train, test))
    }

    fn voted(&self, train: Labelled, test: Labelled) -> Result<Accuracy> {
        NEIGHBOURS.check("neighbours", self.neighbours)?;
        TEMPERATURE.check("temperature", self.temperature)?;
        let [count, width] = train.check("training", None)?;
        let [images, _] = test.check("test", Some(width))?;
        if self.neighbours > count {
            let expected = format!("at most {count}, the training images");
            return Err(Error::invalid("neighbours", expected, self.neighbours));
        }
        let classes = 1 + train.highest("training", CLASSES)?;
        test.highest("test", Range::closed(0, classes - 1))?;
        let (train_features, device) = (unit(train.features)?, train.features.device());
        let train_classes = train.classes.f_to_device(device)?;
        let rows = (CHUNK / count.max(classes)).max(1);
        let mut right = [0; 2];
        for first in (0..images).step_by(rows as usize) {
            let own = rows.min(images - first);
            let features = test.features.f_narrow(0, first, own)?.f_to_device(device)?;
            let truth = test.classes.f_narrow(0, first, own)?.f_to_device(device)?;
            let cosines = unit(&features)?.f_matmul(&train_features.f_tr()?)?;
            let (nearest, at) = cosines.f_topk(self.neighbours, 1, true, true)?;
            // Relative to the nearest, so that no weight overflows.
            let nearest = nearest.f_sub(&nearest.f_narrow(1, 0, 1)?)?;
            let weights = nearest.f_div_scalar(self.temperature)?.f_exp()?;
            let voters = train_classes.f_index_select(0, &at.f_flatten(0, -1)?)?.f_view_as(&at)?;
            let mut votes = Tensor::f_zeros([own, classes], (Kind::Float, device))?;
            // One neighbour after the other, so that the votes of a class are added in this order. All at once, their
            // order on CUDA would be another in every run.
            for neighbour in 0..self.neighbours {
                let part = |own: &Tensor| own.f_narrow(1, neighbour, 1);
                let _ = votes.f_scatter_add_(1, &part(&voters)?, &part(&weights)?)?;
            }
            // A class without a vote is not predicted.
            hits(&votes, &truth, 0.0)?
                .into_iter()
                .zip(&mut right)
                .for_each(|(own, all)| *all += own);
        }
        Ok(Accuracy::of(right, images))
    }
}

/// Returns the features divided by their lengths, f32; features of zeros stay zeros.
fn unit(features: &Tensor) -> Result<Tensor> {
    let features = match features.kind() {
        Kind::Double => features.shallow_clone(),
        _ => features.f_to_kind(Kind::Float)?,
    };
    // Divided by the largest of a row first: squares neither overflow nor vanish, whatever the scale.
    let largest = features.f_abs()?.f_amax([-1i64].as_slice(), true)?;
    let largest = largest.f_masked_fill(&largest.f_eq(0.0)?, 1.0)?;
    let features = features.f_div(&largest)?.f_to_kind(Kind::Float)?;
    let norms = features.f_norm_scalaropt_dim(2.0, [-1i64].as_slice(), true)?;
    Ok(features.f_div(&norms.f_clamp_min(1e-12)?)?)
}
