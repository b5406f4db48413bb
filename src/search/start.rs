//! Where a search starts: scores, α and θ.

use super::options::{AlphaStart, SearchOptions};
use crate::cost::Budget;
use crate::mask::Importance;
use crate::models::Architecture;
use crate::randomness::{enter, Purpose};
use crate::space::{Cells, Size, Sizes};
use crate::supernet::Supernet;
use crate::Result;
use tch::Tensor;

/// Brings scores and α to where they start, and θ to where the network starts.
pub(super) fn start<A: Architecture>(
    supernet: &mut Supernet<A>,
    options: &SearchOptions,
    importance: &dyn Importance,
    budgets: &[Budget],
) -> Result<()> {
    enter(options.seed, 0, Purpose::Scores);
    let weights = supernet.raw_weights();
    // Mask token and decoder begin at random: they know nothing of the units.
    let dimensions = supernet.declared_space().dimensions;
    let share = even_share(supernet, budgets)?;
    for (state, dimension) in supernet.states_mut().iter_mut().zip(&dimensions) {
        let score = tch::no_grad(|| importance.start(dimension, &weights))?;
        state.set_score(&score)?;
        let alpha = match options.alpha_start {
            AlphaStart::Equal => continue,
            AlphaStart::Uniform => state.alpha.f_rand_like()?,
            AlphaStart::Even { spread } => around(state.cells(), share, spread, &state.alpha)?,
        };
        state.set_alpha(&alpha.f_detach()?)?;
    }
    if options.start_at_dense {
        let masks = tch::no_grad(|| supernet.masks(options.lambda_at(0)))?;
        let gates: Vec<Tensor> = masks.into_iter().map(|mask| mask.mask).collect();
        supernet.absorb(&gates)?;
    }
    Ok(())
}

/// The largest share that, taken of every dimension, keeps all budgets.
fn even_share<A: Architecture>(supernet: &Supernet<A>, budgets: &[Budget]) -> Result<f64> {
    let model = supernet.cost_model();
    let keeps = |share: f64| -> Result<bool> {
        let dimensions = supernet.space().dimensions.iter();
        let sizes: Sizes = dimensions.map(|d| (d.name.clone(), nearest(&d.cells, share))).collect();
        for budget in budgets {
            if model.cost(budget.metric, &sizes)? > budget.limit {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..20 {
        let middle = (low + high) / 2.0;
        *(if keeps(middle)? { &mut low } else { &mut high }) = middle;
    }
    Ok(low)
}

/// Where a cell lies: shares of heads and channels, and where an even share of the units would.
fn distance(cells: &Cells, size: Size, share: f64) -> f64 {
    let side = if cells.heads() > 1 { share.sqrt() } else { share };
    let heads = match cells.heads() {
        1 => 0.0,
        all => size.heads as f64 / all as f64 - side,
    };
    heads.hypot(size.channels as f64 / cells.channels() as f64 - side)
}

fn nearest(cells: &Cells, share: f64) -> Size {
    let far = |size: &Size| distance(cells, *size, share);
    cells.sizes().min_by(|l, r| far(l).total_cmp(&far(r))).unwrap_or(cells.full())
}

/// α highest at a share of the units.
fn around(cells: &Cells, share: f64, spread: f64, like: &Tensor) -> Result<Tensor> {
    let alpha = |size| -0.5 * (distance(cells, size, share) / spread).powi(2);
    let alpha: Vec<f32> = cells.sizes().map(|size| alpha(size) as f32).collect();
    Ok(Tensor::f_from_slice(&alpha)?.f_view_as(like)?.f_to_device(like.device())?)
}
