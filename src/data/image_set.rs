//! A labelled image set in device memory.

#[cfg(feature = "data")]
use super::idx::IdxImages;
use super::normalisation::{Normalisation, STD};
use crate::range::Range;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

const MEAN: Range<f64> = Range::closed(-1e6, 1e6);

/// Labelled images on a device, stored as bytes and normalised when they are selected.
#[derive(Debug)]
pub struct ImageSet {
    /// `[N, C, H, W]`, u8.
    images: Tensor,
    /// `[N]`, i64.
    labels: Tensor,
    classes: i64,
    mean: f64,
    std: f64,
}

impl ImageSet {
    /// Returns the set of these images, on their device. Values are scaled to [0, 1], until
    /// [`normalised`](Self::normalised) sets mean and standard deviation.
    ///
    /// # Shapes
    /// `images`: `[N, C, H, W]`, u8; `labels`: `[N]`, i64.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape or kind, or a label outside 0..classes.
    pub fn new(images: Tensor, labels: Tensor, classes: i64) -> Result<Self> {
        let (shape, label_shape) = (images.size(), labels.size());
        if shape.len() != 4 || images.f_kind()? != Kind::Uint8 {
            let actual = format!("{shape:?}, {:?}", images.f_kind()?);
            return Err(Error::invalid("images of the set", "[N, C, H, W], Uint8", actual));
        }
        if label_shape != shape[..1] || labels.f_kind()? != Kind::Int64 {
            let actual = format!("{label_shape:?}, {:?}", labels.f_kind()?);
            return Err(Error::invalid(
                "labels of the set",
                format!("[{}], Int64", shape[0]),
                actual,
            ));
        }
        if shape[0] > 0 {
            let min = labels.f_min()?.f_int64_value(&[])?;
            let max = labels.f_max()?.f_int64_value(&[])?;
            if min < 0 || max >= classes {
                let expected = format!("labels within 0..{classes}");
                return Err(Error::invalid(
                    "labels of the set",
                    expected,
                    format!("{min}..={max}"),
                ));
            }
        }
        Ok(Self { images, labels, classes, mean: 0.0, std: 1.0 })
    }

    /// Moves grey images of IDX files to a device. Values are scaled to [0, 1], until
    /// [`normalised`](Self::normalised) sets mean and standard deviation.
    ///
    /// # Errors
    /// [`Error::Idx`] for a label of `classes` or more; [`Error::Torch`] if the device is out of
    /// memory.
    #[cfg(feature = "data")]
    pub fn from_idx(set: IdxImages, classes: usize, device: Device) -> Result<Self> {
        let set = set.with_classes(classes)?;
        let (count, height, width) = (set.count() as i64, set.height() as i64, set.width() as i64);
        let (images, labels) = set.into_parts();
        let images = Tensor::f_from_slice(&images.values)?.f_view([count, 1, height, width])?;
        let labels = Tensor::f_from_slice(&labels)?.f_to_kind(Kind::Int64)?;
        Ok(Self {
            images: images.f_to_device(device)?,
            labels: labels.f_to_device(device)?,
            classes: classes as i64,
            mean: 0.0,
            std: 1.0,
        })
    }

    /// Sets the normalisation (x − mean)/std of values x in [0, 1].
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `mean` is within [−1e6, 1e6] and `std` within [1e-6, 1e6].
    pub fn normalised(mut self, mean: f64, std: f64) -> Result<Self> {
        MEAN.check("mean of the pixels", mean)?;
        STD.check("std of the pixels", std)?;
        (self.mean, self.std) = (mean, std);
        Ok(self)
    }

    /// Returns the normalisation of the images, the same for every channel.
    pub fn normalisation(&self) -> Normalisation {
        let each = |value| vec![value; self.image_shape()[0] as usize];
        Normalisation { mean: each(self.mean), std: each(self.std) }
    }

    /// Mean and standard deviation of all values in [0, 1], over all images and channels.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device is out of memory.
    pub fn pixel_statistics(&self) -> Result<(f64, f64)> {
        let pixels = self.images.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
        let mean = pixels.f_mean(None)?.f_double_value(&[])?;
        let square = pixels.f_square()?.f_mean(None)?.f_double_value(&[])?;
        Ok((mean, (square - mean * mean).max(0.0).sqrt()))
    }

