//! State of one dimension: scores, α, active candidates, fade-out.

use super::fade_out::FadeOut;
use super::flat::{indices, narrow_flat};
use crate::components::{expect_finite, head_ranks, most_important, BiMask, RankedBiMask};
use crate::error::expect_shape;
use crate::models::Shapes;
use crate::space::{heads_of, ActiveSet, Candidates, Dimension, SearchSpace, Size};
use crate::{Error, Result};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Scores, candidate logits and active candidates of one dimension.
#[derive(Debug)]
pub struct DimensionState {
    /// Name of the dimension.
    pub name: String,
    /// Importance scores s, `[heads, channels]`; a leaf of the autograd graph.
    pub score: Tensor,
    /// Candidate logits α, of the shape [`Candidates::shape`], in the order of `candidates().sizes()`; a leaf of the
    /// autograd graph.
    pub alpha: Tensor,
    /// Active candidates.
    pub active: ActiveSet,
    /// Number of candidates at the start of the search; logged entropies are divided by its
    /// logarithm.
    pub candidates_at_start: usize,
    /// Flat index in the dense network of every unit that is left.
    pub origin: Vec<i64>,
    /// Sum of the importance of pruned channels, by head, `[heads]`. Added to the sum of the
    /// channels left, it keeps the ranks of heads when channels are pruned.
    pub pruned_importance: Option<Tensor>,
    /// Gate fade-out in progress, or pruning in place.
    pub fade_out: Option<FadeOut>,
    pub(super) bi_mask: Arc<dyn BiMask>,
}

/// Refuses variables with the parameter name of the scores or of α of a dimension: optimiser, EMA and pruning know
/// parameters by their names.
///
/// # Errors
/// [`Error::Invalid`] naming the dimension.
pub(super) fn expect_free_names(space: &SearchSpace, variables: &Shapes) -> Result<()> {
    for Dimension { name, .. } in &space.dimensions {
        for (term, own) in [
            ("the scores", DimensionState::score_name_of(name)),
            ("α", DimensionState::alpha_name_of(name)),
        ] {
            if variables.contains_key(&own) {
                let expected = "a name that no variable of the network has; rename the dimension, or the variable";
                return Err(Error::invalid(format!("name of {term} of {name}"), expected, own));
            }
        }
    }
    Ok(())
}

impl DimensionState {
    /// Creates a state with all candidates active, α = 0, s = 0, and the paper's bi-mask.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the device is out of memory.
    pub fn new(dimension: &Dimension, device: Device) -> Result<Self> {
        let candidates = &dimension.candidates;
        let zeros = |shape: [i64; 2]| -> Result<Tensor> {
            Ok(Tensor::f_zeros(shape, (Kind::Float, device))?.f_set_requires_grad(true)?)
        };
        Ok(Self {
            name: dimension.name.clone(),
            score: zeros(candidates.unit_shape())?,
            alpha: zeros(candidates.shape())?,
            active: ActiveSet::all(candidates, device)?,
            candidates_at_start: candidates.len(),
            origin: (0..candidates.units()).collect(),
            pruned_importance: None,
            fade_out: None,
            bi_mask: Arc::new(RankedBiMask),
        })
    }

    /// Candidates of the dimension at its present size.
    pub fn candidates(&self) -> &Candidates {
        self.active.candidates()
    }

    /// Returns the indices of all candidates, active or dropped, that fit into the units that are
    /// left and that a fade-out in progress keeps. If the dimension is decided, its only candidate.
    pub fn possible_candidates(&self) -> Vec<usize> {
        if let Some(decided) = self.active.decided() {
            return vec![decided];
        }
        let most =
            self.fade_out.as_ref().map_or(self.candidates().full(), |fade_out| fade_out.size);
        let sizes = self.candidates().sizes().enumerate();
        sizes.filter(|(_, size)| size.fits_into(most)).map(|(candidate, _)| candidate).collect()
    }

    /// Parameter name of the scores.
    pub fn score_name(&self) -> String {
        Self::score_name_of(&self.name)
    }

    /// Parameter name of α.
    pub fn alpha_name(&self) -> String {
        Self::alpha_name_of(&self.name)
    }

    pub(crate) fn score_name_of(dimension: &str) -> String {
        format!("{dimension}.score")
    }

    pub(crate) fn alpha_name_of(dimension: &str) -> String {
        format!("{dimension}.alpha")
    }

    /// Sets the scores.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if they are not `[heads, channels]`, [`crate::Error::NonFinite`]
    /// if one is not finite.
    pub fn set_score(&mut self, score: &Tensor) -> Result<()> {
        expect_finite("score", &self.name, score)?;
        self.copy_score(score)
    }

    /// Sets the scores without a check that they are finite, which would wait for the device.
    pub(crate) fn copy_score(&mut self, score: &Tensor) -> Result<()> {
        expect_shape("set_score", &self.score_name(), score, &self.candidates().unit_shape())?;
        Ok(crate::autograd::no_grad(|| self.score.f_copy_(score))?)
    }

