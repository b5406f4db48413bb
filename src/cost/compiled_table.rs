//! Tables as tensors, for their value and gradient at expected sizes.

use super::polynomial::{choice, size_in, COUNTS};
use super::table::{point, Grid, Table, TableCost};
use crate::space::{SearchSpace, Sizes};
use crate::transfer::upload;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Distance from the last point of an axis to the point beyond it, at which a table has the same
/// value.
const BEYOND: i64 = 1;
/// Expected heads that expected units are divided by at least.
const LEAST_HEADS: f64 = 1e-6;

/// All terms of a [`TableCost`] over the vector of sizes `[units_0, heads_0, branch_0, …, 1]` of a space.
///
/// With T terms, A axes and P points: every term has the same number of axes, heads and channels by
/// turns, and every axis the same number of points; those that it lacks are infinite.
#[derive(Debug)]
pub(super) struct CompiledTables {
    /// [`choice`] of the heads of every axis pair from the vector, and of the units, `[T · A/2, sizes]`; of a dimension
    /// outside the space, the last entry times its size.
    heads: Tensor,
    units: Tensor,
    /// `[T, A, P]`.
    points: Tensor,
    /// Index of the last cell, and distance of neighbours in `values`, `[T, A]`.
    last: Tensor,
    stride: Tensor,
    /// Index of the first value of the table of each term, `[T, 1]`.
    first: Tensor,
    values: Tensor,
    constant: f64,
}

/// Numbers of the tensors of [`CompiledTables`], term by term.
#[derive(Default)]
struct Numbers {
    heads: Vec<(i64, f64)>,
    units: Vec<(i64, f64)>,
    points: Vec<f32>,
    last: Vec<i64>,
    stride: Vec<i64>,
    first: Vec<i64>,
}

impl CompiledTables {
    /// Compiles `cost` for `space`; sizes of other dimensions are taken from `fixed`.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown) if a dimension is neither in the space nor in `fixed`.
    pub(super) fn new(
        cost: &TableCost,
        space: &SearchSpace,
        fixed: &Sizes,
        device: Device,
    ) -> Result<Self> {
        let extended: Vec<Table> = cost.tables().iter().map(extended).collect();
        let dimensions = extended.iter().map(|own| own.grids.len()).max().unwrap_or(0).max(1);
        let lengths = extended.iter().flat_map(|own| &own.grids);
        let most = lengths.map(|own| own.heads.len().max(own.channels.len())).max().unwrap_or(1);
        let mut starts = vec![0];
        extended.iter().for_each(|own| starts.push(starts[starts.len() - 1] + own.values.len()));
        let mut numbers = Numbers::default();
        for term in cost.terms() {
            numbers.first.push(starts[term.table] as i64);
            numbers.add_axes(&extended[term.table], dimensions, most);
            for at in 0..dimensions {
                numbers.add_size(term.dimensions.get(at), space, fixed)?;
            }
        }
        let terms = cost.terms().len() as i64;
        let axes = [terms, 2 * dimensions as i64];
        let values = extended.iter().flat_map(|own| own.values.iter().map(|value| *value as f32));
        let Numbers { heads, units, points, last, stride, first } = numbers;
        let sizes = COUNTS * space.dimensions.len() as i64 + 1;
        Ok(Self {
            heads: choice(&heads, sizes, device)?,
            units: choice(&units, sizes, device)?,
            points: upload(&points, device)?.f_view([terms, axes[1], most as i64])?,
            last: upload(&last, device)?.f_view(axes)?,
            stride: upload(&stride, device)?.f_view(axes)?,
            first: upload(&first, device)?.f_view([terms, 1])?,
            values: upload(&values.collect::<Vec<f32>>(), device)?,
            constant: cost.constant(),
        })
    }

    /// Returns the cost at a vector of sizes, differentiable in them.
    ///
    /// # Shapes
    /// `sizes`: `[3 · dimensions + 1]`, f32, the last entry 1. Result: scalar.
    pub(super) fn evaluate(&self, sizes: &Tensor) -> Result<Tensor> {
        let (heads, units) = (self.heads.f_mv(sizes)?, self.units.f_mv(sizes)?);
        // Without heads there are no units, and any width has the latency of a removed branch.
        let channels = units.f_div(&heads.f_clamp_min(LEAST_HEADS)?)?;
        let at = Tensor::f_stack(&[heads, channels], 1)?;
        let at = at.f_view_as(&self.last)?.f_unsqueeze(2)?;
        let below =
            at.f_ge_tensor(&self.points)?.f_sum_dim_intlist([2i64].as_slice(), false, None)?;
        let cell = below.f_sub_scalar(1)?.f_clamp_min(0)?.f_minimum(&self.last)?.f_unsqueeze(2)?;
        let low = self.points.f_gather(2, &cell, false)?;
        let high = self.points.f_gather(2, &cell.f_add_scalar(1)?, false)?;
        let part =
            at.f_sub(&low)?.f_div(&high.f_sub(&low)?)?.f_clamp(0.0, 1.0)?.f_squeeze_dim(2)?;
        self.corners(&cell.f_squeeze_dim(2)?, &part)
    }

