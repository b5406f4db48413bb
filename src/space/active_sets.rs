//! Active candidates of several dimensions side by side, padded to equal shapes.

mod plan;

use super::{ActiveSet, Candidates};
use crate::error::expect_shape;
use crate::tensors::widened;
use crate::transfer::upload;
use crate::{Error, Result};
use plan::{first_places, place_of, Plan};
use tch::{Device, Kind, Tensor};

/// Active candidates of several dimensions, so that one operator acts on all of them.
///
/// Dimensions with several heads form one [`DimensionGroup`], those with one head another; in a group, units and
/// candidates are padded to the largest dimension's. A tensor over the units (or candidates) of all
/// dimensions is flat: dimension by dimension, each in row-major order.
#[derive(Debug)]
pub struct ActiveSets {
    sets: Vec<ActiveSet>,
    groups: Vec<DimensionGroup>,
    /// For every unit of all dimensions, its place in the padded units of all groups, `[units]`, i64.
    unpadded_units: Tensor,
    /// For every candidate of all dimensions, its dimension, `[candidates]`, i64.
    dimension_of_candidate: Tensor,
    /// Number of candidates of every dimension, `[dimensions]`, i64.
    candidate_counts: Tensor,
    /// For every dimension, its place among the dimensions of all groups, `[dimensions]`, i64.
    ungrouped: Tensor,
    /// 1/n of every dimension's n active candidates, at least 2, group by group, `[dimensions]`, f32.
    means: Tensor,
    /// 1 for every undecided dimension, else 0, group by group, `[dimensions]`, f32.
    undecided: Tensor,
    /// −∞, `[1]`, f32.
    nothing: Tensor,
}

/// Dimensions padded to equal shapes: d dimensions of at most h heads × c channels, with at most a head
/// counts × b channel widths.
#[derive(Debug)]
pub struct DimensionGroup {
    /// Numbers of the dimensions.
    pub dimensions: Vec<usize>,
    /// `[d, h, c]`.
    pub units_shape: [i64; 3],
    /// `[d, a, b]`.
    pub candidates_shape: [i64; 3],
    /// For every padded unit, its place among the units of all dimensions, `[d·h·c]`, i64; 0 for padding.
    pub units: Tensor,
    /// Which padded units are padding, `[d, h, c]`, bool.
    pub no_unit: Tensor,
    /// For every padded candidate, its place among the candidates of all dimensions, `[d·a·b]`, i64; where
    /// it is dropped or padding, the place after the last.
    candidates: Tensor,
    /// Which padded candidates are dropped or padding, `[d, a·b]`, bool.
    pub inactive: Tensor,
    /// Heads of every padded candidate, `[d, a·b]`, i64; 0 for padding.
    pub heads: Tensor,
    /// Channels of each head of every padded candidate, `[d, a·b]`, i64; 0 for padding.
    pub channels: Tensor,
    /// 1/n of the n active candidates, at least 2, `[d, 1]`, f32.
    pub mean: Tensor,
    /// Units and heads of every padded candidate, `[d, a·b, 2]`, f32.
    pub sizes: Tensor,
}

