//! Maps values to positions on an axis.

/// Largest absolute value of an axis end.
const FAR: f64 = 1e300;

/// Range of values of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Scale {
    /// From `low` to `high`; widened where both are equal.
    pub(super) fn new(low: f64, high: f64) -> Self {
        // Rounded ends and their difference must stay finite.
        let (low, high) = (low.clamp(-FAR, FAR), high.clamp(-FAR, FAR));
        if high - low > 1e-9 * low.abs().max(high.abs()) {
            return Self { low, high };
        }
        let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        Self { low: low - if low == 0.0 { 0.0 } else { room }, high: low + room }
    }

    /// Covers all finite values; begins at 0 if the least is below half the greatest; from 0 to 1
    /// if there are no values.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return Self::new(0.0, 1.0);
        }
        let low = if low > 0.0 && low < 0.5 * high { 0.0 } else { low };
        Self::new(low, high).rounded()
    }

    /// Like [`over`](Self::over), but ignores outliers: values farther than 1.5 times the 5 % to
    /// 95 % quantile range outside of it.
    pub(super) fn over_most(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get((share * (sorted.len() as f64 - 1.0)).round() as usize);
        let (Some(low), Some(high), true) = (at(0.05), at(0.95), sorted.len() >= 20) else {
            return Self::over(sorted.into_iter());
        };
        let room = 1.5 * (high - low);
        let (least, most) = (low - room, high + room);
        Self::over(sorted.iter().copied().filter(|value| (least..=most).contains(value)))
    }

    /// Widens the range so that both ends are ticks.
    fn rounded(self) -> Self {
        let step = self.step(4.0);
        Self { low: (self.low / step).floor() * step, high: (self.high / step).ceil() * step }
    }

    /// Position of a value: 0 at the low end, 1 at the high end.
    pub(super) fn place(self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// About `about` round values in the range.
    pub(super) fn ticks(self, about: f64) -> Vec<f64> {
        let step = self.step(about);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|at| at as f64 * step).collect()
    }

    /// Distance of ticks, 1, 2 or 5 times a power of ten, for about `about` of them.
    fn step(self, about: f64) -> f64 {
        let rough = (self.high - self.low) / about;
        let power = 10f64.powf(rough.log10().floor());
        let candidates = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        candidates.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_range_are_round() {
        assert_eq!(
            Scale::new(0.0, 300.0).ticks(6.0),
            [0.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0]
        );
        let scale = Scale::over([2.31, 0.87].into_iter());
        assert_eq!((scale.low, scale.high), (0.0, 3.0));
        assert_eq!(scale.place(1.5), 0.5);
    }

    #[test]
    fn scale_of_equal_or_extreme_values_is_finite() {
        let near = f64::from_bits(0.3f64.to_bits() + 1);
        for pair in [[0.3, near], [-1e308, 1e308], [f64::MIN, f64::MAX], [1e-308, 2e-308], [7.0; 2]]
        {
            let scale = Scale::over(pair.into_iter());
            assert!(scale.low < scale.high, "{pair:?}: {scale:?}");
            for value in pair {
                assert!((0.0..=1.0).contains(&scale.place(value)), "{value} on {scale:?}");
            }
            assert!(scale.ticks(5.0).iter().all(|tick| tick.is_finite()), "{scale:?}");
        }
    }

    #[test]
    fn over_most_with_an_outlier_ignores_it() {
        let values = || (0..100).map(|at| if at == 3 { 1e6 } else { f64::from(at % 10) });
        assert_eq!(Scale::over_most(values()).high, 10.0);
        assert!(Scale::over(values()).high >= 1e6);
        assert_eq!(Scale::over_most([1.0, 1e6].into_iter()), Scale::over([1.0, 1e6].into_iter()));
    }

    #[test]
    fn scale_of_flat_empty_or_nan_values_is_not_empty() {
        let values: [&[f64]; 5] = [&[], &[0.0], &[3.0, 3.0], &[f64::NAN, 2.0], &[-1.0, -1.0]];
        for values in values {
            let scale = Scale::over(values.iter().copied());
            assert!(scale.low < scale.high, "{values:?}: {scale:?}");
            assert!(scale.ticks(4.0).len() >= 2, "{values:?}: {scale:?}");
        }
    }
}
