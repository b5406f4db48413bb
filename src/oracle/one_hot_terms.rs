//! Terms of the adaptive one-hot loss (paper eq. 8).

use super::Units;
use crate::components::EntropyVarianceLoss;
use crate::space::DimensionKind;
use std::f64::consts::PI;

/// The three terms of the adaptive one-hot loss. A term is 0 where it is switched off or one
/// candidate is active.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneHotTerms {
    /// H(p) = −Σ p ln p.
    pub entropy: f64,
    /// tan(π/2 − π x)/n, along its tangent line outside `[delta, 1 − delta]`.
    pub tangent: f64,
    /// c·Σ S.
    pub importance: f64,
}

impl OneHotTerms {
    /// Returns the sum of the three terms.
    pub fn total(&self) -> f64 {
        self.entropy + self.tangent + self.importance
    }
}

/// Returns L = H(p) + tan(π/2 − π x)/n + c·Σ S over the n active candidates, with x = σ²/(1 − 1/n)
/// and σ² = Σ (p − 1/n)² (paper eq. 8).
pub fn one_hot_loss(
    terms: &EntropyVarianceLoss,
    kind: DimensionKind,
    units: &Units,
) -> OneHotTerms {
    let mut loss = OneHotTerms { entropy: 0.0, tangent: 0.0, importance: 0.0 };
    let count = units.active_count();
    if count == 1 {
        return loss;
    }
    let n = count as f64;
    let all = units.probabilities();
    let p = || all.iter().zip(units.active()).filter(|(_, &active)| active).map(|(&p, _)| p);
    if terms.entropy {
        loss.entropy = p().map(|p| if p == 0.0 { 0.0 } else { -p * p.ln() }).sum();
    }
    if terms.tangent {
        let variance: f64 = p().map(|p| (p - 1.0 / n).powi(2)).sum();
        loss.tangent = tangent(variance / (1.0 - 1.0 / n), terms.delta) / n;
    }
    loss.importance = terms.importance_weight(kind) * units.importance().sum();
    loss
}

/// Returns tan(π/2 − π x) inside `[delta, 1 − delta]`, and its tangent line at the nearer end
/// outside.
fn tangent(x: f64, delta: f64) -> f64 {
    let end = x.clamp(delta, 1.0 - delta);
    let slope = -PI / (PI * end).sin().powi(2);
    (PI / 2.0 - PI * end).tan() + slope * (x - end)
}
