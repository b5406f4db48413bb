//! Costs that are measured at points of a grid of sizes, and multilinear between the points.

use super::polynomial::size_in;
use crate::space::{Size, Sizes};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A [`TableCost`] is rounded to 2⁻¹¹ of its largest value or less, by a power of two: costs of partial choices
/// are then exact in f64, and many are equal, which keeps projection exact for longer.
const STEPS: f64 = 2_048.0;

/// Heads and channels, which need not be whole: a size that is expected.
pub(super) type Point = [f64; 2];

/// Points of one dimension at which a [`Table`] has values: every pair of a head count and a channel
/// width, both ascending. A flat dimension has one head. Where a branch may be removed, the first head count is 0, and
/// the value is the same at every channel width.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Head counts.
    pub heads: Vec<i64>,
    /// Channels of each head; the widths of a flat dimension.
    pub channels: Vec<i64>,
}

impl Grid {
    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.heads.len() * self.channels.len()
    }

    /// Returns whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the sizes of all points: head counts outside, channels inside; [`Size::REMOVED`] for every point
    /// without heads.
    pub fn sizes(&self) -> impl Iterator<Item = Size> + '_ {
        let size = |heads, channels| match heads {
            0 => Size::REMOVED,
            _ => Size { heads, channels },
        };
        let heads = self.heads.iter();
        heads.flat_map(move |&heads| self.channels.iter().map(move |&own| size(heads, own)))
    }

    /// Returns whether a size lies within the points: a branch that is there, within those with heads.
    pub(crate) fn spans(&self, size: Size) -> bool {
        let within = |points: &[i64], value| {
            points.first().is_some_and(|&least| least <= value)
                && points.last().is_some_and(|&most| value <= most)
        };
        let heads = match self.heads.as_slice() {
            [0, with_heads @ ..] if !size.is_removed() => with_heads,
            all => all,
        };
        within(heads, size.heads) && (size.is_removed() || within(&self.channels, size.channels))
    }

    /// Returns the size of the last point: the dense one.
    pub(crate) fn last(&self) -> Size {
        let last = |points: &[i64]| points.last().copied().unwrap_or(1);
        Size { heads: last(&self.heads), channels: last(&self.channels) }
    }

    fn axes(&self) -> [&[i64]; 2] {
        [&self.heads, &self.channels]
    }
}

/// Function of the sizes of a few dimensions: its values at all combinations of their points,
/// multilinear between them, constant beyond them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Points of every dimension.
    pub grids: Vec<Grid>,
    /// Values at all combinations of points, those of the last dimension side by side.
    pub values: Vec<f64>,
}

impl Table {
    /// Returns the value at one size per dimension.
    pub(super) fn at(&self, sizes: &[Point]) -> f64 {
        // Corners of the cell around the sizes: index into the values, and weight.
        let mut corners = vec![(0, 1.0)];
        for (grid, size) in self.grids.iter().zip(sizes) {
            for (points, &value) in grid.axes().into_iter().zip(size) {
                let (low, part) = place(points, value);
                let along = |(at, weight): (usize, f64)| {
                    let first = at * points.len() + low;
                    [(first, weight * (1.0 - part)), (first + 1, weight * part)]
                };
                let all = corners.into_iter().flat_map(along);
                corners = all.filter(|(_, weight)| *weight > 0.0).collect();
            }
        }
        corners.into_iter().map(|(at, weight)| weight * self.values[at]).sum()
    }

    fn check(&self, name: &str) -> Result<()> {
        for axis in self.grids.iter().flat_map(Grid::axes) {
            let ascending = axis.windows(2).all(|pair| pair[0] < pair[1]);
            if axis.is_empty() || !ascending {
                let expected = "at least one, ascending";
                return Err(Error::invalid(
                    format!("points of {name}"),
                    expected,
                    format!("{axis:?}"),
                ));
            }
        }
        let points = self.grids.iter().map(Grid::len).fold(1, usize::saturating_mul);
        if points != self.values.len() {
            let (expected, actual) = (format!("{points}, one a point"), self.values.len());
            return Err(Error::invalid(format!("values of {name}"), expected, actual));
        }
        match self.values.iter().find(|value| !value.is_finite()) {
            None => Ok(()),
            Some(value) => Err(Error::invalid(format!("values of {name}"), "finite", value)),
        }
    }
}

/// Returns the largest point that is not above `value`, and the share of the way to the next.
fn place(points: &[i64], value: f64) -> (usize, f64) {
    let above = points.partition_point(|&point| point as f64 <= value);
    match above {
        0 => (0, 0.0),
        above if above == points.len() => (above - 1, 0.0),
        above => {
            let (low, high) = (points[above - 1] as f64, points[above] as f64);
            (above - 1, (value - low) / (high - low))
        }
    }
}

/// A [`Table`] at the sizes of named dimensions. Dimensions of equal layers share one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTerm {
    /// Number of the table.
    pub table: usize,
    /// Names of its dimensions, in the order of its grids.
    pub dimensions: Vec<String>,
}

