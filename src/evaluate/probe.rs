//! Linear probe: ridge regression of the classes on standardised features.

use super::{hits, Accuracy, Labelled, CHUNK, CLASSES};
use crate::range::Range;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

const PENALTY: Range<f64> = Range::closed(1e-9, 1e9);
/// Most channels: the matrix of their products has to fit into memory.
const WIDTH: Range<i64> = Range::closed(1, 1 << 14);
/// Penalties that are tried, the strongest first.
const TRIED: [f64; 9] = [100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// Every so many images of a class are held out to choose the penalty.
const HELD_OUT: i64 = 5;
/// Standard deviation, as a share of the mean, below which a feature is constant.
const CONSTANT: f64 = 1e-9;

/// Linear probe: ridge regression of one-hot classes on standardised features, in closed form in f64. The
/// class of the largest output is predicted.
///
/// Of N training images with features x̂, standardised by their mean and standard deviation, and one-hot
/// classes y of mean ȳ, the output for x̂ is ȳ + Wᵀx̂ with W = (X̂ᵀX̂/N + penalty·I)⁻¹·X̂ᵀY/N. With a
/// penalty, the result does not depend on the order of the images but for rounding; without one, that order says
/// which images are held out. No random numbers are drawn.
///
/// ```
/// use once_for_both::evaluate::{Labelled, LinearProbe};
/// use tch::Tensor;
///
/// let train = Tensor::from_slice(&[1f32, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.8]).view([4, 2]);
/// let test = Tensor::from_slice(&[1f32, 0.2, 0.1, 1.0]).view([2, 2]);
/// let [classes, truth] = [Tensor::from_slice(&[0i64, 0, 1, 1]), Tensor::from_slice(&[0i64, 1])];
/// let train = Labelled { features: &train, classes: &classes };
/// let test = Labelled { features: &test, classes: &truth };
/// let probe = LinearProbe { penalty: Some(0.01) };
/// assert_eq!(probe.accuracy(train, test)?.top1, 1.0);
/// # Ok::<(), once_for_both::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LinearProbe {
    /// Penalty of the squared weights, in [1e-9, 1e9]. `None`, the default: the one of 1e-6, 1e-5, …, 100 that
    /// predicts the most held-out training images, the largest of several; every fifth image of each class is held
    /// out, and the probe is fitted to all with it.
    pub penalty: Option<f64>,
}

impl LinearProbe {
    /// Returns the accuracy on test images. Products are summed in chunks on the device of the training
    /// features, and the equations solved on the CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no images, a class that is negative or that no training image can have, a
    /// penalty or a width out of range, or, without a penalty, fewer than five images of every class;
    /// [`Error::Shape`] for features of another width, or another number of classes than images;
    /// [`Error::NonFinite`] for a feature that is not finite, or too large for sums of squares in f64.
    pub fn accuracy(&self, train: Labelled, test: Labelled) -> Result<Accuracy> {
        crate::autograd::no_grad(|| self.predicted(train, test))
    }

    fn predicted(&self, train: Labelled, test: Labelled) -> Result<Accuracy> {
        if let Some(penalty) = self.penalty {
            PENALTY.check("penalty", penalty)?;
        }
        let [_, width] = train.check("training", None)?;
        WIDTH.check("channels of the training features", width)?;
        let [images, _] = test.check("test", Some(width))?;
        let classes = 1 + train.highest("training", CLASSES)?;
        test.highest("test", Range::closed(0, classes - 1))?;
        let penalty = self.penalty.map_or_else(|| chosen(train, classes), Ok)?;
        let right = Fit::of(train, classes)?.right(test, penalty)?;
        Ok(Accuracy::of(right, images))
    }
}

/// Returns the penalty that predicts the most held-out training images.
fn chosen(train: Labelled, classes: i64) -> Result<f64> {
    let own = Vec::<i64>::try_from(train.classes.f_to_device(Device::Cpu)?)?;
    let mut seen = std::collections::HashMap::<i64, i64>::new();
    let (mut fitted, mut held_out) = (Vec::new(), Vec::new());
    for (at, class) in own.into_iter().enumerate() {
        let count = seen.entry(class).or_default();
        *count += 1;
        let part = if *count % HELD_OUT == 0 { &mut held_out } else { &mut fitted };
        part.push(at as i64);
    }
    if held_out.is_empty() {
        let most = seen.into_values().max().unwrap_or(0);
        let expected = format!("at least {HELD_OUT}, to choose the penalty; or set penalty");
        return Err(Error::invalid("most training images of a class", expected, most));
    }
    let part = |places: &[i64]| -> Result<[Tensor; 2]> {
        let places = Tensor::f_from_slice(places)?;
        let select = |own: &Tensor| own.f_index_select(0, &places.f_to_device(own.device())?);
        Ok([select(train.features)?, select(train.classes)?])
    };
    let ([features, own], [others, truth]) = (part(&fitted)?, part(&held_out)?);
    let fit = Fit::of(Labelled { features: &features, classes: &own }, classes)?;
    let others = Labelled { features: &others, classes: &truth };
    let mut best = (-1, TRIED[0]);
    for penalty in TRIED {
        let [right, _] = fit.right(others, penalty)?;
        if right > best.0 {
            best = (right, penalty);
        }
    }
    Ok(best.1)
}

