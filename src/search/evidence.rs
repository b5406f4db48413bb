//! Estimated losses: how much the loss would rise if a dimension were pruned to each candidate size.
//!
//! In a step, the first-order effect e_u of pruning unit u on the mean loss of the B images is minus what u adds to the
//! layers that read it, times the gradient of the loss there:
//!
//!   e_u = −Σ θ·∂L/∂θ over the columns of u in these layers.
//!
//! A channel of a head acts through its value, which the output projection reads, and through the product of query and
//! key, which no layer reads. Its gate m multiplies all three, so m·∂L/∂m is the effect of the value and twice
//! that of the product, and
//!
//!   e_u = −½·(m_u·∂L/∂m_u + Σ θ·∂L/∂θ).
//!
//! The effect of pruning the set U is Σ_{u∈U} e_u. In a trained network its mean is near zero and says
//! little; its variance over images is, by the Gauss–Newton (Fisher) approximation of the Hessian, the
//! second-order term:
//!
//!   L(k) = ½·B·E[(Σ_{u∈U(k)} e_u)²],  U(k): the units that candidate k does not keep,
//!
//! with the mean over the last steps (Fisher pruning, Theis et al. 2018, arXiv 1801.05787; here for
//! sets of units). L is in units of the loss, so it can be added over dimensions.

use super::estimated_loss::EstimatedLoss;
use super::readout::DimensionReadout;
use super::step::Search;
use crate::models::Architecture;
use crate::optim::FlatTensors;
use crate::space::{Binding, Dimension, DimensionKind, SearchSpace};
use crate::supernet::Narrowing;
use crate::tensors::{blocks, joined};
use crate::Result;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::Tensor;

/// Most optimiser steps whose effects are kept.
pub(super) const WINDOW: i64 = 60;

/// First-order effects of the units of all dimensions in the last optimiser steps.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// √B·e, `[steps, units]`, dimension by dimension; `None` before the first step.
    effects: Option<Tensor>,
}

impl Evidence {
    /// Joins the effects of every dimension, `[steps, heads, channels]`, as a checkpoint has them.
    pub(super) fn join(dimensions: &[Tensor]) -> Result<Self> {
        let flat = dimensions.iter().map(|own| own.f_flatten(1, -1));
        let flat: Vec<Tensor> = flat.collect::<std::result::Result<_, _>>()?;
        Ok(Self { effects: Some(Tensor::f_cat(&flat, 1)?) })
    }

    /// Returns the effects of every dimension, `[steps, heads, channels]`; nothing before the first step.
    pub(super) fn of_dimensions(&self, space: &SearchSpace) -> Result<Vec<Tensor>> {
        let Some(effects) = &self.effects else { return Ok(Vec::new()) };
        let mut first = 0;
        let own = space.dimensions.iter().map(|dimension| {
            let [heads, channels] = dimension.candidates.unit_shape();
            first += heads * channels;
            let own = effects.f_narrow(1, first - heads * channels, heads * channels)?;
            Ok(own.f_reshape([effects.size()[0], heads, channels])?)
        });
        own.collect()
    }

    /// Adds the effects of one step, of a mean over `images` images, `[units]`; zeros for a skipped
    /// step (`go` is 0).
    fn add(&mut self, effects: &Tensor, images: i64, go: &Tensor) -> Result<()> {
        let scaled = effects.f_mul_scalar((images as f64).sqrt())?;
        let row = scaled.f_masked_fill(&go.f_le(0.5)?, 0.0)?.f_unsqueeze(0)?;
        self.effects = Some(match &self.effects {
            None => row,
            Some(all) => {
                let joined = Tensor::f_cat(&[all.shallow_clone(), row], 0)?;
                let steps = joined.size()[0];
                joined.f_narrow(0, (steps - WINDOW).max(0), steps.min(WINDOW))?
            }
        });
        Ok(())
    }

    /// Removes pruned units. `space`: before pruning; `scores`: names of the scores of all dimensions.
    pub(super) fn narrow(
        &mut self,
        narrowing: &Narrowing,
        space: &SearchSpace,
        scores: &[String],
    ) -> Result<()> {
        let dimensions = self.of_dimensions(space)?;
        if dimensions.is_empty() {
            return Ok(());
        }
        let own = dimensions.iter().zip(scores);
        let narrowed = own.map(|(effects, score)| narrowing.apply(score, effects));
        *self = Self::join(&narrowed.collect::<Result<Vec<_>>>()?)?;
        Ok(())
    }
}

