//! What the processes of a search do together: losses, gradients and flags of all ranks, and the proof
//! that all hold the same parameters.

use super::flat_gradients::FlatGradients;
use super::options::{PmimReach, SearchOptions};
use super::step::Search;
use crate::autograd::no_grad;
use crate::batch::{images_of, Batch, Targets};
use crate::distributed::{Collective, Share};
use crate::error::DistributedError;
use crate::models::Architecture;
use crate::precision::Precision;
use crate::randomness::Placement;
use crate::tensors::{bit_sum, to_bytes};
use crate::transfer::upload;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Some images of a batch: how many of all ranks' images this rank has, and where they are among them.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// Images of this rank.
    pub(super) own: i64,
    /// Images of all ranks.
    pub(super) all: i64,
    /// Places of this rank's images among all; `None` where it has all of them.
    places: Option<Vec<i64>>,
}

impl Placed {
    /// Returns the images of a batch with `own` images on this rank in two parts: all but the last `last`
    /// of all ranks' images, and these.
    ///
    /// # Errors
    /// [`DistributedError::Share`] if a part has images, but none on some rank.
    pub(super) fn split(share: Share, own: i64, last: i64) -> Result<[Self; 2]> {
        let all = own * share.world_size() as i64;
        if share.is_whole() {
            let part = |images| Self { own: images, all: images, places: None };
            return Ok([part(all - last), part(last)]);
        }
        let border = all - last;
        let places = share.places(all as usize)?.into_iter().map(|place| place as i64);
        let (first, rest): (Vec<i64>, Vec<i64>) = places.partition(|place| *place < border);
        let rest = rest.into_iter().map(|place| place - border).collect();
        let part = |all: i64, places: Vec<i64>| Self {
            own: places.len() as i64,
            all,
            places: Some(places),
        };
        let parts = [part(border, first), part(last, rest)];
        // Every rank finds the same: the numbers of all ranks' images decide.
        let ranks = share.world_size() as i64;
        if parts.iter().any(|part| part.all > 0 && part.all < ranks) {
            let expected =
                "images with and without masked tokens on every rank; take a larger batch or \
                            fewer ranks";
            let (expected, batch, world_size) = (expected.into(), all as usize, share.world_size());
            return Err(DistributedError::Share { batch, world_size, expected }.into());
        }
        Ok(parts)
    }

    /// Returns the places for [`for_images`](crate::randomness::for_images).
    pub(super) fn placement(&self, device: tch::Device) -> Result<Option<Placement>> {
        let places = self.places.as_ref().map(|places| upload(places, device)).transpose()?;
        Ok(places.map(|places| Placement { images: self.all, places }))
    }
}

impl SearchOptions {
    /// Number of images with masked tokens in a batch of `count` images of all ranks.
    pub(super) fn masked_images(&self, count: i64) -> i64 {
        let Some(pmim) = self.pmim else { return 0 };
        // Scores and α learn from the images that are seen whole, if not from all.
        let most = if pmim.reach == PmimReach::Weights { count - 1 } else { count };
        ((pmim.images * count as f64).round() as i64).min(most)
    }

    /// Refuses a batch of so many images of all ranks that a step would refuse.
    ///
    /// # Errors
    /// [`DistributedError::Share`].
    #[cfg(feature = "pipeline")]
    pub(crate) fn expect_shared(&self, batch: i64, share: Share) -> Result<()> {
        let masks = self.pmim.is_some_and(|pmim| {
            [0, self.search_steps].into_iter().any(|step| pmim.mask_ratio.at(step) > 0.0)
        });
        let masked = if masks { self.masked_images(batch) } else { 0 };
        Placed::split(share, batch / share.world_size() as i64, masked).map(drop)
    }
}

