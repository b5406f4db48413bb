//! What a declaration says about the places of its units, to be tried out.

use super::probe::Probe;
use crate::models::Architecture;
use crate::space::{Binding, Dimension, Over, Size};
use crate::tensors::Weights;
use crate::Result;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

/// Where the units of a dimension are said to be.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) bindings: Vec<Binding>,
    pub(super) grid: Size,
    /// Channel by channel instead of head by head.
    pub(super) channels_outside: bool,
}

impl Claim {
    pub(super) fn of(dimension: &Dimension) -> Self {
        let (bindings, grid) = (dimension.bindings.clone(), dimension.candidates.full());
        Self { bindings, grid, channels_outside: false }
    }

    /// How far the logits move when the units are reordered, as a share of their scale.
    pub(super) fn difference<A: Architecture>(&self, probe: &Probe<A>) -> Result<f64> {
        let reordered = self.reordered(probe)?;
        probe.difference(&probe.logits(&reordered)?)
    }

    /// All bound weights, their units in another order.
    fn reordered<A: Architecture>(&self, probe: &Probe<A>) -> Result<Weights> {
        let [units, heads] = self.order(probe.images().device())?;
        let mut changed = Weights::new();
        for binding in &self.bindings {
            let name = &binding.variable;
            let Some(weight) = changed.get(name).or(probe.weights.get(name)) else { continue };
            let index = match binding.over {
                Over::Units => &units,
                Over::Heads => &heads,
            };
            let reordered = binding.select(weight, index)?;
            changed.insert(name.clone(), reordered);
        }
        Ok(changed)
    }

    /// Heads in another order, and channels in another order inside every head.
    fn order(&self, device: Device) -> Result<[Tensor; 2]> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let Size { heads, channels } = self.grid;
        let order = shuffled(heads, &mut random);
        let mut units = vec![0; (heads * channels) as usize];
        for (to, &from) in (0..).zip(&order) {
            for (into, &out_of) in (0..).zip(&shuffled(channels, &mut random)) {
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

/// The numbers below `count` in an order that is not their own.
fn shuffled(count: i64, random: &mut ChaCha8Rng) -> Vec<i64> {
    let mut numbers: Vec<i64> = (0..count).collect();
    numbers.shuffle(random);
    if numbers.is_sorted() {
        numbers.rotate_left(usize::from(count > 1));
    }
    numbers
}