    /// Returns the constant plus the weighted sum of the values at the corners of every term's cell.
    fn corners(&self, cell: &Tensor, part: &Tensor) -> Result<Tensor> {
        let mut index = self.first.shallow_clone();
        let mut weight = self.first.f_ones_like()?.f_to_kind(Kind::Float)?;
        for axis in 0..self.stride.size()[1] {
            let [cell, stride, part] =
                [cell, &self.stride, part].map(|own| own.f_narrow(1, axis, 1));
            let (stride, part) = (stride?, part?);
            let low = index.f_add(&cell?.f_mul(&stride)?)?;
            let high = low.f_add(&stride)?;
            index = Tensor::f_cat(&[low, high], 1)?;
            let above = weight.f_mul(&part)?;
            weight = Tensor::f_cat(&[weight.f_sub(&above)?, above], 1)?;
        }
        let values = self.values.f_index_select(0, &index.f_reshape([-1])?)?;
        Ok(values.f_dot(&weight.f_reshape([-1])?)?.f_add_scalar(self.constant)?)
    }
}

impl Numbers {
    /// Adds the axes of a term of this table.
    fn add_axes(&mut self, table: &Table, dimensions: usize, most: usize) {
        let mut strides = Vec::new();
        let mut stride = 1;
        let axes: Vec<&Vec<i64>> =
            table.grids.iter().flat_map(|own| [&own.heads, &own.channels]).collect();
        for axis in axes.iter().rev() {
            strides.push(stride);
            stride *= axis.len() as i64;
        }
        for (axis, stride) in axes.iter().zip(strides.iter().rev()) {
            let missing = std::iter::repeat_n(f32::INFINITY, most - axis.len());
            self.points.extend(axis.iter().map(|&point| point as f32).chain(missing));
            self.last.push(axis.len() as i64 - 2);
            self.stride.push(*stride);
        }
        for _ in axes.len()..2 * dimensions {
            // An axis that the table does not have: always in its first cell, whose ends are one value.
            let missing = std::iter::repeat_n(f32::INFINITY, most.saturating_sub(2));
            self.points.extend([1e9, 2e9].into_iter().chain(missing));
            self.last.push(0);
            self.stride.push(0);
        }
    }

    /// Adds where the size of a dimension of a term is found.
    fn add_size(
        &mut self,
        name: Option<&String>,
        space: &SearchSpace,
        fixed: &Sizes,
    ) -> Result<()> {
        let one = COUNTS * space.dimensions.len() as i64;
        let at = |name: &String| space.dimensions.iter().position(|own| own.name == *name);
        let [heads, units] = match name {
            None => [(one, 1.0); 2],
            Some(name) => match at(name) {
                Some(at) => [(COUNTS * at as i64 + 1, 1.0), (COUNTS * at as i64, 1.0)],
                None => {
                    let [heads, channels] = point(size_in(fixed, name)?);
                    [(one, heads), (one, heads * channels)]
                }
            },
        };
        self.heads.push(heads);
        self.units.push(units);
        Ok(())
    }
}

/// Returns the table with a point beyond the last of every axis, with the values of the last.
fn extended(table: &Table) -> Table {
    let longer = |points: &Vec<i64>| {
        let beyond = points.last().map(|last| last + BEYOND);
        points.iter().copied().chain(beyond).collect::<Vec<i64>>()
    };
    let grids: Vec<Grid> = table
        .grids
        .iter()
        .map(|own| Grid { heads: longer(&own.heads), channels: longer(&own.channels) })
        .collect();
    let mut sizes = vec![Vec::new()];
    for grid in &grids {
        let with =
            |own: Vec<_>| grid.sizes().map(move |size| [own.clone(), vec![point(size)]].concat());
        sizes = sizes.into_iter().flat_map(with).collect();
    }
    let values = sizes.iter().map(|sizes| table.at(sizes)).collect();
    Table { grids, values }
}
