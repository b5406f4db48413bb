//! Gate fade-out: the gates of units that will be pruned go linearly to zero before the units are pruned.

use super::flat::indices;
use crate::space::{ActiveSet, Role, Size};
use crate::Result;
use tch::Tensor;

/// Gate fade-out of one dimension.
///
/// With the remaining share r falling linearly from 1 to 0, the gates are
/// m = r·m₀ + (1 − r)·m₁: m₀ are the gates at the first step of the fade-out, m₁ the bi-mask of the
/// dimension at its size after pruning, and 0 for the units to prune. The gates are continuous in
/// time, so neither the choice of a size nor the pruning changes the network's output abruptly.
/// m₀ is a constant to autograd; gradients reach scores and α through (1 − r)·m₁.
#[derive(Debug)]
pub struct FadeOut {
    /// Size after pruning.
    pub size: Size,
    /// Optimiser steps done when the fade-out began.
    pub since: u64,
    /// Remaining share r, from 1 to 0.
    pub remaining: f64,
    /// Whether the fade-out has ended in a network that cannot be built at other sizes: r stays 0,
    /// the gates stay zero, and no weight is sliced.
    pub in_place: bool,
    /// Flat indices of the kept units, i64.
    pub(super) kept: Tensor,
    /// The same on the host.
    kept_on_host: Vec<i64>,
    /// m₀, the gates when the fade-out began, `[heads, channels]`.
    pub(super) initial_gates: Tensor,
    /// Flat indices of the candidates that fit into the kept units, i64.
    pub(super) kept_candidates: Tensor,
    /// The active ones among these candidates.
    pub(super) active: ActiveSet,
}

impl FadeOut {
    /// Begins the fade-out of a dimension with gates `initial_gates` to the units `kept`, which are
    /// `size.heads × size.channels`.
    pub(super) fn new(
        active: &ActiveSet,
        kept: &[i64],
        size: Size,
        initial_gates: &Tensor,
        since: u64,
    ) -> Result<Self> {
        let (active, kept_candidates) = active.narrowed(size)?;
        Ok(Self {
            size,
            since,
            remaining: 1.0,
            in_place: false,
            kept: indices(kept, initial_gates.device())?,
            kept_on_host: kept.to_vec(),
            initial_gates: initial_gates.f_detach_copy()?,
            kept_candidates,
            active,
        })
    }

    /// Sets the active candidates of the dimension.
    pub(super) fn set_active(&mut self, active: &ActiveSet) -> Result<()> {
        (self.active, self.kept_candidates) = active.narrowed(self.size)?;
        Ok(())
    }

    /// Returns the factor of a variable that writes into the dimension without being gated by the
    /// bi-mask: r for the units to prune. For kept units it is 1, or, for the scale of a norm
    /// ([`Role::Scaled`]), √((k + r²·(d − k))/d) with k of d units kept.
    ///
    /// A norm over d channels divides by their standard deviation. When d − k channels fade to a
    /// share r of their size, this divisor falls to about √((k + r²·(d − k))/d) of its value, and
    /// the norm's output would grow by the inverse; the factor compensates that. At r = 0 the norm
    /// runs over the d channels, and after pruning over the k kept ones: the factor √(k/d) is the
    /// ratio of the two divisors for channels of mean 0, and it is dropped when the units are
    /// pruned.
    pub(super) fn factor(&self, role: Role) -> Result<Tensor> {
        let (all, kept) =
            (self.initial_gates.size().iter().product::<i64>() as f64, self.size.units() as f64);
        let spread = (kept + self.remaining.powi(2) * (all - kept)) / all;
        let stays = if role == Role::Scaled { spread.sqrt() } else { 1.0 };
        let left = self.initial_gates.f_full_like(self.remaining)?.f_flatten(0, -1)?;
        Ok(left.f_index_fill(0, &self.kept, stays)?.f_view_as(&self.initial_gates)?)
    }

    /// Returns the flat indices of the kept units.
    pub fn kept(&self) -> &[i64] {
        &self.kept_on_host
    }

    /// Returns m₀, the gates when the fade-out began, `[heads, channels]`.
    pub fn initial_gates(&self) -> &Tensor {
        &self.initial_gates
    }
}