    /// Sets α.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if it has not the shape [`Candidates::shape`],
    /// [`crate::Error::NonFinite`] if an entry is not finite.
    pub fn set_alpha(&mut self, alpha: &Tensor) -> Result<()> {
        expect_shape("set_alpha", &self.alpha_name(), alpha, &self.candidates().shape())?;
        expect_finite("alpha", &self.name, alpha)?;
        Ok(crate::autograd::no_grad(|| self.alpha.f_copy_(alpha))?)
    }

    /// Sets the active candidates, one flag per candidate.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if no flag is set, or there are more or fewer flags than
    /// candidates.
    pub fn set_active(&mut self, flags: Vec<bool>) -> Result<()> {
        self.active = ActiveSet::new(self.candidates(), flags, self.score.device())?;
        match &mut self.fade_out {
            Some(fade_out) => fade_out.set_active(&self.active),
            None => Ok(()),
        }
    }

    /// Returns the flat indices of the units that pruning to `size` keeps: those of a fade-out to
    /// that size, else those with the highest importance ([`most_important`]) of those not pruned in place.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if `size` exceeds heads or channels.
    pub fn kept_units(&self, size: Size) -> Result<Tensor> {
        if let Some(fade_out) = self.fade_out.as_ref().filter(|fade_out| fade_out.size == size) {
            return Ok(fade_out.kept.shallow_clone());
        }
        crate::autograd::no_grad(|| {
            let (scores, head_ranks) = self.order()?;
            most_important(&scores, &head_ranks, size)
        })
    }

    /// Returns what units are ordered by: the scores, `[heads, channels]`, and the ranks of the heads. Units that were
    /// pruned in place come last.
    pub(super) fn order(&self) -> Result<(Tensor, Tensor)> {
        let (scores, importance) = (self.score.f_detach()?, self.bi_mask.importance(&self.score)?);
        let Some(own) = self.fade_out.as_ref().filter(|own| own.in_place) else {
            return Ok((scores, head_ranks(&importance, self.pruned_importance.as_ref())?));
        };
        let all = scores.f_ones_like()?.f_flatten(0, -1)?;
        let pruned =
            all.f_index_fill(0, &own.kept, 0.0)?.f_view_as(&scores)?.f_to_kind(Kind::Bool)?;
        let importance = importance.f_masked_fill(&pruned, 0.0)?;
        // Importance is at least 0.
        let importance = importance.f_masked_fill(&pruned.f_all_dim(1, true)?, -1.0)?;
        Ok((scores.f_masked_fill(&pruned, f64::NEG_INFINITY)?, head_ranks(&importance, None)?))
    }

    /// Returns the units that are not fading out: their flat indices among the present units, and
    /// in the dense network, i64 on the device.
    pub(crate) fn staying_units(&self) -> Result<[Tensor; 2]> {
        let device = self.score.device();
        let own = match &self.fade_out {
            Some(fade_out) => fade_out.kept.shallow_clone(),
            None => Tensor::f_arange(self.candidates().units(), (Kind::Int64, device))?,
        };
        let dense = indices(&self.origin, device)?.f_index_select(0, &own)?;
        Ok([own, dense])
    }

    /// Returns [`pruned_importance`](Self::pruned_importance) of the kept heads after pruning to
    /// `kept`, `[size.heads]`.
    pub(super) fn pruned_importance_at(&self, kept: &Tensor, size: Size) -> Result<Tensor> {
        let importance = self.bi_mask.importance(&self.score)?;
        let staying = narrow_flat(&importance, kept, [size.heads, size.channels])?;
        let sums = |tensor: &Tensor| tensor.f_sum_dim_intlist([1i64].as_slice(), false, None);
        let mut all = sums(&importance)?;
        if let Some(pruned_importance) = &self.pruned_importance {
            all = all.f_add(pruned_importance)?;
        }
        let heads = heads_of(kept, size, self.candidates().channels())?;
        Ok(all.f_index_select(0, &heads)?.f_sub(&sums(&staying)?)?)
    }

    /// Returns the state of the units `kept`, which are `size.heads × size.channels`, in their
    /// order.
    pub(super) fn narrowed(&self, kept: &[i64], size: Size) -> Result<Self> {
        let (active, kept_candidates) = self.active.narrowed(size)?;
        let (units, shape) = (active.candidates().unit_shape(), active.candidates().shape());
        let origin = |unit: &i64| self.origin.get(usize::try_from(*unit).ok()?).copied();
        let origin: Option<Vec<i64>> = kept.iter().map(origin).collect();
        let origin = origin.ok_or_else(|| {
            let name = format!("number of origins of {}", self.name);
            Error::invalid(name, self.candidates().units().to_string(), self.origin.len())
        })?;
        let kept = &indices(kept, self.score.device())?;
        let leaf = |tensor: Tensor| tensor.f_detach()?.f_set_requires_grad(true);
        crate::autograd::no_grad(|| {
            Ok(Self {
                name: self.name.clone(),
                score: leaf(narrow_flat(&self.score, kept, units)?)?,
                alpha: leaf(narrow_flat(&self.alpha, &kept_candidates, shape)?)?,
                active,
                candidates_at_start: self.candidates_at_start,
                origin,
                pruned_importance: Some(self.pruned_importance_at(kept, size)?),
                fade_out: None,
                bi_mask: Arc::clone(&self.bi_mask),
            })
        })
    }
}
