//! What the search learns about one dimension.

use super::fade_out::FadeOut;
use super::flat::{heads_of, narrow_flat};
use crate::components::{
    expect_finite, head_ranks, most_important, BiMask, Mask, RankedBiMask, UnitState,
};
use crate::error::expect_shape;
use crate::space::{ActiveSet, Candidates, Dimension, Size};
use crate::Result;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Scores, candidate logits and active candidates of one dimension.
#[derive(Debug)]
pub struct DimensionState {
    /// Name of the dimension.
    pub name: String,
    /// Scores, `[heads, channels]`; a leaf of the autograd graph.
    pub score: Tensor,
    /// Candidate logits α, `[head counts, channel widths]`; a leaf of the autograd graph.
    pub alpha: Tensor,
    /// Candidates still in the running.
    pub active: ActiveSet,
    /// Number of candidates the search began with: what an entropy is held against.
    pub candidates_at_start: usize,
    /// For every unit left, its index in the dense network: flat, heads × channels.
    pub origin: Vec<i64>,
    /// Importance of channels that have left, by head, `[heads]`: heads keep their order at a cut.
    pub pruned_importance: Option<Tensor>,
    /// The cut that is under way, if there is one.
    pub fade_out: Option<FadeOut>,
    pub(super) bi_mask: Arc<dyn BiMask>,
}

impl DimensionState {
    /// A dimension with all candidates active, equal α and equal scores, and the paper's bi-mask.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the device refuses memory.
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

    /// The candidates of the dimension.
    pub fn candidates(&self) -> &Candidates {
        self.active.candidates()
    }

    /// Numbers of the candidates, active or dropped, whose units are all there and stay in a fade-out
    /// that is under way; of a decided dimension only its own.
    pub fn possible_candidates(&self) -> Vec<usize> {
        if let Some(decided) = self.active.decided() {
            return vec![decided];
        }
        let most =
            self.fade_out.as_ref().map_or(self.candidates().full(), |fade_out| fade_out.size);
        let sizes = self.candidates().sizes().enumerate();
        let within = |size: Size| size.heads <= most.heads && size.channels <= most.channels;
        sizes.filter(|(_, size)| within(*size)).map(|(candidate, _)| candidate).collect()
    }

    /// Name of the scores among the parameters.
    pub fn score_name(&self) -> String {
        format!("{}.score", self.name)
    }

    /// Name of α among the parameters.
    pub fn alpha_name(&self) -> String {
        format!("{}.alpha", self.name)
    }

    /// Overwrites the scores.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if they are not `[heads, channels]`, [`crate::Error::NonFinite`]
    /// if one is not finite.
    pub fn set_score(&mut self, score: &Tensor) -> Result<()> {
        expect_shape("set_score", &self.score_name(), score, &self.candidates().unit_shape())?;
        expect_finite("score", &self.name, score)?;
        Ok(tch::no_grad(|| self.score.f_copy_(score))?)
    }

    /// Overwrites α.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if it is not `[head counts, channel widths]`,
    /// [`crate::Error::NonFinite`] if an entry is not finite.
    pub fn set_alpha(&mut self, alpha: &Tensor) -> Result<()> {
        expect_shape("set_alpha", &self.alpha_name(), alpha, &self.candidates().shape())?;
        expect_finite("alpha", &self.name, alpha)?;
        Ok(tch::no_grad(|| self.alpha.f_copy_(alpha))?)
    }

    /// Sets which candidates are active, one flag a candidate.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if no flag is set or their number is not that of the candidates.
    pub fn set_active(&mut self, flags: Vec<bool>) -> Result<()> {
        self.active = ActiveSet::new(self.candidates(), flags, self.score.device())?;
        match &mut self.fade_out {
            Some(fade_out) => fade_out.set_active(&self.active),
            None => Ok(()),
        }
    }

    /// The bi-mask at λ, with gradients to scores and α; on its way down where units are fade-out.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if λ is outside [0, 1].
    pub fn mask(&self, lambda: f64) -> Result<Mask> {
        let state = UnitState {
            score: &self.score,
            alpha: &self.alpha,
            active: &self.active,
            pruned_importance: self.pruned_importance.as_ref(),
        };
        match &self.fade_out {
            None => self.bi_mask.mask(state, lambda),
            Some(fade_out) => {
                let pruned_importance =
                    tch::no_grad(|| self.pruned_importance_at(&fade_out.kept, fade_out.size))?;
                fade_out.mask(&*self.bi_mask, state, &pruned_importance, lambda)
            }
        }
    }

    /// Flat indices of the units that would survive at `size`: those that a fade-out keeps, or the
    /// most important.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if `size` exceeds the grid.
    pub fn kept_units(&self, size: Size) -> Result<Tensor> {
        if let Some(fade_out) = self.fade_out.as_ref().filter(|fade_out| fade_out.size == size) {
            return Ok(fade_out.kept.shallow_clone());
        }
        tch::no_grad(|| {
            let importance = self.bi_mask.importance(&self.score)?;
            most_important(
                &self.score,
                &head_ranks(&importance, self.pruned_importance.as_ref())?,
                size,
            )
        })
    }

    /// Importance that leaves each of the kept heads, with what left before.
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

    /// The state of the units `kept`, a grid of `size`, in the order given.
    pub(super) fn narrowed(&self, kept: &Tensor, size: Size) -> Result<Self> {
        let (active, kept_candidates) = self.active.narrowed(size)?;
        let (units, shape) = (active.candidates().unit_shape(), active.candidates().shape());
        let origin: Vec<i64> = Vec::try_from(kept.f_to_device(Device::Cpu)?)?;
        let leaf = |tensor: Tensor| tensor.f_detach()?.f_set_requires_grad(true);
        tch::no_grad(|| {
            Ok(Self {
                name: self.name.clone(),
                score: leaf(narrow_flat(&self.score, kept, units)?)?,
                alpha: leaf(narrow_flat(&self.alpha, &kept_candidates, shape)?)?,
                active,
                candidates_at_start: self.candidates_at_start,
                origin: origin.iter().map(|&unit| self.origin[unit as usize]).collect(),
                pruned_importance: Some(self.pruned_importance_at(kept, size)?),
                fade_out: None,
                bi_mask: Arc::clone(&self.bi_mask),
            })
        })
    }
}
