//! Initial scores, α and θ.

use super::options::{AlphaInit, SearchOptions};
use crate::components::Importance;
use crate::cost::CostLimit;
use crate::models::Architecture;
use crate::randomness::{seed_torch, Purpose};
use crate::space::{Candidates, Size, Sizes};
use crate::supernet::Supernet;
use crate::Result;
use tch::Tensor;

/// Sets the initial scores and α and, with `init.preserve_dense`, divides θ by the initial gates.
pub(super) fn initialise<A: Architecture>(
    supernet: &mut Supernet<A>,
    options: &SearchOptions,
    importance: &dyn Importance,
    limits: &[CostLimit],
) -> Result<()> {
    seed_torch(options.seed, 0, Purpose::Scores);
    let weights = supernet.raw_weights();
    let dimensions = supernet.dimensions_of_weights();
    let share = even_share(supernet, limits)?;
    for (state, dimension) in supernet.states_mut().iter_mut().zip(&dimensions) {
        let score = crate::autograd::no_grad(|| importance.initial(dimension, &weights))?;
        state.copy_score(&score)?;
        let alpha = match options.init.alpha {
            AlphaInit::Equal => continue,
            AlphaInit::Uniform => state.alpha.f_rand_like()?,
            AlphaInit::Even { spread } => around(state.candidates(), share, spread, &state.alpha)?,
        };
        state.set_alpha(&alpha.f_detach()?)?;
    }
    supernet.expect_finite_scores()?;
    if options.init.preserve_dense {
        let masks = crate::autograd::no_grad(|| supernet.masks(options.lambda_at(0)))?;
        let gates: Vec<Tensor> = masks.into_iter().map(|mask| mask.mask).collect();
        supernet.divide_by_gates(&gates)?;
    }
    Ok(())
}

/// Returns the largest share of the dense size that, applied to every dimension, meets all budgets.
fn even_share<A: Architecture>(supernet: &Supernet<A>, limits: &[CostLimit]) -> Result<f64> {
    let model = supernet.cost_model();
    let keeps = |share: f64| -> Result<bool> {
        let dimensions = supernet.space().dimensions.iter();
        let sizes: Sizes =
            dimensions.map(|d| (d.name.clone(), nearest(&d.candidates, share))).collect();
        for limit in limits {
            if model.cost(limit.metric, &sizes)? > limit.limit {
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

/// Distance of a candidate from an even share of the units, in shares of heads and channels.
fn distance(candidates: &Candidates, size: Size, share: f64) -> f64 {
    let side = if candidates.heads() > 1 { share.sqrt() } else { share };
    let heads = match candidates.heads() {
        1 => 0.0,
        all => size.heads as f64 / all as f64 - side,
    };
    heads.hypot(size.channels as f64 / candidates.channels() as f64 - side)
}

fn nearest(candidates: &Candidates, share: f64) -> Size {
    let far = |size: &Size| distance(candidates, *size, share);
    candidates.sizes().min_by(|l, r| far(l).total_cmp(&far(r))).unwrap_or(candidates.full())
}

/// α = −½·(distance/spread)² of every candidate, highest at `share` of the units.
fn around(candidates: &Candidates, share: f64, spread: f64, like: &Tensor) -> Result<Tensor> {
    let alpha = |size| -0.5 * (distance(candidates, size, share) / spread).powi(2);
    let alpha: Vec<f32> = candidates.sizes().map(|size| alpha(size) as f32).collect();
    Ok(Tensor::f_from_slice(&alpha)?.f_view_as(like)?.f_to_device(like.device())?)
}