/// Products of training features and classes, from which the weights of every penalty follow.
struct Fit {
    /// Mean of every feature, `[1, C]`, and 1/standard deviation, 0 for a constant one; on the device.
    mean: Tensor,
    scale: Tensor,
    /// Eigenvalues `[C]` and eigenvectors `[C, C]` of X̂ᵀX̂/N, and Vᵀ·X̂ᵀY/N, `[C, classes]`; on the CPU.
    values: Tensor,
    vectors: Tensor,
    products: Tensor,
    /// Shares of the classes, `[1, classes]`; −∞ for a class without an image, which is not predicted.
    shares: Tensor,
}

impl Fit {
    fn of(train: Labelled, classes: i64) -> Result<Self> {
        let (features, device) = (train.features, train.features.device());
        let [count, width] = <[i64; 2]>::try_from(features.size()).unwrap_or([0, 0]);
        let zeros = |shape: [i64; 2]| Tensor::f_zeros(shape, (Kind::Double, device));
        let [mean, scale] = standardisation(features, classes)?;
        let (mut gram, mut products) = (zeros([width, width])?, zeros([width, classes])?);
        let mut shares = zeros([1, classes])?;
        for chunk in chunks(features, classes) {
            let (first, own) = chunk?;
            let own = own.f_sub(&mean)?.f_mul(&scale)?;
            let truth = train.classes.f_narrow(0, first, own.size()[0])?.f_to_device(device)?;
            let truth = truth.f_one_hot(classes)?.f_to_kind(Kind::Double)?;
            gram = gram.f_add(&own.f_tr()?.f_matmul(&own)?)?;
            products = products.f_add(&own.f_tr()?.f_matmul(&truth)?)?;
            shares = shares.f_add(&column_sums(&truth)?)?;
        }
        let shares = shares.f_div_scalar(count as f64)?;
        let shares = shares.f_masked_fill(&shares.f_eq(0.0)?, f64::NEG_INFINITY)?;
        let own = |own: Tensor| own.f_div_scalar(count as f64)?.f_to_device(Device::Cpu);
        let (values, vectors) = own(gram)?.f_linalg_eigh("L")?;
        let products = vectors.f_tr()?.f_matmul(&own(products)?)?;
        Ok(Self { mean, scale, values, vectors, products, shares })
    }

    /// Returns the numbers of images whose class is first, and among the first five.
    fn right(&self, test: Labelled, penalty: f64) -> Result<[i64; 2]> {
        let device = self.mean.device();
        let values = self.values.f_clamp_min(0.0)?.f_add_scalar(penalty)?.f_unsqueeze(1)?;
        let weights = self.vectors.f_matmul(&self.products.f_div(&values)?)?;
        let weights = weights.f_to_device(device)?;
        let mut right = [0; 2];
        for chunk in chunks(test.features, self.shares.size()[1]) {
            let (first, own) = chunk?;
            let own = own.f_to_device(device)?.f_sub(&self.mean)?.f_mul(&self.scale)?;
            let truth = test.classes.f_narrow(0, first, own.size()[0])?.f_to_device(device)?;
            let scores = own.f_matmul(&weights)?.f_add(&self.shares)?;
            let own = hits(&scores, &truth, f64::NEG_INFINITY)?;
            own.into_iter().zip(&mut right).for_each(|(own, all)| *all += own);
        }
        Ok(right)
    }
}

/// Returns mean and 1/standard deviation of every feature, `[1, C]`; 0 for a constant feature.
fn standardisation(features: &Tensor, classes: i64) -> Result<[Tensor; 2]> {
    let count = features.size()[0] as f64;
    let zeros = Tensor::f_zeros([1, features.size()[1]], (Kind::Double, features.device()))?;
    let (mut mean, mut square) = (zeros.shallow_clone(), zeros.shallow_clone());
    for chunk in chunks(features, classes) {
        mean = mean.f_add(&column_sums(&chunk?.1)?.f_div_scalar(count)?)?;
    }
    for chunk in chunks(features, classes) {
        let own = column_sums(&chunk?.1.f_sub(&mean)?.f_square()?)?;
        square = square.f_add(&own.f_div_scalar(count)?)?;
    }
    let deviation = square.f_sqrt()?;
    if deviation.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        let dimension = "training features".into();
        return Err(Error::NonFinite { name: "a standard deviation".into(), dimension });
    }
    let varies = deviation.f_gt_tensor(&mean.f_abs()?.f_mul_scalar(CONSTANT)?)?;
    let scale = deviation.f_reciprocal()?.f_where_self(&varies, &zeros)?;
    Ok([mean, scale])
}

fn column_sums(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_sum_dim_intlist([0i64].as_slice(), true, None)?)
}

/// Returns the features in f64, so many rows at once, each with the number of its first row.
fn chunks(features: &Tensor, classes: i64) -> impl Iterator<Item = Result<(i64, Tensor)>> + '_ {
    let [count, width] = <[i64; 2]>::try_from(features.size()).unwrap_or([0, 0]);
    let rows = (CHUNK / width.max(classes).max(1)).max(1);
    (0..count).step_by(rows as usize).map(move |first| {
        let own = features.f_narrow(0, first, rows.min(count - first))?;
        Ok((first, own.f_to_kind(Kind::Double)?))
    })
}
