//! Dimensions, and their bindings to the axes of variables.

use super::{Candidates, Size};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Kind of a dimension: which part of a transformer its units belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DimensionKind {
    /// Width of the residual stream. Pruning it changes the mean and variance that LayerNorm
    /// computes, so the logits change.
    Embedding,
    /// Heads × channels of one attention, or the channels of its queries and keys alone. Pruning units whose gates are
    /// zero leaves the logits unchanged.
    Attention,
    /// Hidden width of one MLP. Pruning units whose gates are zero leaves the logits unchanged.
    Hidden,
}

/// What the entries of a bound axis correspond to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// One entry per unit: heads × channels.
    Units,
    /// One entry per head, as in a relative position bias table.
    Heads,
}

/// How a dimension acts on a bound axis.
///
/// All roles slice the axis when units are pruned. They differ in whether the gates multiply the
/// axis, and in how the entries of units to prune go to zero during a gate fade-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Multiplied by the gates m.
    Gated,
    /// Scale of a norm over the dimension whose output is gated, as after the patch embedding of a
    /// Swin: multiplied by the gates m, and reduced during a fade-out like
    /// [`Scaled`](Self::Scaled).
    GatedNorm,
    /// Output axis of a layer that writes into the dimension: the entries of units to prune go to
    /// zero during a fade-out.
    Written,
    /// Scale of a norm over the dimension. During a fade-out the entries of units to prune are
    /// multiplied by the remaining share r, those of the k kept among d units by √((k + r²(d − k))/d),
    /// because the faded units lower the variance that the norm divides by.
    Scaled,
    /// Sliced, nothing else. A variable that is bound so on another axis than the first is a layer that reads the units:
    /// the loss of pruning a unit is estimated over these
    /// ([`Decisions::Estimated`](crate::search::Decisions::Estimated)). Linear maps are stored `[out, in]`, as those of libtorch are.
    Narrowed,
}

impl Role {
    /// Returns whether the gates m multiply the axis.
    pub(crate) fn is_gated(self) -> bool {
        matches!(self, Self::Gated | Self::GatedNorm)
    }
}

/// One axis of one variable that a dimension indexes, laid out as outer × units × inner.
///
/// ```
/// use once_for_both::space::Binding;
///
/// // Rows of a fused qkv matrix, `[3 · units, embedding]`: q, k and v one after the other.
/// let rows = Binding::gated("blocks.0.attn.qkv.weight", 0).outer(3);
/// assert_eq!(rows.view(&[3 * 8, 16]), [3, 8, 16]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Name of the variable in the model's `VarStore`.
    pub variable: String,
    /// The bound axis of the variable, from 0.
    pub axis: usize,
    /// How often the sequence of all units is repeated: 3 for the rows of a fused qkv matrix.
    pub outer: i64,
    /// Consecutive entries of one unit: patch_size² where every unit has an entry per pixel of a patch.
    pub inner: i64,
    /// Whether the two entries of a unit are half a head apart instead of next to each other: each head
    /// has the first entries of its units, then the second ones. The units are pairs of channels that
    /// rotary positions turn together (`rotate_half`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub half_split: bool,
    /// Whether the axis has an entry per unit or per head.
    pub over: Over,
    /// How the dimension acts on the axis.
    pub role: Role,
}

