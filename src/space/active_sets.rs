//! Active candidates of several dimensions side by side, padded to equal shapes.

mod plan;

use super::{ActiveSet, Candidates};
use crate::error::expect_shape;
use crate::tensors::widened;
use crate::transfer::upload;
use crate::{Error, Result};
use plan::{candidate_table, first_places, place_of, Plan};
use tch::{Device, Kind, Tensor};

/// Active candidates of several dimensions, so that one operator acts on all of them.
///
/// A tensor over the units (or candidates) of all dimensions is flat: dimension by dimension, each in
/// row-major order. Candidates are padded to a table with a row per dimension; units are padded in
/// groups, because dimensions with heads have few channels in many rows: those with several heads form one
/// [`DimensionGroup`], those with one head another. Rows of tables are group by group.
#[derive(Debug)]
pub struct ActiveSets {
    sets: Vec<ActiveSet>,
    groups: Vec<DimensionGroup>,
    table: CandidateTable,
    /// For every unit of all dimensions, its place in the padded units of all groups, `[units]`, i64.
    unpadded_units: Tensor,
    /// For every candidate of all dimensions, its dimension, `[candidates]`, i64.
    dimension_of_candidate: Tensor,
    /// Number of candidates of every dimension, `[dimensions]`, i64.
    candidate_counts: Tensor,
    /// For every dimension, its row, `[dimensions]`, i64.
    row_of_dimension: Tensor,
}

/// Candidates of all dimensions, padded to the most that one has: k.
#[derive(Debug)]
pub struct CandidateTable {
    /// For every entry, its place among the candidates of all dimensions, `[dimensions·k]`, i64; where it is
    /// dropped or padding, the place after the last.
    places: Tensor,
    /// Which entries are dropped or padding, `[dimensions, k]`, bool.
    pub inactive: Tensor,
    /// Heads of every candidate, `[dimensions, k]`, i64; 0 for padding.
    pub heads: Tensor,
    /// Channels of each head of every candidate, `[dimensions, k]`, i64; 0 for padding.
    pub channels: Tensor,
    /// Units and heads of every candidate, and 1 unless it is [`Size::REMOVED`](super::Size::REMOVED),
    /// `[dimensions, k, 3]`, f32; 0 for padding.
    pub sizes: Tensor,
    /// 1/n of the n active candidates, at least 2, `[dimensions]`, f32.
    pub means: Tensor,
    /// 1 for every undecided dimension, else 0, `[dimensions]`, f32.
    pub undecided: Tensor,
    /// −∞, `[1]`, f32.
    nothing: Tensor,
}

/// Dimensions whose units are padded to equal shapes: d dimensions of at most h heads × c channels.
#[derive(Debug)]
pub struct DimensionGroup {
    /// Numbers of the dimensions.
    pub dimensions: Vec<usize>,
    /// `[d, h, c]`.
    pub units_shape: [i64; 3],
    /// For every padded unit, its place among the units of all dimensions, `[d·h·c]`, i64; 0 for padding.
    units: Tensor,
    /// Which padded units are padding, `[d, h, c]`, bool.
    no_unit: Tensor,
    /// Heads of every candidate, `[d, k]`, i64; 0 for padding.
    pub heads: Tensor,
    /// Channels of each head of every candidate, `[d, k]`, i64; 0 for padding.
    pub channels: Tensor,
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
        let order: Vec<usize> = plans.iter().flat_map(|plan| plan.dimensions.clone()).collect();
        let table = candidate_table(&sets, &order, device)?;

        let firsts = first_places(&plans);
        let (mut unpadded_units, mut rows) = (Vec::new(), vec![0; sets.len()]);
        for (at, own) in sets.iter().enumerate() {
            let Some((group, row)) = place_of(&plans, at) else { continue };
            unpadded_units.extend(plans[group].padded_units(row, own.candidates(), firsts[group]));
        }
        order.iter().zip(0i64..).for_each(|(&at, row)| rows[at] = row);
        let counts: Vec<i64> = sets.iter().map(|own| own.candidates().len() as i64).collect();
        let dimension_of = counts.iter().zip(0i64..).flat_map(|(&n, at)| vec![at; n as usize]);
        let mut first = 0;
        let groups = plans.iter().map(|plan| {
            first += plan.dimensions.len() as i64;
            plan.upload(&sets, &table, first - plan.dimensions.len() as i64, device)
        });
        Ok(Self {
            groups: groups.collect::<Result<_>>()?,
            unpadded_units: upload(&unpadded_units, device)?,
            dimension_of_candidate: upload(&dimension_of.collect::<Vec<_>>(), device)?,
            candidate_counts: upload(&counts, device)?,
            row_of_dimension: upload(&rows, device)?,
            table,
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
    /// [`crate::Error::Shape`] if one has not the shape [`Candidates::shape`].
    pub fn join_candidates(&self, name: &str, tensors: &[&Tensor]) -> Result<Tensor> {
        self.join(name, tensors, Candidates::shape, None)
    }

    /// Returns the candidate logits α as a table, `[dimensions, k]`, in f32 at least, −∞ where a candidate
    /// is dropped or padding.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has not the shape [`Candidates::shape`].
    pub fn logits(&self, alphas: &[&Tensor]) -> Result<Tensor> {
        let kind = alphas.first().map_or(Kind::Float, |own| own.kind());
        let nothing = self.table.nothing.f_to_kind(kind)?;
        let joined = self.join("alpha", alphas, Candidates::shape, Some(nothing))?;
        let padded = widened(&joined)?.f_index_select(0, &self.table.places)?;
        Ok(padded.f_view_as(&self.table.inactive)?)
    }

    /// Candidates of all dimensions.
    pub fn table(&self) -> &CandidateTable {
        &self.table
    }

    /// Splits a table into the rows of each group.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the table has another number of rows.
    pub(crate) fn by_group(&self, table: &Tensor) -> Result<Vec<Tensor>> {
        let rows: Vec<i64> = self.groups.iter().map(|own| own.units_shape[0]).collect();
        Ok(table.f_split_with_sizes(&rows[..], 0)?)
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
            true => Ok(Tensor::f_zeros([0], (Kind::Float, self.row_of_dimension.device()))?),
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

    /// Splits a flat tensor over candidates into one tensor per dimension, of the shape
    /// [`Candidates::shape`], in the order of [`Candidates::sizes`].
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

    /// Returns the rows of a table in the order of the dimensions.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the table has another number of rows.
    pub(crate) fn in_order(&self, table: &Tensor) -> Result<Tensor> {
        Ok(table.f_index_select(0, &self.row_of_dimension)?)
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
        if flat.size1()? == 0 {
            // All dimensions have been removed.
            return Ok(flat.f_new_full(self.units_shape, fill, (flat.kind(), flat.device()))?);
        }
        let padded = flat.f_index_select(0, &self.units)?.f_view(self.units_shape)?;
        Ok(padded.f_masked_fill(&self.no_unit, fill)?)
    }
}
