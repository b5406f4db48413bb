//! Evaluation of features by labelled images: weighted k-nearest neighbours and a linear probe (feature
//! `data`).
//!
//! Networks of features, such as DINOv2, have no classes to predict. They are judged by how well the
//! nearest training images name the class of a test image ([`Knn`]; Wu et al. 2018; DINO, Caron et al.
//! 2021), and by how well a linear function of the features does ([`LinearProbe`]).

mod knn;
mod probe;

pub use knn::Knn;
pub use probe::LinearProbe;

use crate::error::expect_shape;
use crate::range::Range;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Most classes, so that the scores of a chunk fit into memory.
const CLASSES: Range<i64> = Range::closed(0, (1 << 20) - 1);
/// Numbers of a chunk that is computed at once.
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
    /// Share whose class has the highest score: the most votes of neighbours, or the largest output of the probe.
    pub top1: f64,
    /// Share whose class is among the five with the highest scores.
    pub top5: f64,
    /// Test images.
    pub images: i64,
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
        expect_shape("evaluation of features", &of, self.features, &[count, width.unwrap_or(own)])?;
        if self.classes.kind() != Kind::Int64 {
            let actual = format!("{:?}", self.classes.kind());
            return Err(Error::invalid(format!("kind of the {name} classes"), "Int64", actual));
        }
        expect_shape("evaluation of features", &format!("{name} classes"), self.classes, &[count])?;
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

impl Accuracy {
    fn of(right: [i64; 2], images: i64) -> Self {
        let [top1, top5] = right.map(|right| right as f64 / images as f64);
        Self { top1, top5, images }
    }
}

/// Returns the number of images whose class is first, and among the first five. Of classes with equal scores, the
/// one of the lower index is first; classes with a score of at most `least` are not predicted.
///
/// # Shapes
/// `scores`: `[B, classes]`; `truth`: `[B]`, i64, of its device.
fn hits(scores: &Tensor, truth: &Tensor, least: f64) -> Result<[i64; 2]> {
    let truth = truth.f_unsqueeze(1)?;
    let own = scores.f_gather(1, &truth, false)?;
    let index = Tensor::f_arange(scores.size()[1], (Kind::Int64, scores.device()))?;
    let lower = index.f_unsqueeze(0)?.f_lt_tensor(&truth)?;
    let equal = scores.f_eq_tensor(&own)?.f_logical_and(&lower)?;
    let before = scores.f_gt_tensor(&own)?.f_logical_or(&equal)?;
    let before = before.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
    let predicted = own.f_squeeze_dim(1)?.f_gt(least)?;
    let count = |most: i64| -> Result<i64> {
        let right = before.f_lt(most)?.f_logical_and(&predicted)?;
        Ok(right.f_sum(Kind::Int64)?.f_int64_value(&[])?)
    };
    Ok([count(1)?, count(5)?])
}
