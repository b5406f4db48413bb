//! Candidates and groups of dimensions on the host, before they are copied to a device.

use super::{CandidateTable, DimensionGroup};
use crate::space::{ActiveSet, Candidates};
use crate::transfer::upload;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Returns the candidates of all dimensions, with rows in this order of the dimensions.
pub(super) fn candidate_table(
    sets: &[ActiveSet],
    order: &[usize],
    device: Device,
) -> Result<CandidateTable> {
    let most = sets.iter().map(|own| own.candidates().len()).max().unwrap_or(0);
    let (firsts, after_last) = firsts(sets, |own| own.len() as i64);
    let [mut places, mut heads, mut channels] = [Vec::new(), Vec::new(), Vec::new()];
    let [mut sizes, mut means, mut undecided] = [Vec::new(), Vec::new(), Vec::new()];
    let mut inactive = Vec::new();
    for &at in order {
        let (own, flags) = (sets[at].candidates(), sets[at].flags());
        for number in 0..most {
            let size = (number < own.len()).then(|| own.size(number));
            let active = flags.get(number) == Some(&true);
            places.push(if active { firsts[at] + number as i64 } else { after_last });
            inactive.push(!active);
            heads.push(size.map_or(0, |own| own.heads));
            channels.push(size.map_or(0, |own| own.channels));
            let units = size.map_or(0, |own| own.units());
            let branch = size.is_some_and(|own| !own.is_removed());
            let heads = size.map_or(0, |own| own.heads);
            sizes.extend([units as f32, heads as f32, f32::from(u8::from(branch))]);
        }
        let count = flags.iter().filter(|&&active| active).count();
        means.push(1.0 / count.max(2) as f32);
        undecided.push(if count > 1 { 1.0f32 } else { 0.0 });
    }
    let (rows, most) = (order.len() as i64, most as i64);
    Ok(CandidateTable {
        places: upload(&places, device)?,
        inactive: upload(&inactive, device)?.f_view([rows, most])?,
        heads: upload(&heads, device)?.f_view([rows, most])?,
        channels: upload(&channels, device)?.f_view([rows, most])?,
        sizes: upload(&sizes, device)?.f_view([rows, most, 3])?,
        means: upload(&means, device)?,
        undecided: upload(&undecided, device)?,
        nothing: Tensor::f_full([1], f64::NEG_INFINITY, (Kind::Float, device))?,
    })
}

/// Returns the place of the first unit (or candidate) of every dimension, and the place after the last.
fn firsts(sets: &[ActiveSet], of: impl Fn(&Candidates) -> i64) -> (Vec<i64>, i64) {
    let mut next = 0;
    let first = sets.iter().map(|own| {
        next += of(own.candidates());
        next - of(own.candidates())
    });
    let first = first.collect();
    (first, next)
}

/// Units of a group on the host.
pub(super) struct Plan {
    pub(super) dimensions: Vec<usize>,
    /// `[d, h, c]`.
    units: [i64; 3],
}

impl Plan {
    pub(super) fn new(sets: &[ActiveSet], dimensions: Vec<usize>) -> Self {
        let most = |of: fn(&Candidates) -> i64| {
            dimensions.iter().map(|&at| of(sets[at].candidates())).max().unwrap_or(1).max(1)
        };
        let d = dimensions.len() as i64;
        Self { units: [d, most(Candidates::heads), most(Candidates::channels)], dimensions }
    }

    /// Copies the group to a device; `row` is its first in the table of the candidates.
    pub(super) fn upload(
        &self,
        sets: &[ActiveSet],
        table: &CandidateTable,
        row: i64,
        device: Device,
    ) -> Result<DimensionGroup> {
        let (first, _) = firsts(sets, Candidates::units);
        let [d, h, c] = self.units;
        let (mut units, mut no_unit) = (Vec::new(), Vec::new());
        for &at in &self.dimensions {
            let [heads, channels] = sets[at].candidates().unit_shape();
            for (head, channel) in grid(h, c) {
                let exists = head < heads && channel < channels;
                units.push(if exists { first[at] + head * channels + channel } else { 0 });
                no_unit.push(!exists);
            }
        }
        Ok(DimensionGroup {
            dimensions: self.dimensions.clone(),
            units_shape: self.units,
            units: upload(&units, device)?,
            no_unit: upload(&no_unit, device)?.f_view([d, h, c])?,
            heads: table.heads.f_narrow(0, row, d)?,
            channels: table.channels.f_narrow(0, row, d)?,
        })
    }

    /// Returns the places of the units of a row among the padded units of all groups.
    pub(super) fn padded_units(&self, row: i64, own: &Candidates, first: i64) -> Vec<i64> {
        let [_, h, c] = self.units;
        let places = grid(own.heads(), own.channels());
        places.map(|(head, channel)| first + (row * h + head) * c + channel).collect()
    }
}

fn grid(rows: i64, columns: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

/// Returns the place of the first padded unit of every group.
pub(super) fn first_places(plans: &[Plan]) -> Vec<i64> {
    let mut next = 0;
    let first = plans.iter().map(|plan| {
        let length: i64 = plan.units.iter().product();
        next += length;
        next - length
    });
    first.collect()
}

/// Returns group and row of a dimension.
pub(super) fn place_of(plans: &[Plan], at: usize) -> Option<(usize, i64)> {
    plans.iter().enumerate().find_map(|(group, plan)| {
        let row = plan.dimensions.iter().position(|&own| own == at)?;
        Some((group, row as i64))
    })
}
