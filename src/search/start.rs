//! Where a search starts: scores, α and θ.

use super::options::{AlphaStart, SearchOptions};
use crate::mask::Importance;
use crate::models::Architecture;
use crate::randomness::{enter, Purpose};
use crate::supernet::Supernet;
use crate::Result;
use tch::Tensor;

/// Brings scores and α to where they start, and θ to where the network starts.
pub(super) fn start<A: Architecture>(
    supernet: &mut Supernet<A>,
    options: &SearchOptions,
    importance: &dyn Importance,
) -> Result<()> {
    enter(options.seed, 0, Purpose::Scores);
    let weights = supernet.raw_weights();
    let dimensions = supernet.space().dimensions.clone();
    for (state, dimension) in supernet.states_mut().iter_mut().zip(&dimensions) {
        let score = tch::no_grad(|| importance.start(dimension, &weights))?;
        state.set_score(&score)?;
        if options.alpha_start == AlphaStart::Uniform {
            let alpha = state.alpha.f_rand_like()?;
            state.set_alpha(&alpha.f_detach()?)?;
        }
    }
    if options.start_at_dense {
        let masks = tch::no_grad(|| supernet.masks(options.lambda.at(0)))?;
        let gates: Vec<Tensor> = masks.into_iter().map(|mask| mask.mask).collect();
        supernet.absorb(&gates)?;
    }
    Ok(())
}
