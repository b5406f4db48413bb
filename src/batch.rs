//! Training batches and their sources.

use crate::{device, Error, Result};
use tch::{Device, Kind, Tensor};

/// Training targets of a batch.
#[derive(Debug)]
pub enum Targets {
    /// Class indices, `[B]`, i64.
    Classes(Tensor),
    /// Class probabilities, `[B, classes]`, f32, as mixup and cutmix make them.
    Probabilities(Tensor),
    /// Anything else that a task of one's own takes ([`FunctionTask`](crate::components::FunctionTask)):
    /// `[B, …]`, of any kind.
    Values(Tensor),
    /// None: the images are learned from by distillation of weight 1, or by a task without targets
    /// ([`FeatureMatching`](crate::components::FeatureMatching)).
    Unlabelled,
}

/// Images and their targets, the input of one forward and backward pass.
#[derive(Debug)]
pub struct Batch {
    /// Normalised images, `[B, C, H, W]`, f32, on the device of the network.
    pub images: Tensor,
    /// Targets of the images.
    pub targets: Targets,
}

/// Number of images of all batches.
pub(crate) fn images_of(batches: &[Batch]) -> i64 {
    batches.iter().map(Batch::count).sum()
}

impl Batch {
    /// Returns a batch with hard targets.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`, f32; `classes`: `[B]`, i64, one class index an image.
    pub fn classes(images: Tensor, classes: Tensor) -> Self {
        Self { images, targets: Targets::Classes(classes) }
    }

    /// Returns a batch without labels: for a task without targets
    /// ([`FeatureMatching`](crate::components::FeatureMatching)), or for distillation whose weight is 1 and
    /// stays so ([`Distillation::final_weight`](crate::components::Distillation::final_weight)).
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`, f32.
    pub fn unlabelled(images: Tensor) -> Self {
        Self { images, targets: Targets::Unlabelled }
    }

    /// Number of images; 0 for images without axes, which no step takes.
    pub(crate) fn count(&self) -> i64 {
        self.images.size().first().copied().unwrap_or(0)
    }

    /// Returns some of the images with their targets, without a copy.
    pub(crate) fn narrow(&self, first: i64, count: i64) -> Result<Self> {
        let part = |tensor: &Tensor| tensor.f_narrow(0, first, count);
        let targets = match &self.targets {
            Targets::Classes(classes) => Targets::Classes(part(classes)?),
            Targets::Probabilities(all) => Targets::Probabilities(part(all)?),
            Targets::Values(values) => Targets::Values(part(values)?),
            Targets::Unlabelled => Targets::Unlabelled,
        };
        Ok(Self { images: part(&self.images)?, targets })
    }

    /// Refuses images that are not floating point, images or targets on another device than the
    /// network, and targets of another kind or number. Reads nothing from the device.
    pub(crate) fn check(&self, device: Device) -> Result<()> {
        check_images(&self.images, device)?;
        if let Targets::Classes(own) | Targets::Probabilities(own) | Targets::Values(own) =
            &self.targets
        {
            expect_device("targets", own, device)?;
        }
        let (targets, axes) = match &self.targets {
            Targets::Classes(classes) if classes.kind() != Kind::Int64 => {
                let actual = format!("{:?}", classes.kind());
                return Err(Error::invalid("kind of the class indices", "Int64", actual));
            }
            Targets::Classes(classes) => (classes.size(), 1),
            Targets::Probabilities(probabilities) => (probabilities.size(), 2),
            Targets::Values(values) => (values.size(), values.dim().max(1)),
            Targets::Unlabelled => return Ok(()),
        };
        let images = self.count();
        if targets.len() == axes && targets.first() == Some(&images) {
            return Ok(());
        }
        let expected = match axes {
            _ if matches!(self.targets, Targets::Values(_)) => format!("[{images}, …]"),
            1 => format!("[{images}], one class index an image"),
            _ => format!("[{images}, classes]"),
        };
        Err(Error::invalid("shape of the targets", expected, format!("{targets:?}")))
    }
}

/// Refuses images that are not floating point, or on another device than the network.
pub(crate) fn check_images(images: &Tensor, device: Device) -> Result<()> {
    expect_device("images", images, device)?;
    if images.is_floating_point() {
        return Ok(());
    }
    let (expected, actual) = ("floating point, normalised", images.kind());
    Err(Error::invalid("kind of the images", expected, format!("{actual:?}")))
}

fn expect_device(name: &str, tensor: &Tensor, device: Device) -> Result<()> {
    if tensor.device() == device {
        return Ok(());
    }
    let (name, expected) = (format!("device of the {name}"), device::name(device));
    let expected = format!("{expected}, that of the network");
    Err(Error::invalid(name, expected, device::name(tensor.device())))
}

/// A source of training batches, as a function of the batch number.
///
/// With gradient accumulation over k batches, optimiser step n takes batches n·k to n·k + k − 1;
/// otherwise batch n. A search that resumes, or rolls back to a checkpoint, requests earlier
/// numbers again. A source whose batch depends on the number alone makes a resumed run bit-exact.
///
/// Implemented by `data::Loader`, by `data::ShuffledBatches` (images in memory), and by every
/// `FnMut(u64) -> Result<Batch>`.
pub trait BatchSource {
    /// Returns the batch with this number, counted from 0.
    ///
    /// # Errors
    /// Any error of the source; training stops with it.
    fn batch(&mut self, number: u64) -> Result<Batch>;
}

impl<F: FnMut(u64) -> Result<Batch>> BatchSource for F {
    fn batch(&mut self, number: u64) -> Result<Batch> {
        self(number)
    }
}
