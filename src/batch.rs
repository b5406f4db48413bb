//! What a training step takes: images with their targets, and where they come from.

use crate::Result;
use tch::Tensor;

/// Training targets of a batch.
#[derive(Debug)]
pub enum Targets {
    /// Class indices, `[B]`, i64.
    Classes(Tensor),
    /// Class probabilities, `[B, classes]`, as mixup, cutmix or a teacher give them.
    Probabilities(Tensor),
}

/// Images and their targets.
#[derive(Debug)]
pub struct Batch {
    /// Normalised images, `[B, C, H, W]`, f32, on the device of the network.
    pub images: Tensor,
    /// Targets of the images.
    pub targets: Targets,
}

impl Batch {
    /// A batch with hard targets: `classes` holds one class index an image, `[B]`, i64.
    pub fn classes(images: Tensor, classes: Tensor) -> Self {
        Self { images, targets: Targets::Classes(classes) }
    }
}

/// A source of training batches, as a function of the batch number.
///
/// With gradient accumulation over k batches, optimiser step n takes batches n·k to n·k + k − 1;
/// otherwise batch n. A search that resumes, or rolls back to a checkpoint, asks for earlier
/// numbers again: a source that answers from the number alone makes a resumed run bit-exact.
///
/// Implemented by [`Batches`](crate::batch) of images in memory, by the loader, and by every
/// `FnMut(u64) -> Result<Batch>`.
pub trait BatchSource {
    /// Returns a batch.
    ///
    /// # Errors
    /// Whatever keeps the source from it; training stops with that error.
    fn batch(&mut self, number: u64) -> Result<Batch>;
}

impl<F: FnMut(u64) -> Result<Batch>> BatchSource for F {
    fn batch(&mut self, number: u64) -> Result<Batch> {
        self(number)
    }
}
