//! Which images of a batch a process has.

use super::Collective;
use crate::error::DistributedError;
use crate::{Error, Result};

/// The share of every batch that one process, a rank, has.
///
/// The images of a batch are numbered through all ranks. A rank with an even number of images has them
/// in pairs (i, B − 1 − i), the pairs that mixup and cutmix mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    rank: usize,
    world_size: usize,
}

impl Share {
    /// All images: the share of a process that trains alone.
    pub const WHOLE: Self = Self { rank: 0, world_size: 1 };

    /// Returns the share of one rank.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a rank that is not below the number of ranks.
    pub fn new(rank: usize, world_size: usize) -> Result<Self> {
        match rank < world_size {
            true => Ok(Self { rank, world_size }),
            false => Err(Error::invalid("rank", format!("below {world_size}"), rank)),
        }
    }

    /// Returns the share of this process.
    pub fn of(group: &dyn Collective) -> Self {
        Self { rank: group.rank(), world_size: group.world_size() }
    }

    /// Whether these are all images.
    pub fn is_whole(self) -> bool {
        self.world_size == 1
    }

    /// Number of processes.
    pub fn world_size(self) -> usize {
        self.world_size
    }

    /// Returns the places, in ascending order, of this rank's images in a batch of `batch` images of
    /// all ranks together. All ranks have the same number of them.
    ///
    /// # Errors
    /// [`DistributedError::Share`] unless the number of ranks divides `batch`.
    pub fn places(self, batch: usize) -> Result<Vec<usize>> {
        let Self { rank, world_size } = self;
        if batch == 0 || !batch.is_multiple_of(world_size) {
            let expected = format!("a multiple of {world_size}");
            return Err(DistributedError::Share { batch, world_size, expected }.into());
        }
        let (own, pairs) = (batch / world_size, batch / world_size / 2);
        let first = (0..pairs).map(|pair| rank + pair * world_size);
        let middle = (own % 2 == 1).then_some(pairs * world_size + rank);
        let mirrored = (0..pairs).rev().map(|pair| batch - 1 - (rank + pair * world_size));
        Ok(first.chain(middle).chain(mirrored).collect())
    }

    /// Returns the places of this rank's images in an evaluation of `images` images, each of which one
    /// rank has. Ranks differ by at most one image.
    pub fn judged(self, images: usize) -> impl Iterator<Item = usize> {
        (self.rank..images).step_by(self.world_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(batch: usize, world_size: usize) -> Vec<Vec<usize>> {
        let places = |rank| Share { rank, world_size }.places(batch).unwrap_or_default();
        (0..world_size).map(places).collect()
    }

    #[test]
    fn places_of_all_ranks_are_every_image_once_and_ascend() {
        for world_size in 1..6 {
            for own in 1..8 {
                let batch = own * world_size;
                let places = all(batch, world_size);
                assert!(places.iter().all(|own| own.is_sorted()), "{places:?}");
                let mut together: Vec<usize> = places.concat();
                together.sort_unstable();
                assert_eq!(together, (0..batch).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn places_of_a_rank_with_an_even_number_hold_every_partner_in_mirrored_order() {
        for (batch, world_size) in [(8, 2), (12, 3), (16, 4), (6, 1)] {
            for own in all(batch, world_size) {
                let mirrored: Vec<usize> = own.iter().rev().map(|at| batch - 1 - at).collect();
                assert_eq!(own, mirrored);
            }
        }
    }

    #[test]
    fn batch_that_the_ranks_do_not_divide_is_refused() {
        let refused =
            Share { rank: 1, world_size: 4 }.places(10).map_err(|error| error.to_string());
        let expected = "batch of 10 images over 4 processes: got 10, expected a multiple of 4";
        assert_eq!(refused, Err(expected.into()));
    }

    #[test]
    fn judged_images_of_all_ranks_are_every_image_once() {
        let mut together: Vec<usize> =
            (0..3).flat_map(|rank| Share { rank, world_size: 3 }.judged(10)).collect();
        together.sort_unstable();
        assert_eq!(together, (0..10).collect::<Vec<_>>());
    }
}