/// Returns checksums of the bits of images and targets.
fn checksums(batch: &Batch) -> Result<Vec<u8>> {
    let targets = match &batch.targets {
        Targets::Classes(own) | Targets::Probabilities(own) | Targets::Values(own) => Some(own),
        Targets::Unlabelled => None,
    };
    let sum = |own: &Tensor| match own.kind().elt_size_in_bytes() {
        4 | 8 => bit_sum(own),
        _ => bit_sum(&own.f_to_kind(Kind::Float)?),
    };
    let of = |own: &Tensor| to_bytes(&sum(own)?);
    let all = [Some(&batch.images), targets].into_iter().flatten().map(of);
    Ok(all.collect::<Result<Vec<_>>>()?.concat())
}

impl<A: Architecture> Search<A> {
    /// The processes that train together.
    pub(super) fn group(&self) -> &dyn Collective {
        &*self.group
    }

    /// This rank's share of every batch.
    pub(super) fn share(&self) -> Share {
        Share::of(self.group())
    }

    /// Returns sums over images as sums over as many images of the average rank: the sum over the
    /// images of all ranks, times the share of them that this rank has. One process gets its own back.
    pub(super) fn of_all_ranks(&self, sums: &Tensor, images: &Placed) -> Result<Tensor> {
        if images.places.is_none() {
            return Ok(sums.shallow_clone());
        }
        no_grad(|| {
            let sum = sums.f_detach_copy()?.f_to_kind(Kind::Float)?;
            self.group.all_reduce(&sum)?;
            Ok(sum.f_mul_scalar(images.own as f64 / images.all as f64)?)
        })
    }

    /// Returns whether the gradients of a step are summed during its backward pass, which needs the
    /// feature `distributed`.
    #[cfg(not(feature = "distributed"))]
    pub(super) fn sums_early(&self, _batches: &[Batch], _parts: usize) -> bool {
        false
    }

    #[cfg(not(feature = "distributed"))]
    pub(super) fn summed_gradients(
        &self,
        loss: &Tensor,
        _masked: bool,
        _names: &[String],
        leaves: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        crate::autograd::gradients(super::model_gradients::LOSSES, loss, leaves, false)
    }

    /// Sums gradients over all ranks, in place.
    pub(super) fn sum_gradients(&self, gradients: &FlatGradients) -> Result<()> {
        let own = gradients.tensors.data();
        if self.share().is_whole() || self.options.training.exchange == Precision::F32 {
            return self.group.all_reduce(own);
        }
        let rounded = own.f_to_kind(self.options.training.exchange.kind())?;
        self.group.all_reduce(&rounded)?;
        Ok(no_grad(|| own.shallow_clone().f_copy_(&rounded))?)
    }

    /// Returns flags, `[n]`, bool, that are true where they are on one rank.
    pub(super) fn any_rank(&self, flags: Tensor) -> Result<Tensor> {
        if self.share().is_whole() {
            return Ok(flags);
        }
        let counts = flags.f_to_kind(Kind::Float)?;
        self.group.all_reduce(&counts)?;
        Ok(counts.f_gt(0.0)?)
    }

    /// Returns the mean of numbers over the ranks.
    pub(super) fn mean_of_ranks(&self, numbers: Tensor) -> Result<Tensor> {
        if self.share().is_whole() {
            return Ok(numbers);
        }
        self.group.all_reduce(&numbers)?;
        Ok(numbers.f_div_scalar(self.share().world_size() as f64)?)
    }

    /// Returns whether the stop flag of a rank is set, before a step with these batches on this rank.
    ///
    /// # Errors
    /// [`DistributedError::Share`] if other ranks have more or fewer images: their gradients would count the same, and
    /// a step could wait for a rank with fewer backward passes; before the first step also if two ranks have the same.
    pub(super) fn any_stops(&mut self, stops: bool, batches: &[Batch]) -> Result<bool> {
        if self.share().is_whole() {
            return Ok(stops);
        }
        let own = images_of(batches);
        let sums = Tensor::f_from_slice(&[i64::from(stops), own, own * own])?;
        self.group.all_reduce(&sums)?;
        let (images, squares) = (sums.f_int64_value(&[1])?, sums.f_int64_value(&[2])?);
        let world_size = self.share().world_size();
        // n·Σ own² ≥ (Σ own)², and equal where all n ranks have as many.
        if world_size as i64 * squares != images * images {
            let expected =
                "as many on every rank; a source gives the images of Share::places".into();
            return Err(
                DistributedError::Share { batch: images as usize, world_size, expected }.into()
            );
        }
        if !self.shares_compared {
            self.expect_own_images(batches, images as usize)?;
            self.shares_compared = true;
        }
        Ok(sums.f_int64_value(&[0])? > 0)
    }

