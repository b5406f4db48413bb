//! Shuffled batches of an [`ImageSet`].

use super::ImageSet;
use crate::batch::{Batch, BatchSource, Targets};
use crate::distributed::Share;
use crate::randomness::{seed_torch, Purpose};
use crate::range::Range;
use crate::transfer::{pinned, to_device, upload};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Pixels of padding.
const PAD: Range<i64> = Range::closed(0, 256);

/// Random crop and flip of training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Augmentation {
    /// Padding in pixels on each side, by the edge pixels; the padded image is then cropped to its
    /// former size at a random place.
    pub pad: i64,
    /// Flips each image horizontally with probability ½.
    pub flip: bool,
}

/// Shuffled batches of an [`ImageSet`], in a new order each epoch.
///
/// The batch of step n depends only on the image set, the seed and n, so a resumed run gets the
/// same batches as one without interruption.
#[derive(Debug)]
pub struct ShuffledBatches<'a> {
    set: &'a ImageSet,
    size: i64,
    seed: u64,
    augmentation: Augmentation,
    share: Share,
    /// The latest epoch and its permutation of the image indices.
    order: Option<(u64, Tensor)>,
}

impl<'a> ShuffledBatches<'a> {
    /// Returns the batches of `size` images that `seed` determines.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `size` is 0 or larger than the image set, or padding outside [0, 256].
    pub fn new(
        set: &'a ImageSet,
        size: i64,
        seed: u64,
        augmentation: Augmentation,
    ) -> Result<Self> {
        if set.is_empty() {
            return Err(Error::invalid("images of the set", "at least one", 0));
        }
        Range::closed(1, set.len()).check("batch", size)?;
        PAD.check("augmentation.pad", augmentation.pad)?;
        Ok(Self { set, size, seed, augmentation, share: Share::WHOLE, order: None })
    }

    /// Sets the images of every batch that this process gets: its share of the `size` images of all
    /// processes.
    ///
    /// # Errors
    /// [`DistributedError::Share`](crate::error::DistributedError::Share) unless the number of
    /// processes divides `size`.
    pub fn share(self, share: Share) -> Result<Self> {
        share.places(self.size as usize)?;
        Ok(Self { share, ..self })
    }

    /// Number of batches in an epoch. The last, incomplete batch is dropped.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.set.len() / self.size) as u64
    }

    /// Device of the images.
    pub fn device(&self) -> Device {
        self.set.device()
    }

    /// Returns the batch of a step, counted from 0 over all epochs.
    ///
    /// # Shapes
    /// Images `[B, C, H, W]`, f32, normalised; classes `[B]`, i64.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device is out of memory.
    pub fn at(&mut self, step: u64) -> Result<Batch> {
        let epoch = step / self.steps_per_epoch();
        let first = (step % self.steps_per_epoch()) as i64 * self.size;
        let (size, places) = (self.size, self.places()?);
        let indices = own(&places, self.order_of(epoch)?.f_narrow(0, first, size)?, 0)?;
        let (images, labels) = self.set.select(&indices)?;
        seed_torch(self.seed, step, Purpose::Batch);
        let images = self.augment(images, &places)?;
        Ok(Batch { images, targets: Targets::Classes(labels) })
    }

    fn order_of(&mut self, epoch: u64) -> Result<&Tensor> {
        if self.order.as_ref().is_none_or(|(known, _)| *known != epoch) {
            seed_torch(self.seed, epoch, Purpose::Order);
            let order = Tensor::f_randperm(self.set.len(), (Kind::Int64, Device::Cpu))?;
            let device = self.set.device();
            self.order = Some((epoch, to_device(&pinned(order, device)?, device)?));
        }
        match &self.order {
            Some((_, order)) => Ok(order),
            None => Err(Error::invalid("order of the epoch", "a permutation", "none")),
        }
    }

    /// Places of this process's images in a batch; `None` where it has all of them.
    fn places(&self) -> Result<Option<Tensor>> {
        if self.share.is_whole() {
            return Ok(None);
        }
        let places: Vec<i64> =
            self.share.places(self.size as usize)?.into_iter().map(|place| place as i64).collect();
        upload(&places, self.set.device()).map(Some)
    }

    /// Random numbers are drawn for all images of the batch, so that they do not depend on the number
    /// of processes.
    fn augment(&self, images: Tensor, places: &Option<Tensor>) -> Result<Tensor> {
        let (batch, channels, height, width) = images.size4()?;
        let mut images = images;
        if self.augmentation.flip {
            let coin = Tensor::f_rand([self.size, 1, 1, 1], (Kind::Float, images.device()))?;
            let coin = own(places, coin.f_lt(0.5)?, 0)?;
            images = images.f_flip([3])?.f_where_self(&coin, &images)?;
        }
        let pad = self.augmentation.pad;
        if pad == 0 {
            return Ok(images);
        }
        let padded = images.f_replication_pad2d([pad, pad, pad, pad])?;
        let offsets =
            Tensor::f_randint(2 * pad + 1, [2, self.size, 1], (Kind::Int64, images.device()))?;
        let offsets = own(places, offsets, 1)?;
        let range = |length| Tensor::f_arange(length, (Kind::Int64, images.device()));
        let rows = offsets.f_select(0, 0)?.f_add(&range(height)?)?;
        let columns = offsets.f_select(0, 1)?.f_add(&range(width)?)?;
        let rows = rows
            .f_view([batch, 1, height, 1])?
            .f_expand([-1, channels, -1, width + 2 * pad], false)?;
        let columns =
            columns.f_view([batch, 1, 1, width])?.f_expand([-1, channels, height, -1], false)?;
        Ok(padded.f_gather(2, &rows, false)?.f_gather(3, &columns, false)?)
    }
}

/// Returns the entries of this process's images along an axis.
fn own(places: &Option<Tensor>, all: Tensor, axis: i64) -> Result<Tensor> {
    match places {
        None => Ok(all),
        Some(places) => Ok(all.f_index_select(axis, places)?),
    }
}

impl BatchSource for ShuffledBatches<'_> {
    fn batch(&mut self, number: u64) -> Result<Batch> {
        self.at(number)
    }
}