impl ActiveSets {
    /// Copies the active candidates of dimensions to a device.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the device has no memory left.
    pub fn new(active: &[&ActiveSet], device: Device) -> Result<Self> {
        let sets: Vec<ActiveSet> = active.iter().map(|own| own.shallow_clone()).collect();
        let (many, one): (Vec<usize>, Vec<usize>) =
            (0..sets.len()).partition(|&at| sets[at].candidates().heads() > 1);
        let groups = [many, one].into_iter().filter(|own| !own.is_empty());
        let plans: Vec<Plan> = groups.map(|dimensions| Plan::new(&sets, dimensions)).collect();

        let mut unpadded_units = Vec::new();
        let mut ungrouped = vec![0; sets.len()];
        let firsts = first_places(&plans);
        let mut grouped = 0;
        for (at, own) in sets.iter().enumerate() {
            let Some((group, row)) = place_of(&plans, at) else { continue };
            unpadded_units.extend(plans[group].padded_units(row, own.candidates(), firsts[group]));
        }
        for plan in &plans {
            for &at in &plan.dimensions {
                ungrouped[at] = grouped;
                grouped += 1;
            }
        }
        let counts: Vec<i64> = sets.iter().map(|own| own.candidates().len() as i64).collect();
        let dimension_of = counts.iter().zip(0i64..).flat_map(|(&n, at)| vec![at; n as usize]);
        let dimension_of: Vec<i64> = dimension_of.collect();
        let active = |at: usize| sets[at].flags().iter().filter(|&&active| active).count();
        let order = || plans.iter().flat_map(|plan| plan.dimensions.iter().copied());
        let means: Vec<f32> = order().map(|at| 1.0 / active(at).max(2) as f32).collect();
        let undecided = order().map(|at| if active(at) > 1 { 1.0f32 } else { 0.0 });
        Ok(Self {
            means: upload(&means, device)?,
            undecided: upload(&undecided.collect::<Vec<_>>(), device)?,
            nothing: Tensor::f_full([1], f64::NEG_INFINITY, (Kind::Float, device))?,
            groups: plans.iter().map(|own| own.upload(&sets, device)).collect::<Result<_>>()?,
            unpadded_units: upload(&unpadded_units, device)?,
            dimension_of_candidate: upload(&dimension_of, device)?,
            candidate_counts: upload(&counts, device)?,
            ungrouped: upload(&ungrouped, device)?,
            sets,
        })
    }

    /// Returns whether these are the active candidates of the dimensions.
    pub fn are_of(&self, active: &[&ActiveSet]) -> bool {
        let same = |(own, other): (&ActiveSet, &&ActiveSet)| {
            own.flags() == other.flags() && own.candidates() == other.candidates()
        };
        self.sets.len() == active.len() && self.sets.iter().zip(active).all(same)
    }

    /// Returns the active candidates of every dimension.
    pub fn iter(&self) -> impl Iterator<Item = &ActiveSet> {
        self.sets.iter()
    }

    /// Number of dimensions.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether there is no dimension.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Groups of dimensions.
    pub fn groups(&self) -> &[DimensionGroup] {
        &self.groups
    }

    /// Numbers of units of all dimensions.
    pub fn units(&self) -> Vec<i64> {
        self.sets.iter().map(|own| own.candidates().units()).collect()
    }

    /// Returns tensors over the units of each dimension as one flat tensor.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if one is not `[heads, channels]`.
    pub fn join_units(&self, name: &str, tensors: &[&Tensor]) -> Result<Tensor> {
        self.join(name, tensors, Candidates::unit_shape, None)
    }

    /// Returns tensors over the candidates of each dimension as one flat tensor.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if one is not `[head counts, channel widths]`.
    pub fn join_candidates(&self, name: &str, tensors: &[&Tensor]) -> Result<Tensor> {
        self.join(name, tensors, Candidates::shape, None)
    }

    /// Returns the candidate logits α of each group, `[d, a·b]`, in f32 at least, −∞ where a candidate is
    /// dropped or padding.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α is not `[head counts, channel widths]`.
    pub fn logits(&self, alphas: &[&Tensor]) -> Result<Vec<Tensor>> {
        let kind = alphas.first().map_or(Kind::Float, |own| own.kind());
        let nothing = self.nothing.f_to_kind(kind)?;
        let joined = self.join("alpha", alphas, Candidates::shape, Some(nothing))?;
        let joined = widened(&joined)?;
        let own = self.groups.iter().map(|group| {
            let padded = joined.f_index_select(0, &group.candidates)?;
            Ok(padded.f_view_as(&group.inactive)?)
        });
        own.collect()
    }

    /// 1/n of the n active candidates of every dimension, at least 2, group by group, `[dimensions]`, f32.
    pub fn means(&self) -> &Tensor {
        &self.means
    }

    /// 1 for every undecided dimension, else 0, group by group, `[dimensions]`, f32.
    pub fn undecided(&self) -> &Tensor {
        &self.undecided
    }

