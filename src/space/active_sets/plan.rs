//! Groups of dimensions on the host, before they are copied to a device.

use super::DimensionGroup;
use crate::space::{ActiveSet, Candidates, Size};
use crate::transfer::upload;
use crate::Result;
use tch::Device;

/// Group on the host.
pub(super) struct Plan {
    pub(super) dimensions: Vec<usize>,
    units: [i64; 3],
    candidates: [i64; 3],
}

impl Plan {
    pub(super) fn new(sets: &[ActiveSet], dimensions: Vec<usize>) -> Self {
        let most = |of: fn(&Candidates) -> i64| {
            dimensions.iter().map(|&at| of(sets[at].candidates())).max().unwrap_or(1)
        };
        let d = dimensions.len() as i64;
        Self {
            units: [d, most(Candidates::heads), most(Candidates::channels)],
            candidates: [d, most(|own| own.shape()[0]), most(|own| own.shape()[1])],
            dimensions,
        }
    }

    pub(super) fn upload(&self, sets: &[ActiveSet], device: Device) -> Result<DimensionGroup> {
        let firsts = |of: fn(&Candidates) -> i64| {
            let mut next = 0;
            let first = sets.iter().map(|own| {
                next += of(own.candidates());
                next - of(own.candidates())
            });
            first.collect::<Vec<i64>>()
        };
        let after_last = sets.iter().map(|own| own.candidates().len() as i64).sum();
        let (unit, candidate) = (firsts(Candidates::units), firsts(|own| own.len() as i64));
        let ([_, h, c], [_, a, b]) = (self.units, self.candidates);
        let mut host = Host::default();
        for &at in &self.dimensions {
            let (own, flags) = (sets[at].candidates(), sets[at].flags());
            let ([heads, channels], [rows, columns]) = (own.unit_shape(), own.shape());
            for (head, channel) in grid(h, c) {
                let exists = head < heads && channel < channels;
                host.units.push(if exists { unit[at] + head * channels + channel } else { 0 });
                host.no_unit.push(!exists);
            }
            for (row, column) in grid(a, b) {
                let number = row * columns + column;
                let exists = row < rows && column < columns;
                let size = match exists {
                    true => own.size(number as usize),
                    false => Size { heads: 0, channels: 0 },
                };
                let active = exists && flags[number as usize];
                host.candidates.push(if active { candidate[at] + number } else { after_last });
                host.inactive.push(!active);
                host.heads.push(size.heads);
                host.channels.push(size.channels);
                host.sizes.extend([size.units() as f32, size.heads as f32]);
            }
            let count = flags.iter().filter(|&&active| active).count();
            host.means.push(1.0 / count.max(2) as f32);
        }
        host.upload(self, device)
    }

    /// Returns the places of the units of a row among the padded units of all groups.
    pub(super) fn padded_units(&self, row: i64, own: &Candidates, first: i64) -> Vec<i64> {
        let [_, h, c] = self.units;
        let places = grid(own.heads(), own.channels());
        places.map(|(head, channel)| first + (row * h + head) * c + channel).collect()
    }
}

/// Contents of a group on the host.
#[derive(Default)]
struct Host {
    units: Vec<i64>,
    no_unit: Vec<bool>,
    candidates: Vec<i64>,
    inactive: Vec<bool>,
    heads: Vec<i64>,
    channels: Vec<i64>,
    means: Vec<f32>,
    sizes: Vec<f32>,
}

impl Host {
    fn upload(self, plan: &Plan, device: Device) -> Result<DimensionGroup> {
        let ([d, h, c], [_, a, b]) = (plan.units, plan.candidates);
        Ok(DimensionGroup {
            dimensions: plan.dimensions.clone(),
            units_shape: plan.units,
            candidates_shape: plan.candidates,
            units: upload(&self.units, device)?,
            no_unit: upload(&self.no_unit, device)?.f_view([d, h, c])?,
            candidates: upload(&self.candidates, device)?,
            inactive: upload(&self.inactive, device)?.f_view([d, a * b])?,
            heads: upload(&self.heads, device)?.f_view([d, a * b])?,
            channels: upload(&self.channels, device)?.f_view([d, a * b])?,
            mean: upload(&self.means, device)?.f_view([d, 1])?,
            sizes: upload(&self.sizes, device)?.f_view([d, a * b, 2])?,
        })
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
