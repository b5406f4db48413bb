//! Gates as factors of rows: which factor each row of θ has, and which rows each gate multiplies.

use super::flat::indices;
use super::gate_order::{in_order, FactorPlaces, Gated};
use super::Weights;
use crate::optim::Layout;
use crate::space::SearchSpace;
use crate::Result;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use tch::{Device, Tensor};

/// θ in order, and the factors of its rows.
pub(super) struct Arranged {
    pub(super) layout: Arc<Layout>,
    pub(super) rows: Vec<GateRows>,
    pub(super) sums: UnitSums,
    /// Elements of θ from the start that are gated.
    pub(super) gated: i64,
}

/// Returns the order of all `learned` and gated variables, and the factors of their rows.
pub(super) fn arranged(
    space: &SearchSpace,
    fade_out: &[bool],
    variables: &Weights,
    learned: &BTreeSet<String>,
    device: Device,
) -> Result<Arranged> {
    let places = FactorPlaces::new(space, fade_out);
    let mut all = in_order(space, &places, variables, learned);
    let mut layout = Layout::default();
    let mut groups: Vec<Group> = Vec::new();
    let mut last = None;
    let mut gated = 0;
    for own in &mut all {
        if last.is_some_and(|(class, _)| class != own.class) {
            layout.begin_section();
        }
        layout.push(own.name, &own.shape, own.row);
        let segment = &layout.segments()[layout.segments().len() - 1];
        if !own.gates.is_empty() {
            if last != Some((own.class, own.row)) {
                groups.push(Group::new(own.row, segment.start));
            }
            if let Some(group) = groups.last_mut() {
                group.add(own, segment.start, &places);
            }
            gated = segment.end();
        }
        last = Some((own.class, own.row));
    }
    let units: i64 = places.one;
    let (rows, sums) = finish(groups, units, space, device)?;
    Ok(Arranged { layout: Arc::new(layout), rows, sums, gated })
}

/// Variables with rows of equal length, one after the other, on the host.
struct Group {
    row: i64,
    start: i64,
    /// For every gate of a row, the place of its factor.
    factors: Vec<Vec<i64>>,
    /// For every gate of a row, rows and the units whose bi-mask multiplies them.
    by_mask: Vec<Vec<(i64, i64)>>,
    rows: i64,
    one: i64,
}

impl Group {
    fn new(row: i64, start: i64) -> Self {
        Self { row, start, factors: Vec::new(), by_mask: Vec::new(), rows: 0, one: 0 }
    }

    /// Adds the rows of a variable that starts at an element of θ.
    fn add(&mut self, own: &Gated, start: i64, places: &FactorPlaces) {
        self.one = places.one;
        let first = (start - self.start) / self.row.max(1);
        self.rows = first + own.rows();
        for (at, gate) in own.gates.iter().enumerate() {
            if self.factors.len() <= at {
                self.factors.push(Vec::new());
                self.by_mask.push(Vec::new());
            }
            // Rows between two variables, and of variables with fewer gates, have the factor 1.
            self.factors[at].resize(first as usize, self.one);
            for row in 0..own.rows() {
                let place = gate.first + own.unit(gate, row);
                self.factors[at].push(place);
                if gate.by_mask {
                    self.by_mask[at].push((first + row, place));
                }
            }
        }
    }

    fn finish(mut self, device: Device) -> Result<GateRows> {
        let (rows, one) = (self.rows as usize, self.one);
        self.factors.iter_mut().for_each(|own| own.resize(rows, one));
        let factors = self.factors.iter().map(|own| indices(own, device));
        Ok(GateRows {
            range: self.start..self.start + self.rows * self.row,
            row: self.row,
            factors: factors.collect::<Result<_>>()?,
            by_mask: self.by_mask.iter().map(|own| !own.is_empty()).collect(),
        })
    }
}

/// Copies the groups to the device. Gradients of the gates are sums of the rows' dot products, which
/// are computed for one group after the other.
fn finish(
    groups: Vec<Group>,
    units: i64,
    space: &SearchSpace,
    device: Device,
) -> Result<(Vec<GateRows>, UnitSums)> {
    let mut of_unit: Vec<Vec<i64>> = vec![Vec::new(); units as usize];
    let mut first = 0;
    for group in &groups {
        for own in group.by_mask.iter().filter(|own| !own.is_empty()) {
            for &(row, unit) in own {
                of_unit[unit as usize].push(first + row);
            }
            first += group.rows;
        }
    }
    let lengths: Vec<i64> = of_unit.iter().map(|rows| rows.len() as i64).collect();
    let shapes = space.dimensions.iter().map(|own| own.candidates.unit_shape());
    let sums = UnitSums {
        order: indices(&of_unit.concat(), device)?,
        lengths: indices(&lengths, device)?,
        shapes: shapes.collect(),
    };
    let rows = groups.into_iter().map(|group| group.finish(device));
    Ok((rows.collect::<Result<_>>()?, sums))
}

