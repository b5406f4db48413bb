//! Initial α: drawn at random, or measured, and its influence on what was chosen.

use crate::plan::Run;
use crate::scaled::ScaledLoss;
use once_for_both::batch::{Batch, BatchSource};
use once_for_both::models::Architecture;
use once_for_both::search::Search;
use once_for_both::sensitivity::Calibration;
use once_for_both::space::Candidates;
use once_for_both::Result;
use tch::{Device, Kind};

/// Training images that the sensitivity is measured on, at least.
const CALIBRATION: i64 = 1024;
/// Temperature of α = −rise / temperature: a rise of 0.02 is 63 % less probable. The choice of sizes
/// under the budget is the same at any.
const TEMPERATURE: f64 = 0.02;

/// Initial α of every dimension.
pub struct Start(Vec<Dimension>);

/// Initial α of one dimension.
struct Dimension {
    candidates: Candidates,
    alpha: Vec<f64>,
}

impl Start {
    /// Reads α before the first step.
    pub fn of<A: Architecture>(search: &Search<ScaledLoss<A>>) -> Result<Self> {
        let dimensions = search.supernet().states().iter().map(|state| {
            let alpha = state.alpha.f_detach()?.f_flatten(0, -1)?.f_to_kind(Kind::Double)?;
            let alpha = Vec::try_from(alpha.f_to_device(Device::Cpu)?)?;
            Ok(Dimension { candidates: state.candidates().clone(), alpha })
        });
        Ok(Self(dimensions.collect::<Result<_>>()?))
    }

    /// Returns the mean standard score of the initial α of the chosen candidates, over all
    /// dimensions: 0 if the initial α has no influence, `None` where all started equal.
    pub fn bias<A: Architecture>(&self, search: &Search<ScaledLoss<A>>) -> Option<f64> {
        let chosen = search.supernet().states().iter().map(|state| state.candidates().full());
        let scores = self.0.iter().zip(chosen).map(|(start, size)| {
            let candidate = start.candidates.sizes().position(|own| own == size)?;
            start.score(candidate)
        });
        let scores: Vec<f64> = scores.collect::<Option<_>>()?;
        Some(scores.iter().sum::<f64>() / scores.len().max(1) as f64)
    }
}

impl Dimension {
    /// Returns the standard score of the initial α of a candidate.
    fn score(&self, candidate: usize) -> Option<f64> {
        let n = self.alpha.len() as f64;
        let mean = self.alpha.iter().sum::<f64>() / n;
        let std = (self.alpha.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / n).sqrt();
        (std > 0.0).then(|| (self.alpha[candidate] - mean) / std)
    }
}

/// Draws α from a standard normal, so that projection onto the budget chooses random sizes.
pub fn draw_sizes<A: Architecture>(search: &mut Search<ScaledLoss<A>>, run: &Run) -> Result<()> {
    once_for_both::randomness::seed(1000 + run.seed + 100_000 * run.draw);
    for state in search.supernet_mut().states_mut() {
        let alpha = state.alpha.f_randn_like()?;
        state.set_alpha(&alpha)?;
    }
    Ok(())
}

/// Sets α by the measured rise of the loss on the first training batches, so that projection onto the
/// budget chooses the sizes with the smallest sum of rises.
pub fn measure_sensitivity<A: Architecture>(
    search: &mut Search<ScaledLoss<A>>,
    mut source: impl BatchSource,
) -> Result<()> {
    let mut batches: Vec<Batch> = Vec::new();
    while batches.iter().map(|batch| batch.images.size()[0]).sum::<i64>() < CALIBRATION {
        batches.push(source.batch(batches.len() as u64)?);
    }
    let mut calibration = Calibration::cross_entropy(&batches);
    let sensitivity = search.evaluate(|supernet| calibration.measure(supernet))?;
    sensitivity.start_alpha(search, TEMPERATURE)
}