    fn join(
        &self,
        name: &str,
        tensors: &[&Tensor],
        shape: impl Fn(&Candidates) -> [i64; 2],
        last: Option<Tensor>,
    ) -> Result<Tensor> {
        if tensors.len() != self.sets.len() {
            let (what, expected) =
                (format!("number of {name} tensors"), self.sets.len().to_string());
            return Err(Error::invalid(what, expected, tensors.len()));
        }
        let own = self.sets.iter().zip(tensors).map(|(own, tensor)| {
            expect_shape("active candidates", name, tensor, &shape(own.candidates()))?;
            Ok(tensor.f_reshape([-1])?)
        });
        self.cat(&own.chain(last.map(Ok)).collect::<Result<Vec<_>>>()?)
    }

    /// Joins tensors along their first axis; without a dimension there are none.
    fn cat(&self, tensors: &[Tensor]) -> Result<Tensor> {
        match tensors.is_empty() {
            true => Ok(Tensor::f_zeros([0], (Kind::Float, self.ungrouped.device()))?),
            false => Ok(Tensor::f_cat(tensors, 0)?),
        }
    }

    /// Splits a flat tensor over units into one tensor per dimension, `[heads, channels]`.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the tensor has another length.
    pub fn split_units(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        self.split(flat, Candidates::unit_shape)
    }

    /// Splits a flat tensor over candidates into one tensor per dimension, `[head counts, channel
    /// widths]`.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the tensor has another length.
    pub fn split_candidates(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        self.split(flat, Candidates::shape)
    }

    fn split(&self, flat: &Tensor, shape: impl Fn(&Candidates) -> [i64; 2]) -> Result<Vec<Tensor>> {
        let shapes: Vec<[i64; 2]> = self.sets.iter().map(|own| shape(own.candidates())).collect();
        let lengths: Vec<i64> = shapes.iter().map(|[rows, columns]| rows * columns).collect();
        let parts = flat.f_split_with_sizes(&lengths[..], 0)?;
        parts.iter().zip(shapes).map(|(part, shape)| Ok(part.f_view(shape)?)).collect()
    }

    /// Returns padded tensors over the units of each group as one flat tensor over all units.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if a tensor has another shape than the group.
    pub fn unpad_units(&self, groups: &[Tensor]) -> Result<Tensor> {
        let flat = groups.iter().map(|own| own.f_reshape([-1]));
        let flat: Vec<Tensor> = flat.collect::<std::result::Result<_, _>>()?;
        Ok(self.cat(&flat)?.f_index_select(0, &self.unpadded_units)?)
    }

    /// Returns tensors with one row per dimension of each group as one tensor with a row per dimension.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if shapes differ.
    pub fn ungroup(&self, groups: &[Tensor]) -> Result<Tensor> {
        Ok(self.cat(groups)?.f_index_select(0, &self.ungrouped)?)
    }

    /// Returns the norms of a flat tensor over candidates, dimension by dimension, `[dimensions]`.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the tensor has another length.
    pub(crate) fn candidate_norms(&self, flat: &Tensor) -> Result<Tensor> {
        let none = None::<&Tensor>;
        let lengths = Some(&self.candidate_counts);
        let squares = flat.f_square()?;
        Ok(Tensor::f_segment_reduce(&squares, "sum", lengths, none, none, 0, true, 0.0)?
            .f_sqrt()?)
    }

    /// Returns numbers of dimensions, `[dimensions]`, for each of their candidates, flat.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if libtorch fails.
    pub(crate) fn for_candidates(&self, numbers: &Tensor) -> Result<Tensor> {
        Ok(numbers.f_index_select(0, &self.dimension_of_candidate)?)
    }
}

impl DimensionGroup {
    /// Returns a flat tensor over units as padded units, `[d, h, c]`, `fill` for padding.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the tensor is too short.
    pub fn pad_units(&self, flat: &Tensor, fill: f64) -> Result<Tensor> {
        let padded = flat.f_index_select(0, &self.units)?.f_view(self.units_shape)?;
        Ok(padded.f_masked_fill(&self.no_unit, fill)?)
    }
}