/// Variables of θ as one matrix, each of whose rows is multiplied by the product of its gates.
#[derive(Debug)]
pub(super) struct GateRows {
    range: Range<i64>,
    row: i64,
    /// For every gate of a row, the place of its factor, `[rows]`, i64.
    factors: Vec<Tensor>,
    /// For every gate of a row, whether it is the bi-mask of a dimension anywhere.
    by_mask: Vec<bool>,
}

impl GateRows {
    /// Returns the rows in a buffer laid out like θ, `[rows, row]`.
    pub(super) fn of(&self, buffer: &Tensor) -> Result<Tensor> {
        let length = self.range.end - self.range.start;
        Ok(buffer.f_narrow(0, self.range.start, length)?.f_view([-1, self.row])?)
    }

    /// Returns the factor of every row, `[rows]`: the product of its gates.
    ///
    /// `factors`: all factors in one vector.
    pub(super) fn factor(&self, factors: &Tensor) -> Result<Tensor> {
        self.product(factors, |_| true)
    }

    fn product(&self, factors: &Tensor, counts: impl Fn(usize) -> bool) -> Result<Tensor> {
        let mut product: Option<Tensor> = None;
        for (_, index) in self.factors.iter().enumerate().filter(|(at, _)| counts(*at)) {
            let own = factors.f_index_select(0, index)?;
            product = Some(match product {
                None => own,
                Some(product) => product.f_mul(&own)?,
            });
        }
        match product {
            Some(product) => Ok(product),
            None => Ok(factors.f_ones_like()?.f_narrow(0, 0, 1)?),
        }
    }

    /// Returns for every gate of a row that is a bi-mask the dot product of gradient and θ, times the
    /// other gates of the row, `[rows]`.
    pub(super) fn dots(
        &self,
        gradient: &Tensor,
        theta: &Tensor,
        factors: &Tensor,
    ) -> Result<Vec<Tensor>> {
        if !self.by_mask.contains(&true) {
            return Ok(Vec::new());
        }
        // A batch of products of a row and a column: no product of the matrices' size is stored.
        let dots = gradient.f_unsqueeze(1)?.f_bmm(&theta.f_unsqueeze(2)?)?.f_view([-1])?;
        let by_mask = (0..self.by_mask.len()).filter(|&at| self.by_mask[at]);
        by_mask
            .map(|at| match self.by_mask.len() {
                1 => Ok(dots.shallow_clone()),
                _ => Ok(dots.f_mul(&self.product(factors, |other| other != at)?)?),
            })
            .collect()
    }
}

/// Sums over the rows that each unit's gate multiplies.
#[derive(Debug)]
pub(super) struct UnitSums {
    /// Places of the rows' dot products, unit by unit.
    order: Tensor,
    /// Number of rows of every unit.
    lengths: Tensor,
    shapes: Vec<[i64; 2]>,
}

impl UnitSums {
    /// Returns the sums for every dimension, `[heads, channels]`.
    ///
    /// A sum over a segment adds in the order of the rows; adding each row to its unit by index would
    /// on CUDA add in another order every time.
    pub(super) fn of(&self, dots: &[Tensor], masks: &[Tensor]) -> Result<Vec<Tensor>> {
        if dots.is_empty() {
            return masks.iter().map(|mask| Ok(mask.f_zeros_like()?)).collect();
        }
        let dots = Tensor::f_cat(dots, 0)?.f_index_select(0, &self.order)?;
        let none = None::<&Tensor>;
        let sums =
            Tensor::f_segment_reduce(&dots, "sum", Some(&self.lengths), none, none, 0, true, 0.0)?;
        let mut first = 0;
        let split = self.shapes.iter().map(|shape| {
            let length = shape[0] * shape[1];
            first += length;
            Ok(sums.f_narrow(0, first - length, length)?.f_view(*shape)?)
        });
        split.collect()
    }
}
