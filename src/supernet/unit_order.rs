//! Order of units by importance, on the host.

use super::DimensionState;
use crate::components::ranks;
use crate::space::Size;
use crate::Result;
use tch::{Kind, Tensor};

/// Ranks of the heads of a dimension, and of the channels within each head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitOrder {
    heads: Vec<i64>,
    /// Head by head.
    channels: Vec<i64>,
}

impl UnitOrder {
    /// Returns ranks of heads, then of channels, `[heads + units]`, f64, on the device.
    pub(crate) fn ranks(state: &DimensionState) -> Result<Tensor> {
        let (scores, heads) = state.order()?;
        let channels = ranks(&scores)?.f_reshape([-1])?;
        Ok(Tensor::f_cat(&[heads, channels], 0)?.f_to_kind(Kind::Double)?)
    }

    /// Number of ranks of a dimension.
    pub(crate) fn length(state: &DimensionState) -> usize {
        (state.candidates().heads() + state.candidates().units()) as usize
    }

    /// Takes ranks apart, as [`ranks`](Self::ranks) returns them.
    pub(crate) fn from_host(ranks: &[f64], heads: i64) -> Self {
        let whole = |own: &[f64]| own.iter().map(|&rank| rank as i64).collect();
        let (heads, channels) = ranks.split_at(heads as usize);
        Self { heads: whole(heads), channels: whole(channels) }
    }

    /// Returns the flat indices of the units kept at `size`, ascending: those of the highest-ranked
    /// heads, and in each head the channels with the highest scores
    /// ([`most_important`](crate::components::most_important)).
    pub(crate) fn kept(&self, size: Size) -> Vec<i64> {
        let width = self.channels.len() / self.heads.len().max(1);
        let heads = self.heads.iter().zip(self.channels.chunks(width.max(1)));
        let places = heads.zip(0i64..).flat_map(|((&head, channels), at)| {
            let kept = move |(&rank, _): &(&i64, i64)| head < size.heads && rank < size.channels;
            let first = at * width as i64;
            channels.iter().zip(first..).filter(kept).map(|(_, place)| place)
        });
        places.collect()
    }
}
