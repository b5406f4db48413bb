//! Predicted latency by dimension: what a head or a channel costs.

use super::LatencyModel;
use crate::cost::Grid;
use crate::space::{Size, Sizes};
use crate::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};

/// Sizes of a dimension in text, at most.
const SHOWN: usize = 8;

/// Predicted latency with one dimension alone at each of its sizes, all others dense.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DimensionLatency {
    /// Names of the dimensions of equal layers, of which one has the size.
    pub names: Vec<String>,
    /// Sizes, ascending in heads, then in channels, with the latency in milliseconds of a batch. Channels are counted,
    /// also where rotary positions turn pairs of them.
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

    /// Returns at most eight sizes to show: of pairs, those of all heads or of all channels. The largest is among them,
    /// and so is the removal, if it is a size.
    pub(crate) fn shown(&self) -> Vec<(Size, f64)> {
        let (removed, sizes): (Vec<_>, Vec<_>) =
            self.latency.iter().partition(|(size, _)| size.is_removed());
        let Some(&(most, _)) = sizes.last() else { return removed };
        let along =
            |(size, _): &(Size, f64)| size.heads == most.heads || size.channels == most.channels;
        let along: Vec<(Size, f64)> = sizes.into_iter().filter(along).collect();
        let step = along.len().div_ceil(SHOWN - removed.len().min(1)).max(1);
        let mut shown: Vec<(Size, f64)> = along.into_iter().rev().step_by(step).collect();
        shown.extend(removed.first());
        shown.reverse();
        shown
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
        let mut order: Vec<(&String, &Grid)> = Vec::new();
        for (name, place, grid) in self.grids() {
            if !places.contains_key(name) {
                order.push((name, grid));
            }
            places.entry(name).or_default().insert(place);
        }
        let dense = self.dense_sizes();
        let mut profile: Vec<(&BTreeSet<(usize, usize)>, DimensionLatency)> = Vec::new();
        for (name, grid) in order {
            let place = &places[name];
            match profile.iter_mut().find(|(other, _)| *other == place) {
                Some((_, equal)) => equal.names.push(name.clone()),
                None => {
                    let mut latency = self.along(name, grid, &dense)?;
                    let unit = self.channels_per_unit.get(name).copied().unwrap_or(1).max(1);
                    for (size, _) in &mut latency {
                        size.channels = size.channels.saturating_mul(unit);
                    }
                    profile.push((place, DimensionLatency { names: vec![name.clone()], latency }));
                }
            }
        }
        Ok(profile.into_iter().map(|(_, own)| own).collect())
    }

    /// Returns the dense sizes of all dimensions that were measured.
    pub(super) fn dense_sizes(&self) -> Sizes {
        self.grids().map(|(name, _, grid)| (name.clone(), grid.last())).collect()
    }

    /// Dimensions of all terms, each with its table, its place there and its points.
    fn grids(&self) -> impl Iterator<Item = (&String, (usize, usize), &Grid)> {
        self.cost.terms().iter().flat_map(|term| {
            let grids = self.cost.tables().get(term.table).map_or(&[][..], |own| &own.grids);
            let own = term.dimensions.iter().zip(grids).enumerate();
            own.map(|(position, (name, grid))| (name, (term.table, position), grid))
        })
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
            for (size, ms) in own.shown() {
                write!(f, "  {size}: {ms:.3}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sizes: impl IntoIterator<Item = Size>) -> DimensionLatency {
        let latency = sizes.into_iter().map(|size| (size, size.units() as f64)).collect();
        DimensionLatency { names: vec!["d".into()], latency }
    }

    #[test]
    fn shown_sizes_are_few_and_have_the_removal_and_the_largest() {
        for most in 1..40 {
            let flat = || (1..=most).map(Size::flat);
            let shown = of(flat()).shown();
            assert!(shown.len() <= SHOWN && shown.last() == Some(&(Size::flat(most), most as f64)));
            let shown = of([Size::REMOVED].into_iter().chain(flat())).shown();
            assert_eq!((shown[0], shown.len() <= SHOWN), ((Size::REMOVED, 0.0), true));
            assert_eq!(shown.last(), Some(&(Size::flat(most), most as f64)));
        }
        assert_eq!(of([Size::REMOVED]).shown(), [(Size::REMOVED, 0.0)]);
        assert!(of([]).shown().is_empty());
    }

    #[test]
    fn shown_pairs_are_those_of_all_heads_or_of_all_channels() {
        let pairs = [[0, 0], [1, 4], [1, 8], [2, 4], [2, 8]];
        let sizes = pairs.map(|[heads, channels]| Size { heads, channels });
        let shown: Vec<Size> = of(sizes).shown().into_iter().map(|(size, _)| size).collect();
        assert_eq!(shown, [sizes[0], sizes[2], sizes[3], sizes[4]]);
    }
}
