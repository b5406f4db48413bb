//! The axes and layout in which a declaration places the units of one dimension.

use super::probe::Probe;
use crate::models::Architecture;
use crate::space::{Binding, Dimension, Over, Size};
use crate::tensors::Weights;
use crate::Result;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

/// Declared bindings and grid of one dimension.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) bindings: Vec<Binding>,
    pub(super) grid: Size,
    /// Whether the axes hold the heads of each channel instead of the channels of each head.
    pub(super) channels_outside: bool,
    /// Whether the channels of a head are pruned: those that all stay keep their order, which a norm
    /// of queries and keys may depend on.
    pub(super) prunes_channels: bool,
}

impl Claim {
    pub(super) fn of(dimension: &Dimension) -> Self {
        let (bindings, grid) = (dimension.bindings.clone(), dimension.candidates.full());
        let prunes_channels = dimension.candidates.widths() != [grid.channels];
        Self { bindings, grid, channels_outside: false, prunes_channels }
    }

    /// Returns how much the logits change when the units are reordered, as a share of their scale.
    pub(super) fn difference<A: Architecture>(&self, probe: &Probe<A>) -> Result<f64> {
        let reordered = self.reordered(probe)?;
        probe.difference(&probe.logits(&reordered)?)
    }

    /// Returns the bound weights with their units in another order.
    fn reordered<A: Architecture>(&self, probe: &Probe<A>) -> Result<Weights> {
        let [units, heads] = self.order(probe.images().device())?;
        let mut changed = Weights::new();
        for binding in &self.bindings {
            let name = &binding.variable;
            let Some(weight) = changed.get(name).or(probe.weights.get(name)) else { continue };
            let index = match binding.over {
                Over::Units => binding.entries_of(&units, self.grid, self.grid.channels)?,
                Over::Heads => heads.shallow_clone(),
            };
            let reordered = binding.select(weight, &index)?;
            changed.insert(name.clone(), reordered);
        }
        Ok(changed)
    }

    /// Returns an order of all units and one of the heads: heads are shuffled, and channels inside
    /// every head, as far as both are pruned.
    fn order(&self, device: Device) -> Result<[Tensor; 2]> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let Size { heads, channels } = self.grid;
        let order = shuffled(heads, &mut random);
        let mut units = vec![0; (heads * channels) as usize];
        for (to, &from) in (0..).zip(&order) {
            let channels = match self.prunes_channels || heads == 1 {
                true => shuffled(channels, &mut random),
                false => (0..channels).collect(),
            };
            for (into, &out_of) in (0..).zip(&channels) {
                units[self.unit(to, into) as usize] = self.unit(from, out_of);
            }
        }
        let index = |numbers: &[i64]| Tensor::f_from_slice(numbers)?.f_to_device(device);
        Ok([index(&units)?, index(&order)?])
    }

    fn unit(&self, head: i64, channel: i64) -> i64 {
        match self.channels_outside {
            false => head * self.grid.channels + channel,
            true => channel * self.grid.heads + head,
        }
    }
}

/// Returns the numbers below `count` in an order other than ascending.
fn shuffled(count: i64, random: &mut ChaCha8Rng) -> Vec<i64> {
    let mut numbers: Vec<i64> = (0..count).collect();
    numbers.shuffle(random);
    if numbers.is_sorted() {
        numbers.rotate_left(usize::from(count > 1));
    }
    numbers
}