    /// Refuses ranks of which two have the same first batch, by checksums of images and targets: a source that gives every
    /// rank the whole batch. Reads from the device.
    fn expect_own_images(&self, batches: &[Batch], images: usize) -> Result<()> {
        let sums = batches.iter().take(1).map(checksums).collect::<Result<Vec<_>>>();
        let all = self.group.all_gather(&self.group.agree(sums)?.concat())?;
        let first_of = |own| all.iter().position(|other| other == own).unwrap_or_default();
        let twice = all.iter().map(first_of).zip(0..).find(|(first, rank)| first < rank);
        let Some((first, rank)) = twice else { return Ok(()) };
        let world_size = self.share().world_size();
        let expected = format!(
            "different images on every rank: ranks {first} and {rank} have the same; give the source its share \
             (Loader::share, ShuffledBatches::share); with a share, repeats (Order::Shuffled) need random augmentation, \
             and made-up images need to differ"
        );
        Err(DistributedError::Share { batch: images, world_size, expected }.into())
    }

    /// Tells the other ranks of an error of this one, with which they end too, unless all ranks have it.
    pub(super) fn told<T>(&self, result: Result<T>) -> Result<T> {
        let own = |error: &Error| match error {
            Error::Distributed(error) => !error.is_of_all_ranks(),
            error => !matches!(error, Error::Diverged { .. }),
        };
        if let Some(error) = result.as_ref().err().filter(|error| own(error)) {
            self.group().tell(error);
        }
        result
    }

    /// Proves that all ranks hold the same parameters and floating-point buffers, by checksums of their bits. Reads from
    /// the device.
    ///
    /// # Errors
    /// [`DistributedError::Drift`] with the first parameter that differs, on every rank.
    pub(super) fn expect_same_parameters(&self) -> Result<()> {
        if self.share().is_whole() {
            return Ok(());
        }
        let supernet = &self.supernet;
        let flat = [supernet.theta(), supernet.scores(), supernet.alphas()];
        let buffers = supernet.buffers();
        let all = flat.iter().map(|own| own.data()).chain(buffers.values());
        let sums: Vec<Tensor> = all.map(bit_sum).collect::<Result<_>>()?;
        if self.differing(&sums)?.is_empty() {
            return Ok(());
        }
        let mut tensors = Vec::new();
        for own in flat {
            for segment in own.layout().segments() {
                tensors.push((segment.name.clone(), own.tensor(segment)?));
            }
        }
        tensors.extend(buffers);
        let sums: Vec<Tensor> =
            tensors.iter().map(|(_, own)| bit_sum(own)).collect::<Result<_>>()?;
        let differing = self.differing(&sums)?;
        let Some(first) = differing.iter().map(|(at, _)| *at).min() else { return Ok(()) };
        let ranks =
            differing.iter().filter(|(at, _)| *at == first).map(|(_, rank)| *rank).collect();
        let parameter = tensors.get(first).map(|(name, _)| name.clone()).unwrap_or_default();
        let step = self.step;
        Err(DistributedError::Drift { step, parameter, ranks }.into())
    }

    /// Returns number and rank of all sums that differ from those of rank 0.
    fn differing(&self, sums: &[Tensor]) -> Result<Vec<(usize, usize)>> {
        let all = self.group.all_gather(&to_bytes(&Tensor::f_stack(sums, 0)?)?)?;
        let mut differing = Vec::new();
        for (rank, own) in all.iter().enumerate() {
            let pairs = all[0].chunks(8).zip(own.chunks(8)).enumerate();
            differing.extend(pairs.filter(|(_, (l, r))| l != r).map(|(at, _)| (at, rank)));
        }
        Ok(differing)
    }
}