/// Cost that is a constant plus one [`Table`] for every group of dimensions that meet in a layer: the
/// latency of a network, in milliseconds.
///
/// ```
/// use once_for_both::cost::{Grid, Table, TableCost, TableTerm};
/// use once_for_both::space::Size;
///
/// # fn main() -> once_for_both::Result<()> {
/// let grid = Grid { heads: vec![1], channels: vec![64, 128] };
/// let table = Table { grids: vec![grid], values: vec![1.0, 3.0] };
/// let term = |name: &str| TableTerm { table: 0, dimensions: vec![name.into()] };
/// let cost = TableCost::new(0.5, vec![table], vec![term("blocks.0.mlp"), term("blocks.1.mlp")])?;
/// let sizes = [("blocks.0.mlp".into(), Size::flat(64)), ("blocks.1.mlp".into(), Size::flat(96))];
/// assert_eq!(cost.evaluate(&sizes.into())?, 0.5 + 1.0 + 2.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct TableCost {
    constant: f64,
    tables: Vec<Table>,
    terms: Vec<TableTerm>,
    /// Value of every term and the constant are multiples of it; a power of two.
    #[serde(skip)]
    quantum: f64,
}

/// A deserialised cost before [`TableCost::new`] has checked it.
#[derive(Deserialize)]
struct Unchecked {
    constant: f64,
    tables: Vec<Table>,
    terms: Vec<TableTerm>,
}

impl TryFrom<Unchecked> for TableCost {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self> {
        Self::new(raw.constant, raw.tables, raw.terms)
    }
}

impl TableCost {
    /// Returns the cost `constant` + Σ over the terms of their tables.
    ///
    /// # Errors
    /// [`Error::Invalid`] for points that are not ascending, another number of values than points, a
    /// number that is not finite, or a term of a table that does not exist, has another number of
    /// dimensions, or has one of them twice.
    pub fn new(constant: f64, tables: Vec<Table>, terms: Vec<TableTerm>) -> Result<Self> {
        if !constant.is_finite() {
            return Err(Error::invalid("constant of a cost", "finite", constant));
        }
        for (at, table) in tables.iter().enumerate() {
            table.check(&format!("table {at}"))?;
        }
        for term in &terms {
            check_term(term, &tables)?;
        }
        let most = |term: &TableTerm| {
            tables[term.table].values.iter().fold(0.0_f64, |most, value| most.max(value.abs()))
        };
        let largest = terms.iter().map(most).fold(constant.abs(), |sum, most| sum + most);
        let quantum = (largest.max(f64::MIN_POSITIVE) / STEPS).log2().floor().exp2();
        Ok(Self { constant, tables, terms, quantum })
    }

    /// Returns the part of the cost that depends on no size.
    pub fn constant(&self) -> f64 {
        self.rounded(self.constant)
    }

    /// Returns the tables.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Returns the terms.
    pub fn terms(&self) -> &[TableTerm] {
        &self.terms
    }

    /// Returns the value of a term at one size per dimension, rounded to the quantum.
    pub(super) fn term_at(&self, term: &TableTerm, sizes: &[Point]) -> f64 {
        self.rounded(self.tables[term.table].at(sizes))
    }

    fn rounded(&self, value: f64) -> f64 {
        (value / self.quantum).round() * self.quantum
    }

    /// Returns the cost at the given sizes. Every term is rounded to 2⁻¹¹ of the largest cost or less.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a dimension of a term is not in `sizes`.
    pub fn evaluate(&self, sizes: &Sizes) -> Result<f64> {
        self.evaluate_with(|name| size_in(sizes, name))
    }

    /// Returns the cost at the sizes that the function `size` returns.
    pub(super) fn evaluate_with(&self, size: impl Fn(&str) -> Result<Size>) -> Result<f64> {
        self.terms.iter().try_fold(self.constant(), |sum, term| {
            let sizes = term.dimensions.iter().map(|name| size(name).map(point));
            Ok(sum + self.term_at(term, &sizes.collect::<Result<Vec<_>>>()?))
        })
    }
}

/// Returns heads and channels as numbers.
pub(super) fn point(size: Size) -> Point {
    [size.heads as f64, size.channels as f64]
}

fn check_term(term: &TableTerm, tables: &[Table]) -> Result<()> {
    let count = tables.len();
    let Some(table) = tables.get(term.table) else {
        return Err(Error::invalid("table of a term", format!("below {count}"), term.table));
    };
    let (expected, actual) = (table.grids.len(), term.dimensions.len());
    if expected != actual {
        let name = format!("dimensions of a term of table {}", term.table);
        return Err(Error::invalid(name, expected.to_string(), actual));
    }
    for (at, name) in term.dimensions.iter().enumerate() {
        if term.dimensions[..at].contains(name) {
            return Err(Error::invalid("dimensions of a term", "each once", name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_of_a_removable_branch_does_not_span_sizes_between_removed_and_the_least() {
        let removable = Grid { heads: vec![0, 2, 4], channels: vec![8, 16] };
        let size = |heads| Size { heads, channels: 8 };
        for (size, spanned) in
            [(Size::REMOVED, true), (size(1), false), (size(2), true), (size(5), false)]
        {
            assert_eq!(removable.spans(size), spanned, "{size}");
        }
        let kept = Grid { heads: vec![2, 4], ..removable };
        assert!(!kept.spans(Size::REMOVED) && !kept.spans(size(1)) && kept.spans(size(3)));
    }
}