impl Binding {
    /// Binds an axis that is multiplied by the gates ([`Role::Gated`]).
    pub fn gated(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Gated)
    }

    /// Binds the scale of a norm whose output is gated ([`Role::GatedNorm`]).
    pub fn gated_norm(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::GatedNorm)
    }

    /// Binds the output axis of a layer that writes into the dimension ([`Role::Written`]).
    pub fn written(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Written)
    }

    /// Binds the scale of a norm over the dimension ([`Role::Scaled`]).
    pub fn scaled(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Scaled)
    }

    /// Binds an axis that is only sliced ([`Role::Narrowed`]).
    pub fn narrowed(variable: impl Into<String>, axis: usize) -> Self {
        Self::new(variable, axis, Role::Narrowed)
    }

    fn new(variable: impl Into<String>, axis: usize, role: Role) -> Self {
        let (variable, over) = (variable.into(), Over::Units);
        Self { variable, axis, outer: 1, inner: 1, half_split: false, over, role }
    }

    /// Sets how often the sequence of all units is repeated along the axis.
    pub fn outer(mut self, outer: i64) -> Self {
        self.outer = outer;
        self
    }

    /// Sets the number of consecutive entries of one unit.
    pub fn inner(mut self, inner: i64) -> Self {
        self.inner = inner;
        self
    }

    /// Declares that the units are pairs of channels half a head apart: channel j of a head and channel
    /// j + D/2 belong to pair j. With it, heads × pairs units have 2 · heads · pairs entries.
    ///
    /// ```
    /// use once_for_both::space::{Binding, Candidates};
    ///
    /// // 4 heads of 8 pairs: query rows whose pairs are (j, j + 8) of each head.
    /// let rows = Binding::gated("q_proj.weight", 0).half_split();
    /// assert_eq!(rows.length(&Candidates::attention(4, 8)?), 64);
    /// # Ok::<(), once_for_both::Error>(())
    /// ```
    pub fn half_split(mut self) -> Self {
        self.half_split = true;
        self
    }

    /// Declares that the axis has an entry per head instead of per unit.
    pub fn over_heads(mut self) -> Self {
        self.over = Over::Heads;
        self
    }

    /// Returns the length the axis must have: outer · units (or heads; twice the units with
    /// [`half_split`](Self::half_split)) · inner.
    pub fn length(&self, candidates: &Candidates) -> i64 {
        let entries = self.entries(candidates.full());
        self.outer.saturating_mul(entries).saturating_mul(self.inner)
    }

    /// Returns whether a layer reads the units along the axis of this binding: it is sliced along an input axis, and not
    /// multiplied.
    pub(crate) fn reads(&self) -> bool {
        self.role == Role::Narrowed && self.over == Over::Units && self.axis > 0
    }

    /// Returns the number of entries at a size, without repetitions.
    pub(crate) fn entries(&self, size: Size) -> i64 {
        let entries = match self.over {
            Over::Units => size.units(),
            Over::Heads => size.heads,
        };
        if self.half_split {
            entries.saturating_mul(2)
        } else {
            entries
        }
    }

    /// Returns the unit (or head) of an entry, among heads of so many channels.
    pub(crate) fn unit_of(&self, entry: i64, channels: i64) -> i64 {
        let channels = channels.max(1);
        match self.half_split {
            true => entry / (2 * channels) * channels + entry % channels,
            false => entry,
        }
    }

    /// Returns the entries of units, in the order of `units`.
    ///
    /// `size`: heads × channels that `units` are. `channels`: channels of a head in the numbering of the
    /// units.
    ///
    /// # Shapes
    /// `units`: `[size.heads · size.channels]`, i64.
    pub(crate) fn entries_of(&self, units: &Tensor, size: Size, channels: i64) -> Result<Tensor> {
        if size.is_removed() {
            return Ok(units.shallow_clone());
        }
        let grid = || units.f_view([size.heads, size.channels]);
        match (self.over, self.half_split) {
            (Over::Units, false) => Ok(units.shallow_clone()),
            (Over::Heads, _) => heads_of(units, size, channels),
            (Over::Units, true) => {
                // Unit h·C + c has the entries h·2C + c and h·2C + C + c.
                let before = grid()?.f_divide_scalar_mode(channels, "floor")?;
                let first = grid()?.f_add(&before.f_mul_scalar(channels)?)?;
                let second = first.f_add_scalar(channels)?;
                Ok(Tensor::f_stack(&[first, second], 1)?.f_reshape([-1])?)
            }
        }
    }

    /// Returns the three-dimensional view of a variable of this shape: `[before · outer, entries,
    /// inner · after]`, with an entry a unit (or head; two a unit with
    /// [`half_split`](Self::half_split)), where `before` and `after` are the products of the lengths of the axes before
    /// and after the bound one.
    ///
    /// Gates, gradients and slices are computed on this view.
    ///
    /// # Panics
    /// If the shape has no such axis; [`SearchSpace::validate`](super::SearchSpace::validate) refuses
    /// such a binding.
    pub fn view(&self, shape: &[i64]) -> [i64; 3] {
        // Saturating: repetitions out of range are refused by `validate`, and must not overflow here.
        let product =
            |lengths: &[i64]| lengths.iter().fold(1i64, |all, &own| all.saturating_mul(own));
        let (before, after) = (product(&shape[..self.axis]), product(&shape[self.axis + 1..]));
        let units = shape[self.axis] / self.outer.saturating_mul(self.inner).max(1);
        [before.saturating_mul(self.outer), units, self.inner.saturating_mul(after)]
    }

    /// Returns `tensor` with these entries along the bound axis, in the order of `index`.
    ///
    /// # Shapes
    /// `index`: `[kept]`, i64, as [`entries_of`](Self::entries_of) returns it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tensor without such an axis.
    pub(crate) fn select(&self, tensor: &Tensor, index: &Tensor) -> Result<Tensor> {
        let mut shape = tensor.size();
        if shape.len() <= self.axis {
            let (name, expected) = (format!("axes of {}", self.variable), self.axis + 1);
            return Err(Error::invalid(name, format!("at least {expected}"), shape.len()));
        }
        let selected = tensor.f_reshape(self.view(&shape))?.f_index_select(1, index)?;
        shape[self.axis] = self.outer * index.size1()? * self.inner;
        Ok(selected.f_reshape(&shape[..])?)
    }
}

