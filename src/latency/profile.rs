//! Predicted latency by dimension: what a head or a channel costs.

use super::LatencyModel;
use crate::cost::Grid;
use crate::space::{Size, Sizes};
use crate::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};

/// Sizes of a dimension in a line of text.
const SHOWN: usize = 7;

/// Predicted latency with one dimension alone at each of its sizes, all others dense.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DimensionLatency {
    /// Names of the dimensions of equal layers, of which one has the size.
    pub names: Vec<String>,
    /// Sizes, ascending in heads, then in channels, with the latency in milliseconds of a batch.
    pub latency: Vec<(Size, f64)>,
}

impl DimensionLatency {
    /// Returns the milliseconds of a head with all its channels: the mean over the sizes between the fewest heads
    /// and all. `None` for a single number of heads.
    pub fn per_head(&self) -> Option<f64> {
        self.per_unit(|size| size.heads, |size| size.channels)
    }

    /// Returns the milliseconds of a channel, in every head where there are several: the mean over the sizes
    /// between the fewest channels and all. `None` for a single number of channels.
    pub fn per_channel(&self) -> Option<f64> {
        self.per_unit(|size| size.channels, |size| size.heads)
    }

    /// The slope from the least to the largest number of units, the other number being the largest.
    fn per_unit(&self, units: fn(&Size) -> i64, other: fn(&Size) -> i64) -> Option<f64> {
        let most = self.latency.iter().map(|(size, _)| other(size)).max()?;
        let along = || self.latency.iter().filter(|(size, _)| other(size) == most);
        let least = along().min_by_key(|(size, _)| units(size))?;
        let last = along().max_by_key(|(size, _)| units(size))?;
        let count = units(&last.0) - units(&least.0);
        (count > 0).then(|| (last.1 - least.1) / count as f64)
    }
}

impl LatencyModel {
    /// Returns the predicted latency by dimension; dimensions of equal layers are one entry.
    ///
    /// # Errors
    /// None for a model that was measured or read.
    pub fn profile(&self) -> Result<Vec<DimensionLatency>> {
        let mut places: BTreeMap<&String, BTreeSet<(usize, usize)>> = BTreeMap::new();
        let mut grids: BTreeMap<&String, &Grid> = BTreeMap::new();
        let mut order: Vec<&String> = Vec::new();
        for term in self.cost.terms() {
            for (position, name) in term.dimensions.iter().enumerate() {
                places.entry(name).or_default().insert((term.table, position));
                if grids.insert(name, &self.cost.tables()[term.table].grids[position]).is_none() {
                    order.push(name);
                }
            }
        }
        let dense: Sizes = grids.iter().map(|(name, grid)| ((*name).clone(), last(grid))).collect();
        let mut profile: Vec<(&BTreeSet<(usize, usize)>, DimensionLatency)> = Vec::new();
        for name in order {
            let place = &places[name];
            match profile.iter_mut().find(|(other, _)| *other == place) {
                Some((_, equal)) => equal.names.push(name.clone()),
                None => {
                    let latency = self.along(name, grids[name], &dense)?;
                    profile.push((place, DimensionLatency { names: vec![name.clone()], latency }));
                }
            }
        }
        Ok(profile.into_iter().map(|(_, own)| own).collect())
    }

    fn along(&self, name: &str, grid: &Grid, dense: &Sizes) -> Result<Vec<(Size, f64)>> {
        let at = |size: Size| {
            let mut sizes = dense.clone();
            sizes.insert(name.into(), size);
            Ok((size, self.predict(&sizes)?))
        };
        // Points without heads are one size.
        let mut sizes: Vec<Size> = grid.sizes().collect();
        sizes.dedup();
        sizes.into_iter().map(at).collect()
    }
}

fn last(grid: &Grid) -> Size {
    let last = |points: &[i64]| points.last().copied().unwrap_or(1);
    Size { heads: last(&grid.heads), channels: last(&grid.channels) }
}

/// Conditions, error, and the latency by dimension, at some sizes.
impl Display for LatencyModel {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        writeln!(f, "{}: dense network {:.3} ms", self.setting, self.dense_ms)?;
        writeln!(
            f,
            "error of predictions: median {}, 95th percentile {}, of {} networks left out of the fit; the dense \
             network's latency changed by {} during the measurement",
            percent(self.error.median),
            percent(self.error.p95),
            self.error.networks,
            percent(self.drift)
        )?;
        write!(f, "milliseconds with one dimension alone at a size:")?;
        for own in self.profile().map_err(|_| std::fmt::Error)? {
            write!(f, "\n{:16}", own.names[0])?;
            if own.names.len() > 1 {
                write!(f, " (one of {} equal ones)", own.names.len())?;
            }
            // Of pairs, those of all heads or of all channels.
            let dense = own.latency.last().map(|(size, _)| *size);
            let full = |size: &Size| {
                dense.is_none_or(|d| size.heads == d.heads || size.channels == d.channels)
            };
            let shown: Vec<_> = own.latency.iter().filter(|(size, _)| full(size)).collect();
            let step = shown.len().div_ceil(SHOWN).max(1);
            for (size, ms) in shown.iter().rev().step_by(step).rev() {
                write!(f, "  {size}: {ms:.3}")?;
            }
        }
        Ok(())
    }
}
