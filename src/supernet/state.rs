//! What the search learns about one dimension.

use super::flat::{heads_of, narrow_flat};
use super::landing::Landing;
use crate::error::expect_shape;
use crate::mask::{
    expect_finite, head_ranks, most_important, BiMask, Mask, RankedBiMask, UnitState,
};
use crate::space::{ActiveSet, Cells, Dimension, Size};
use crate::Result;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// Scores, cell logits and active cells of one dimension.
#[derive(Debug)]
pub struct DimensionState {
    /// Name of the dimension.
    pub name: String,
    /// Scores, `[heads, channels]`; a leaf of the autograd graph.
    pub score: Tensor,
    /// Cell logits α, `[head counts, channel widths]`; a leaf of the autograd graph.
    pub alpha: Tensor,
    /// Cells still in the running.
    pub active: ActiveSet,
    /// Number of cells the search began with: what an entropy is held against.
    pub cells_at_start: usize,
    /// For every unit left, its index in the dense network: flat, heads × channels.
    pub origin: Vec<i64>,
    /// Importance of channels that have left, by head, `[heads]`: heads keep their order at a cut.
    pub departed: Option<Tensor>,
    /// The cut that is under way, if there is one.
    pub landing: Option<Landing>,
    pub(super) bi_mask: Rc<dyn BiMask>,
}

impl DimensionState {
    /// A dimension with all cells active, equal α and equal scores, and the paper's bi-mask.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the device refuses memory.
    pub fn new(dimension: &Dimension, device: Device) -> Result<Self> {
        let cells = &dimension.cells;
        let zeros = |shape: [i64; 2]| -> Result<Tensor> {
            Ok(Tensor::f_zeros(shape, (Kind::Float, device))?.f_set_requires_grad(true)?)
        };
        Ok(Self {
            name: dimension.name.clone(),
            score: zeros(cells.unit_shape())?,
            alpha: zeros(cells.shape())?,
            active: ActiveSet::all(cells, device)?,
            cells_at_start: cells.len(),
            origin: (0..cells.units()).collect(),
            departed: None,
            landing: None,
            bi_mask: Rc::new(RankedBiMask),
        })
    }

    /// The cells of the dimension.
    pub fn cells(&self) -> &Cells {
        self.active.cells()
    }

    /// Numbers of the cells, active or dropped, whose units are all there and stay in a landing
    /// that is under way; of a decided dimension only its own.
    pub fn possible_cells(&self) -> Vec<usize> {
        if let Some(decided) = self.active.decided() {
            return vec![decided];
        }
        let most = self.landing.as_ref().map_or(self.cells().full(), |landing| landing.size);
        let sizes = self.cells().sizes().enumerate();
        let within = |size: Size| size.heads <= most.heads && size.channels <= most.channels;
        sizes.filter(|(_, size)| within(*size)).map(|(cell, _)| cell).collect()
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
        expect_shape("set_score", &self.score_name(), score, &self.cells().unit_shape())?;
        expect_finite("score", &self.name, score)?;
        Ok(tch::no_grad(|| self.score.f_copy_(score))?)
    }

    /// Overwrites α.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if it is not `[head counts, channel widths]`,
    /// [`crate::Error::NonFinite`] if an entry is not finite.
    pub fn set_alpha(&mut self, alpha: &Tensor) -> Result<()> {
        expect_shape("set_alpha", &self.alpha_name(), alpha, &self.cells().shape())?;
        expect_finite("alpha", &self.name, alpha)?;
        Ok(tch::no_grad(|| self.alpha.f_copy_(alpha))?)
    }

    /// Sets which cells are active, one flag a cell.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if no flag is set or their number is not that of the cells.
    pub fn set_active(&mut self, flags: Vec<bool>) -> Result<()> {
        self.active = ActiveSet::new(self.cells(), flags, self.score.device())?;
        match &mut self.landing {
            Some(landing) => landing.follow(&self.active),
            None => Ok(()),
        }
    }

    /// The bi-mask at λ, with gradients to scores and α; on its way down where units are landing.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if λ is outside [0, 1].
    pub fn mask(&self, lambda: f64) -> Result<Mask> {
        let state = UnitState {
            score: &self.score,
            alpha: &self.alpha,
            active: &self.active,
            departed: self.departed.as_ref(),
        };
        match &self.landing {
            None => self.bi_mask.mask(state, lambda),
            Some(landing) => {
                let departed = tch::no_grad(|| self.departed_at(&landing.kept, landing.size))?;
                landing.mask(&*self.bi_mask, state, &departed, lambda)
            }
        }
    }

    /// Flat indices of the units that would survive at `size`: those that a landing keeps, or the
    /// most important.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if `size` exceeds the grid.
    pub fn survivors(&self, size: Size) -> Result<Tensor> {
        if let Some(landing) = self.landing.as_ref().filter(|landing| landing.size == size) {
            return Ok(landing.kept.shallow_clone());
        }
        tch::no_grad(|| {
            let importance = self.bi_mask.importance(&self.score)?;
            most_important(&self.score, &head_ranks(&importance, self.departed.as_ref())?, size)
        })
    }

    /// Importance that leaves each of the kept heads, with what left before.
    pub(super) fn departed_at(&self, kept: &Tensor, size: Size) -> Result<Tensor> {
        let importance = self.bi_mask.importance(&self.score)?;
        let staying = narrow_flat(&importance, kept, [size.heads, size.channels])?;
        let sums = |tensor: &Tensor| tensor.f_sum_dim_intlist([1i64].as_slice(), false, None);
        let mut all = sums(&importance)?;
        if let Some(departed) = &self.departed {
            all = all.f_add(departed)?;
        }
        let heads = heads_of(kept, size, self.cells().channels())?;
        Ok(all.f_index_select(0, &heads)?.f_sub(&sums(&staying)?)?)
    }

    /// The state of the units `kept`, a grid of `size`, in the order given.
    pub(super) fn narrowed(&self, kept: &Tensor, size: Size) -> Result<Self> {
        let (active, kept_cells) = self.active.narrowed(size)?;
        let (units, shape) = (active.cells().unit_shape(), active.cells().shape());
        let origin: Vec<i64> = Vec::try_from(kept.f_to_device(Device::Cpu)?)?;
        let leaf = |tensor: Tensor| tensor.f_detach()?.f_set_requires_grad(true);
        tch::no_grad(|| {
            Ok(Self {
                name: self.name.clone(),
                score: leaf(narrow_flat(&self.score, kept, units)?)?,
                alpha: leaf(narrow_flat(&self.alpha, &kept_cells, shape)?)?,
                active,
                cells_at_start: self.cells_at_start,
                origin: origin.iter().map(|&unit| self.origin[unit as usize]).collect(),
                departed: Some(self.departed_at(kept, size)?),
                landing: None,
                bi_mask: Rc::clone(&self.bi_mask),
            })
        })
    }
}
