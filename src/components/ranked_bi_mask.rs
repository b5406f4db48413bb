//! The paper's bi-mask (section 3.2), of all dimensions at once.

use super::bi_mask::{check_lambda, mixed};
use super::rank::ranks;
use super::{BiMask, ComponentId, Mask, UnitState};
use crate::error::expect_shape;
use crate::space::{ActiveSet, ActiveSets, DimensionGroup};
use crate::tensors::widened;
use crate::Result;
use tch::{Kind, Tensor};

/// The paper's bi-mask: S = σ(s), and V = Σ p over the active candidates that keep a unit of this
/// rank (paper section 3.2).
///
/// In a flat dimension with widths w_k, a unit of rank r has V = Σ_{k: w_k > r} p_k. In attention
/// with candidates (h_a, c_b), channel j of head i has V = Σ_{h_a > ρ, c_b > r} p_ab: ρ is the
/// rank of the head by the sum of its channels' S ([`head_ranks`](super::head_ranks)), r the rank of
/// the channel by score within its head ([`ranks`]). q, k and v of a head share the bi-mask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RankedBiMask;

impl RankedBiMask {
    /// Name in its id.
    pub(super) const NAME: &'static str = "ranked";
}

impl BiMask for RankedBiMask {
    fn id(&self) -> ComponentId {
        ComponentId::new(Self::NAME)
    }

    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        Ok(score.f_sigmoid()?)
    }

    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        let units = state.active.candidates().unit_shape();
        expect_shape("sparsity", "score", state.score, &units)?;
        expect_shape("sparsity", "importance", importance, &units)?;
        let sets = state.active.alone()?;
        let (score, importance) = (state.score.f_reshape([-1])?, importance.f_reshape([-1])?);
        let sparsity = sparsities(&[state], sets, &score, &importance)?;
        Ok(sparsity.f_view(units)?.f_to_kind(state.alpha.kind())?)
    }

    fn masks(&self, states: &[UnitState], sets: &ActiveSets, lambda: f64) -> Result<Vec<Mask>> {
        check_lambda("lambda", lambda)?;
        let scores: Vec<&Tensor> = states.iter().map(|state| state.score).collect();
        let score = sets.join_units("score", &scores)?;
        let importance = self.importance(&score)?;
        let sparsity = sparsities(states, sets, &score, &importance)?;
        let mask = mixed(&importance, &sparsity, lambda)?;
        let sparsity = sparsity.f_to_kind(importance.kind())?;
        let split = |flat: &Tensor| sets.split_units(flat);
        let terms = split(&importance)?.into_iter().zip(split(&sparsity)?).zip(split(&mask)?);
        let mask = |((importance, sparsity), mask)| Mask { importance, sparsity, mask };
        Ok(terms.map(mask).collect())
    }
}

/// Returns V of every unit of all dimensions, flat, f32 at least.
///
/// `score`, `importance`: over the units of all dimensions, flat.
fn sparsities(
    states: &[UnitState],
    sets: &ActiveSets,
    score: &Tensor,
    importance: &Tensor,
) -> Result<Tensor> {
    let alphas: Vec<&Tensor> = states.iter().map(|state| state.alpha).collect();
    let (score, importance) = (score.f_detach()?, importance.f_detach()?);
    let p = sets.logits(&alphas)?.f_softmax(-1, None)?;
    let groups = sets.groups().iter().zip(sets.by_group(&p)?);
    let own = groups.map(|(group, p)| {
        let heads = head_ranks(group, states, &importance)?;
        let channels = ranks(&group.pad_units(&score, f64::NEG_INFINITY)?)?;
        survival(group, &p, &heads, &channels)
    });
    sets.unpad_units(&own.collect::<Result<Vec<_>>>()?)
}

/// Returns the ranks of the heads of a group, `[d, h]`.
fn head_ranks(group: &DimensionGroup, states: &[UnitState], importance: &Tensor) -> Result<Tensor> {
    let [dimensions, heads, _] = group.units_shape;
    if heads == 1 {
        return Ok(group.heads.f_new_zeros([dimensions, 1], (Kind::Int64, importance.device()))?);
    }
    // Heads of padding have importance 0 and come last: ties go to the lower index.
    let padded = widened(&group.pad_units(importance, 0.0)?)?;
    let sums = padded.f_sum_dim_intlist([2i64].as_slice(), false, None)?;
    let pruned = || group.dimensions.iter().map(|&at| states[at].pruned_importance);
    if pruned().all(|own| own.is_none()) {
        return ranks(&sums);
    }
    let none = sums.f_new_zeros([heads], (sums.kind(), sums.device()))?;
    let pruned = pruned().map(|own| match own {
        Some(own) => own.f_constant_pad_nd([0, heads - own.size()[0]]),
        None => Ok(none.shallow_clone()),
    });
    let pruned: Vec<Tensor> = pruned.collect::<std::result::Result<_, _>>()?;
    ranks(&sums.f_add(&Tensor::f_stack(&pruned, 0)?)?)
}

/// Returns V of units with these ranks: Σ p over the candidates with more heads than the rank of the
/// head, and more channels than that of the channel.
///
/// It is a product of a 0/1 matrix, units × candidates, and p. To gather cumulative sums of p by rank would be as good, but
/// its gradient adds by index, on CUDA in another order every time.
///
/// # Shapes
/// `p`: `[d, k]`; `heads`: `[d, h]`; `channels`: `[d, h, c]`. Result: `[d, h, c]`.
fn survival(
    group: &DimensionGroup,
    p: &Tensor,
    heads: &Tensor,
    channels: &Tensor,
) -> Result<Tensor> {
    let [dimensions, count, width] = group.units_shape;
    let keeps = channels
        .f_unsqueeze(3)?
        .f_lt_tensor(&group.channels.f_view([dimensions, 1, 1, -1])?)?
        .f_logical_and(
            &heads
                .f_view([dimensions, count, 1, 1])?
                .f_lt_tensor(&group.heads.f_view([dimensions, 1, 1, -1])?)?,
        )?;
    let keeps = keeps.f_view([dimensions, count * width, -1])?.f_to_kind(p.kind())?;
    // A sum of probabilities can exceed 1 by rounding only.
    let sums = keeps.f_bmm(&p.f_unsqueeze(2)?)?.f_clamp_max(1.0)?;
    Ok(sums.f_view([dimensions, count, width])?)
}

/// Returns V for every rank of head and channel, `[heads, channels]`:
/// `V[ρ, r] = Σ_{h_a > ρ, c_b > r} p_ab` over the active candidates (paper section 3.2).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if α does not have the shape of the candidates.
pub fn survival_by_rank(alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
    let sets = active.alone()?;
    let [heads, channels] = active.candidates().unit_shape();
    let first = |count: i64| Tensor::f_arange(count, (Kind::Int64, alpha.device()));
    let (rows, columns) = (first(heads)?.f_unsqueeze(0)?, first(channels)?);
    let columns = columns.f_expand([1, heads, channels], false)?;
    let p = sets.logits(&[alpha])?.f_softmax(-1, None)?;
    let own = sets.groups().iter().map(|group| survival(group, &p, &rows, &columns));
    let flat = sets.unpad_units(&own.collect::<Result<Vec<_>>>()?)?;
    Ok(flat.f_view([heads, channels])?.f_to_kind(alpha.kind())?)
}
