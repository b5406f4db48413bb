//! How far every dimension has come, read from the device at once.

use super::event::{DimensionMetrics, Phase};
use super::session::Session;
use crate::models::Architecture;
use crate::space::ActiveSet;
use crate::tensors::to_host;
use crate::Result;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

impl<A: Architecture> Session<A> {
    /// Entropy and expected units of every dimension while they are searched. One transfer from
    /// the device, however many there are.
    pub(super) fn dimension_metrics(&self) -> Result<BTreeMap<String, DimensionMetrics>> {
        let states = self.supernet.states();
        if self.phase != Phase::Search || states.is_empty() {
            return Ok(BTreeMap::new());
        }
        let numbers = tch::no_grad(|| {
            let mut parts = Vec::with_capacity(states.len() + 1);
            for state in states {
                parts.push(entropy(&state.active, &state.alpha)?);
            }
            let (alphas, active) = (self.alphas(), self.supernet.active());
            let sizes = self.budget_loss.expected_sizes(&alphas, &active)?;
            parts.push(sizes.f_to_kind(Kind::Double)?);
            to_host(&Tensor::f_cat(&parts, 0)?)
        })?;
        let (entropies, sizes) = numbers.split_at(states.len());
        // Units and heads take turns among the sizes.
        let numbers = entropies.iter().zip(sizes.chunks(2));
        let metrics = states.iter().zip(numbers).map(|(state, (entropy, sizes))| {
            let most = (state.cells_at_start as f64).ln();
            let entropy = if most > 0.0 { entropy / most } else { 0.0 };
            (state.name.clone(), DimensionMetrics { entropy, expected: sizes[0] })
        });
        Ok(metrics.collect())
    }
}

/// −Σ p ln p over the active cells, `[1]`, in f64: the last digits of a decision count.
fn entropy(active: &ActiveSet, alpha: &Tensor) -> Result<Tensor> {
    let log_p = active.log_probabilities(&alpha.f_to_kind(Kind::Double)?)?;
    // 0 · ln 0 is 0, in an inactive cell and in one that α has put out of reach.
    let terms = log_p.f_exp()?.f_mul(&log_p.f_clamp_min(f64::MIN)?)?;
    Ok(terms.f_sum(None)?.f_abs()?.f_view([1])?)
}