    /// Returns a set of the images at `indices`, with the same normalisation.
    ///
    /// # Shapes
    /// `indices`: `[B]`, i64.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape or kind, and for an index out of range on the CPU;
    /// [`Error::Torch`] for one on another device.
    pub fn subset(&self, indices: &Tensor) -> Result<Self> {
        self.check_indices(indices)?;
        Ok(Self {
            images: self.images.f_index_select(0, indices)?,
            labels: self.labels.f_index_select(0, indices)?,
            ..*self
        })
    }

    /// Number of images.
    pub fn len(&self) -> i64 {
        self.labels.size()[0]
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// Shape of an image: channels, height, width.
    pub fn image_shape(&self) -> [i64; 3] {
        let size = self.images.size();
        [size[1], size[2], size[3]]
    }

    /// Returns the CRC-32 of images and labels.
    #[cfg(feature = "pipeline")]
    pub(crate) fn checksum(&self) -> Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        for tensor in [&self.images, &self.labels] {
            hasher.update(&crate::tensors::to_bytes(tensor)?);
        }
        Ok(hasher.finalize())
    }

    /// Device of the images.
    pub fn device(&self) -> Device {
        self.images.device()
    }

    /// Returns the normalised images at `indices` and their classes.
    ///
    /// # Shapes
    /// `indices`: `[B]`, i64; images: `[B, C, H, W]`, f32; classes: `[B]`, i64.
    ///
    /// # Errors
    /// Those of [`subset`](Self::subset).
    pub fn select(&self, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        self.check_indices(indices)?;
        let pixels = self.images.f_index_select(0, indices)?.f_to_kind(Kind::Float)?;
        let images =
            pixels.f_mul_scalar(1.0 / (255.0 * self.std))?.f_sub_scalar(self.mean / self.std)?;
        Ok((images, self.labels.f_index_select(0, indices)?))
    }

    /// Values are read on the CPU only: elsewhere that would wait for the device.
    fn check_indices(&self, indices: &Tensor) -> Result<()> {
        let (shape, kind) = (indices.size(), indices.f_kind()?);
        if shape.len() != 1 || kind != Kind::Int64 {
            let actual = format!("{shape:?}, {kind:?}");
            return Err(Error::invalid("indices of the set", "[B], Int64", actual));
        }
        if shape[0] == 0 || indices.device() != Device::Cpu {
            return Ok(());
        }
        let min = indices.f_min()?.f_int64_value(&[])?;
        let max = indices.f_max()?.f_int64_value(&[])?;
        if min >= 0 && max < self.len() {
            return Ok(());
        }
        let expected = format!("within 0..{}", self.len());
        Err(Error::invalid("indices of the set", expected, format!("{min}..={max}")))
    }

    /// Top-1 accuracy, in [0, 1], of `predict` over all images, in batches of `batch`.
    ///
    /// # Shapes
    /// `predict`: `[B, C, H, W]` to logits `[B, classes]`.
    ///
    /// # Errors
    /// Those of `predict`; [`Error::Invalid`] for an empty set or a batch size of 0.
    pub fn top1(&self, batch: i64, predict: impl Fn(&Tensor) -> Result<Tensor>) -> Result<f64> {
        if self.is_empty() || batch < 1 {
            return Err(Error::invalid(
                "images and batch size of the evaluation",
                "at least 1 each",
                format!("{} and {batch}", self.len()),
            ));
        }
        let mut right = Tensor::f_zeros([0i64; 0], (Kind::Int64, self.device()))?;
        let mut first = 0;
        while first < self.len() {
            let last = (first + batch).min(self.len());
            let indices = Tensor::f_arange_start(first, last, (Kind::Int64, self.device()))?;
            let (images, labels) = self.select(&indices)?;
            let predicted = predict(&images)?.f_argmax(-1, false)?;
            right = right.f_add(&predicted.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?)?;
            first = last;
        }
        Ok(right.f_int64_value(&[])? as f64 / self.len() as f64)
    }
}
