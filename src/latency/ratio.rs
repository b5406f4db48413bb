//! Latency of a network relative to the dense network, from visits in turn.

use super::median;

/// Standard deviation of a normal distribution divided by the median of its absolute deviations.
const NORMAL: f64 = 1.4826;
/// Standard error of a median divided by that of the mean.
const MEDIAN: f64 = 1.2533;

/// Visits of a network, each between two of the dense network.
#[derive(Debug, Clone, Default)]
pub(super) struct Ratios {
    /// Change of the dense network's latency from the visit before to that after, as a share; ratio to it.
    visits: Vec<[f64; 2]>,
}

impl Ratios {
    /// Adds a visit. `share`: of the way from the visit `before` to that `after`, at which it was: as if the machine's
    /// speed changed evenly.
    pub(super) fn add(&mut self, time: f64, [before, after]: [f64; 2], share: f64) {
        let dense = before + (after - before) * share;
        self.visits.push([((after - before) / dense).abs(), time / dense]);
    }

    /// Returns median and standard error of the ratio, over the half of the visits during which the machine's speed
    /// changed least.
    pub(super) fn median(&self) -> (f64, f64) {
        let mut visits = self.visits.clone();
        visits.sort_by(|left, right| left[0].total_cmp(&right[0]));
        visits.truncate(visits.len().div_ceil(2));
        let ratios = || visits.iter().map(|[_, ratio]| *ratio);
        let middle = median(ratios().collect());
        let deviation = median(ratios().map(|ratio| (ratio - middle).abs()).collect());
        (middle, MEDIAN * NORMAL * deviation / (visits.len() as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_under_an_even_drift_are_exact() {
        let mut ratios = Ratios::default();
        // The dense network takes 10, 12, 14 ms; half of it in between.
        ratios.add(5.5, [10.0, 12.0], 0.5);
        ratios.add(6.25, [12.0, 14.0], 0.25);
        ratios.add(6.75, [12.0, 14.0], 0.75);
        assert_eq!(ratios.median(), (0.5, 0.0));
    }

    #[test]
    fn ratios_while_the_speed_changed_do_not_count() {
        let mut ratios = Ratios::default();
        for (time, after) in [(5.0, 10.0), (30.0, 20.0), (5.1, 10.1), (1.0, 4.0)] {
            ratios.add(time, [10.0, after], 0.0);
        }
        assert!((ratios.median().0 - 0.505).abs() < 1e-12, "{:?}", ratios.median());
    }
}
