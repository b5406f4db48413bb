//! Estimated rise of the loss at a candidate, from the first-order effects of its units (`evidence`).
//!
//!   L(k) = ½·B·E[(Σ_{u∈U(k)} e_u)²],  U(k): the units that candidate k does not keep
//!
//! L does not include recovery. What pruned channels and neurons did is learned by those that stay; a
//! pruned head takes its attention pattern with it. Of a removed MLP no neuron stays. So L of candidates with fewer
//! heads, and of a removal, counts `pruning.head_factor` times, and that of a narrower hidden layer `pruning.hidden_factor` times.
//!
//! L of a head that is little used now is near zero, although the head would do more once others are pruned. So the part
//! of L that n pruned heads have is raised towards that of n average heads, where it is less:
//!
//!   L(k) + s·max(0, n·L̄ − L(heads)),  s: `pruning.head_shrinkage`, L̄: mean L of single heads, of all attentions with
//!   several heads

use super::options::PruningOptions;
use crate::space::{Candidates, DimensionKind};

/// Estimate of the rise of the loss, of any candidate of any dimension.
pub(super) struct EstimatedLoss {
    factor: f64,
    hidden_factor: f64,
    shrinkage: f64,
    /// L̄.
    mean: f64,
}

impl EstimatedLoss {
    /// The estimate for a network with these effects and candidates of its dimensions.
    pub(super) fn new<'a>(
        options: &PruningOptions,
        dimensions: impl Iterator<Item = (&'a [f64], &'a Candidates)>,
    ) -> Self {
        let singles =
            dimensions.flat_map(|(effects, candidates)| single_heads(effects, candidates));
        Self {
            factor: options.head_factor,
            hidden_factor: options.hidden_factor,
            shrinkage: options.head_shrinkage,
            mean: mean(&singles.collect::<Vec<_>>()),
        }
    }

    /// Returns L of the candidate that keeps the units `kept` of a dimension.
    ///
    /// `effects`: √B·e of its units, step by step.
    pub(super) fn of(
        &self,
        kind: DimensionKind,
        effects: &[f64],
        candidates: &Candidates,
        kept: &[i64],
    ) -> f64 {
        let [heads, channels] = candidates.unit_shape();
        let mut pruned = vec![true; candidates.units() as usize];
        let mut gone = vec![true; heads as usize];
        for &unit in kept {
            pruned[unit as usize] = false;
            gone[(unit / channels) as usize] = false;
        }
        let loss_of_all = loss(effects, &pruned);
        match gone.iter().filter(|own| **own).count() {
            0 if kind == DimensionKind::Hidden => self.hidden_factor * loss_of_all,
            0 => loss_of_all,
            // A removed branch without heads.
            _ if heads == 1 => self.factor * loss_of_all,
            fewer => {
                let of_heads: Vec<bool> =
                    gone.iter().flat_map(|&own| (0..channels).map(move |_| own)).collect();
                let below = (fewer as f64 * self.mean - loss(effects, &of_heads)).max(0.0);
                self.factor * (loss_of_all + self.shrinkage * below)
            }
        }
    }
}

/// Returns L of every single head; of a dimension with one head none.
fn single_heads(effects: &[f64], candidates: &Candidates) -> Vec<f64> {
    let [heads, channels] = candidates.unit_shape();
    let one = |head| (0..heads * channels).map(|unit| unit / channels == head).collect::<Vec<_>>();
    let heads = if heads > 1 { 0..heads } else { 0..0 };
    heads.map(|head| loss(effects, &one(head))).collect()
}

/// Returns the mean; 0 of no values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// ½·(mean over the steps of (Σ over pruned units of √B·e)²).
fn loss(effects: &[f64], pruned: &[bool]) -> f64 {
    let rows = effects.chunks_exact(pruned.len().max(1));
    let steps = rows.len().max(1) as f64;
    let sums = rows.map(|row| {
        let own = row.iter().zip(pruned).filter(|(_, pruned)| **pruned);
        own.map(|(effect, _)| effect).sum::<f64>().powi(2)
    });
    0.5 * sums.sum::<f64>() / steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;

    #[test]
    fn loss_of_hand_made_effects_is_half_the_mean_square_of_their_sum() {
        let effects = [1.0, 2.0, 4.0, 3.0, -1.0, 8.0];
        assert_eq!(loss(&effects, &[true, true, false]), 0.5 * (9.0 + 4.0) / 2.0);
        assert_eq!(loss(&effects, &[false; 3]), 0.0);
    }

    const FACTORS: EstimatedLoss =
        EstimatedLoss { factor: 5.0, hidden_factor: 3.0, shrinkage: 0.5, mean: 0.0 };

    /// Two heads of two channels: the first is not used.
    const EFFECTS: [f64; 4] = [0.0, 0.0, 1.0, 3.0];

    #[test]
    fn unused_head_counts_half_of_an_average_head_and_one_above_the_average_as_estimated(
    ) -> Result<()> {
        let candidates = Candidates::grid(2, 2, vec![1, 2], vec![1, 2])?.with_removal();
        let singles = single_heads(&EFFECTS, &candidates);
        assert_eq!(singles, [0.0, 8.0]);
        let estimate = EstimatedLoss { mean: mean(&singles), ..FACTORS };
        let kind = DimensionKind::Attention;
        let loss = |kept: &[i64]| estimate.of(kind, &EFFECTS, &candidates, kept);
        assert_eq!(loss(&[0, 1, 2, 3]), 0.0);
        assert_eq!(loss(&[0, 1, 2]), 4.5, "a channel: as estimated");
        assert_eq!(loss(&[2, 3]), 5.0 * 2.0, "the first head: half of the mean 4");
        assert_eq!(loss(&[0, 1]), 5.0 * 8.0, "the second, above the mean: as estimated");
        assert_eq!(loss(&[2]), 5.0 * (4.5 + 2.0), "the first head, and a channel in full");
        assert_eq!(loss(&[]), 5.0 * 8.0, "both");
        Ok(())
    }

    #[test]
    fn removed_mlp_counts_as_estimated_times_the_factor() -> Result<()> {
        let candidates = Candidates::flat(4, vec![2, 4])?.with_removal();
        assert!(single_heads(&EFFECTS, &candidates).is_empty());
        let estimate = EstimatedLoss { mean: 100.0, ..FACTORS };
        let loss = |kind, kept: &[i64]| estimate.of(kind, &EFFECTS, &candidates, kept);
        assert_eq!(loss(DimensionKind::Hidden, &[]), 5.0 * 8.0);
        assert_eq!(loss(DimensionKind::Hidden, &[0, 2]), 3.0 * 4.5, "narrower hidden layer");
        assert_eq!(loss(DimensionKind::Embedding, &[0, 2]), 4.5);
        Ok(())
    }

    #[test]
    fn loss_of_a_scaled_loss_is_scaled_by_the_square_in_every_dimension() {
        let effects = [0.5, -0.25, 1.0, 2.0];
        let scaled = effects.map(|effect| 5.0 * effect);
        for pruned in [[true, false], [false, true], [true, true]] {
            assert_eq!(loss(&scaled, &pruned), 25.0 * loss(&effects, &pruned));
        }
    }
}