impl<A: Architecture> Search<A> {
    /// Returns the first-order effect e of pruning each unit in a step, `[units]` over all dimensions;
    /// `None` where no decision needs it.
    ///
    /// `gradients`: of θ, before they are clipped.
    pub(super) fn effects(
        &self,
        gates: &[Tensor],
        gate_gradients: &[Tensor],
        gradients: &FlatTensors,
    ) -> Result<Option<Tensor>> {
        if !self.needs_evidence() {
            return Ok(None);
        }
        crate::autograd::no_grad(|| {
            let changes = joined(gates)?.f_mul(&joined(gate_gradients)?)?;
            let (theta, mut first) = (self.supernet.theta(), 0);
            for dimension in &self.supernet.declared_space().dimensions {
                let units = dimension.candidates.units();
                let mut own = changes.f_narrow(0, first, units)?;
                let _ = match (dimension.kind, reading(dimension, theta, gradients)?) {
                    (DimensionKind::Attention, Some(read)) => own.f_lerp_(&read, 0.5)?,
                    // Queries and keys apart from values: no layer reads them.
                    (DimensionKind::Attention, None) if !dimension.has_readers() => {
                        own.f_mul_scalar_(0.5)?
                    }
                    (_, Some(read)) => own.f_copy_(&read).map(|()| own)?,
                    // Layers that the network is built not to learn have no gradient.
                    (_, None) => own,
                };
                first += units;
            }
            Ok(Some(changes.f_neg()?))
        })
    }

    /// Adds the effects of one step to the evidence.
    pub(super) fn remember(
        &mut self,
        effects: Option<&Tensor>,
        images: i64,
        go: &Tensor,
    ) -> Result<()> {
        let Some(effects) = effects else { return Ok(()) };
        crate::autograd::no_grad(|| self.evidence.add(effects, images, go))
    }

    /// Returns L of every candidate of every dimension, in the order of the candidates; 0 without
    /// evidence.
    pub(super) fn estimated_losses(&self, readout: &[DimensionReadout]) -> Vec<Vec<f64>> {
        let own = || self.supernet.states().iter().zip(readout);
        let dimensions = own().map(|(state, own)| (&own.effects[..], state.candidates()));
        let estimate = EstimatedLoss::new(&self.options.pruning, dimensions);
        let kinds = self.supernet.space().dimensions.iter().map(|own| own.kind);
        let losses = own().zip(kinds).map(|((state, own), kind)| {
            let candidates = state.candidates();
            let loss_at =
                |size| estimate.of(kind, &own.effects, candidates, &own.kept_units(state, size));
            candidates.sizes().map(loss_at).collect()
        });
        losses.collect()
    }
}

/// Columns of consecutive variables of θ that index the same units.
struct Columns {
    range: Range<i64>,
    units: i64,
    inner: i64,
}

impl Columns {
    fn row(&self) -> i64 {
        self.units * self.inner
    }

    /// Returns whether the columns of the next variable go on with these: a whole number of rows on.
    fn is_continued_by(&self, next: &Self) -> bool {
        (self.units, self.inner) == (next.units, next.inner)
            && (next.range.start - self.range.start) % self.row() == 0
    }
}

/// Returns Σ θ·∂L/∂θ over the columns of every layer that reads a unit of a dimension, `[units]`; `None` if no
/// binding is that of a reading layer.
fn reading(
    dimension: &Dimension,
    theta: &FlatTensors,
    gradients: &FlatTensors,
) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    for columns in reading_columns(dimension, theta) {
        for block in blocks(&columns.range, columns.row(), theta.data().device()) {
            let product = theta.range(&block)?.f_mul(&gradients.range(&block)?)?;
            let product = product.f_view([-1, columns.units, columns.inner])?;
            let own = product.f_sum_dim_intlist([0i64, 2].as_slice(), false, None)?;
            let own = of_units(own, dimension.candidates.unit_shape())?;
            sum = Some(match sum {
                None => own,
                Some(sum) => sum.f_add(&own)?,
            });
        }
    }
    Ok(sum)
}

/// Sums over the two entries of every unit where the columns of a head are split into halves ([`Binding::half_split`]).
fn of_units(entries: Tensor, [heads, channels]: [i64; 2]) -> Result<Tensor> {
    if entries.numel() as i64 == heads * channels {
        return Ok(entries);
    }
    let halves = entries.f_view([heads, 2, channels])?;
    Ok(halves.f_sum_dim_intlist([1i64].as_slice(), false, None)?.f_view([-1])?)
}

/// Returns the columns of all reading layers; those of variables that follow each other in θ, with rows
/// of equal length, are one matrix.
fn reading_columns(dimension: &Dimension, theta: &FlatTensors) -> Vec<Columns> {
    let reads = dimension.bindings.iter().filter(|own| own.reads());
    let mut of_variable: BTreeMap<&str, Vec<&Binding>> = BTreeMap::new();
    reads.for_each(|own| of_variable.entry(&own.variable).or_default().push(own));
    let (mut all, mut others): (Vec<Columns>, Vec<Columns>) = Default::default();
    let mut open = false;
    for segment in theta.layout().segments() {
        let columns = |binding: &&Binding| {
            let [_, units, inner] = binding.view(&segment.shape);
            Columns { range: segment.start..segment.end(), units, inner }
        };
        let bindings = of_variable.get(segment.name.as_str()).into_iter().flatten();
        let mut own = bindings.map(columns);
        let Some(first) = own.next() else {
            open = false;
            continue;
        };
        // A variable that is read along two axes: its second view is a matrix of its own.
        others.extend(own);
        let own = first;
        match all.last_mut() {
            Some(last) if open && last.is_continued_by(&own) => last.range.end = own.range.end,
            _ => all.push(own),
        }
        open = true;
    }
    all.extend(others);
    all
}