/// Returns the heads of units, which are `size.heads × size.channels` out of heads of `channels` channels.
///
/// # Shapes
/// `units`: `[size.heads · size.channels]`, i64. Result: `[size.heads]`, i64.
pub(crate) fn heads_of(units: &Tensor, size: Size, channels: i64) -> Result<Tensor> {
    if size.is_removed() {
        return Ok(units.shallow_clone());
    }
    let first = units.f_view([size.heads, size.channels])?.f_select(1, 0)?;
    Ok(first.f_divide_scalar_mode(channels, "floor")?)
}

fn is_false(own: &bool) -> bool {
    !own
}

/// A set of coupled prunable units: pruning one removes its entries from every bound axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimension {
    /// Unique name; [`Sizes`](super::Sizes) and the cost model refer to the dimension by it.
    pub name: String,
    /// Kind of the dimension.
    pub kind: DimensionKind,
    /// Candidate sizes.
    pub candidates: Candidates,
    /// All axes of variables that the units index.
    pub bindings: Vec<Binding>,
    /// Whether the network can be built without any unit: [`Architecture::resized`](crate::models::Architecture::resized)
    /// takes [`Size::REMOVED`](super::Size::REMOVED) for this dimension, and builds a network without the variables
    /// that would have nothing to compute. What the branch then adds is a constant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removable: bool,
}

impl Dimension {
    /// Returns a dimension without bindings.
    pub fn new(name: impl Into<String>, kind: DimensionKind, candidates: Candidates) -> Self {
        Self { name: name.into(), kind, candidates, bindings: Vec::new(), removable: false }
    }

    /// Declares that the network can be built without any unit of the dimension.
    pub fn removable(self) -> Self {
        Self { removable: true, ..self }
    }

    /// Returns the number of channels of one unit: 2 where rotary positions turn pairs of channels. It is the least
    /// number of entries of a unit in a variable that is gated.
    pub fn channels_per_unit(&self) -> i64 {
        let gated =
            self.bindings.iter().filter(|own| own.role.is_gated() && own.over == Over::Units);
        let halves = |own: &Binding| if own.half_split { 2 } else { 1 };
        gated.map(|own| own.inner.saturating_mul(halves(own))).min().unwrap_or(1).max(1)
    }

    /// Returns a size in channels instead of units: its channels times [`channels_per_unit`](Self::channels_per_unit).
    ///
    /// ```
    /// use once_for_both::space::{Binding, Candidates, Dimension, DimensionKind, Size};
    ///
    /// // 4 heads of 8 pairs.
    /// let pairs = Dimension::new("attn", DimensionKind::Attention, Candidates::attention(4, 8)?)
    ///     .bind(Binding::gated("q_proj.weight", 0).half_split());
    /// assert_eq!(pairs.in_channels(Size { heads: 2, channels: 5 }), Size { heads: 2, channels: 10 });
    /// # Ok::<(), once_for_both::Error>(())
    /// ```
    pub fn in_channels(&self, size: Size) -> Size {
        Size { channels: size.channels.saturating_mul(self.channels_per_unit()), ..size }
    }

    /// Returns whether a binding of a layer that reads the units is declared.
    pub(crate) fn has_readers(&self) -> bool {
        self.bindings.iter().any(Binding::reads)
    }

    /// Adds a binding.
    pub fn bind(mut self, binding: Binding) -> Self {
        self.bindings.push(binding);
        self
    }
}
