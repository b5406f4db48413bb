//! Evaluation of features by labelled images: weighted k-nearest neighbours (feature `data`).
//!
//! Networks of features, such as DINOv2, have no classes to predict. They are judged by how well the
//! nearest training images name the class of a test image (Wu et al. 2018; DINO, Caron et al. 2021).

use crate::error::expect_shape;
use crate::range::Range;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

const NEIGHBOURS: Range<i64> = Range::closed(1, 1 << 20);
const TEMPERATURE: Range<f64> = Range::closed(1e-3, 1e3);
/// Most classes, so that the votes of a chunk fit into memory.
const CLASSES: Range<i64> = Range::closed(0, (1 << 20) - 1);
/// Similarities that are computed at once.
const CHUNK: i64 = 1 << 25;

/// Features of images with their classes.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// `[N, C]`, floating point.
    pub features: &'a Tensor,
    /// `[N]`, i64, class indices from 0.
    pub classes: &'a Tensor,
}

/// Share of test images whose class is predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// Share whose class has the most votes.
    pub top1: f64,
    /// Share whose class is among the five with the most votes.
    pub top5: f64,
    /// Test images.
    pub images: i64,
}

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
            let votes = Tensor::f_zeros([own, classes], (Kind::Float, device))?;
            let votes = votes.f_scatter_add(1, &voters, &weights)?;
            let own_votes = votes.f_gather(1, &truth.f_unsqueeze(1)?, false)?;
            // Classes before the true one: more votes, or as many and a lower index.
            let index = Tensor::f_arange(classes, (Kind::Int64, device))?;
            let lower = index.f_unsqueeze(0)?.f_lt_tensor(&truth.f_unsqueeze(1)?)?;
            let equal = votes.f_eq_tensor(&own_votes)?.f_logical_and(&lower)?;
            let before = votes.f_gt_tensor(&own_votes)?.f_logical_or(&equal)?;
            let before = before.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
            // A class without a vote is not predicted.
            let voted = own_votes.f_squeeze_dim(1)?.f_gt(0.0)?;
            for (most, right) in [1, 5].into_iter().zip(&mut right) {
                let hits = before.f_lt(most)?.f_logical_and(&voted)?;
                *right += hits.f_sum(Kind::Int64)?.f_int64_value(&[])?;
            }
        }
        let [top1, top5] = right.map(|right| right as f64 / images as f64);
        Ok(Accuracy { top1, top5, images })
    }
}

impl Labelled<'_> {
    /// Returns the number of images and the width of the features.
    fn check(&self, name: &str, width: Option<i64>) -> Result<[i64; 2]> {
        let shape = self.features.size();
        let expected = "[N, C], with at least one image and one channel";
        let [count, own] = match <[i64; 2]>::try_from(shape.clone()) {
            Ok([count, own]) if count > 0 && own > 0 => [count, own],
            _ => {
                let name = format!("shape of the {name} features");
                return Err(Error::invalid(name, expected, format!("{shape:?}")));
            }
        };
        let of = format!("{name} features");
        if !self.features.is_floating_point() {
            let actual = format!("{:?}", self.features.kind());
            return Err(Error::invalid(format!("kind of the {of}"), "floating point", actual));
        }
        expect_shape("neighbours", &of, self.features, &[count, width.unwrap_or(own)])?;
        if self.classes.kind() != Kind::Int64 {
            let actual = format!("{:?}", self.classes.kind());
            return Err(Error::invalid(format!("kind of the {name} classes"), "Int64", actual));
        }
        expect_shape("neighbours", &format!("{name} classes"), self.classes, &[count])?;
        if self.features.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::NonFinite { name: "a feature".into(), dimension: of });
        }
        Ok([count, own])
    }

    /// Returns the highest class, and refuses classes out of range.
    fn highest(&self, name: &str, range: Range<i64>) -> Result<i64> {
        let own = self.classes.f_to_device(Device::Cpu)?;
        let ends = [own.f_min()?, own.f_max()?].map(|end| end.f_int64_value(&[]));
        let [least, most] = ends;
        let most = most?;
        for end in [least?, most] {
            range.check(format!("class of a {name} image"), end)?;
        }
        Ok(most)
    }
}

/// Returns the features divided by their lengths, f32; features of zeros stay zeros.
fn unit(features: &Tensor) -> Result<Tensor> {
    let features = features.f_to_kind(Kind::Float)?;
    let norms = features.f_norm_scalaropt_dim(2.0, [-1i64].as_slice(), true)?;
    Ok(features.f_div(&norms.f_clamp_min(1e-12)?)?)
}
