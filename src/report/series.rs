//! Curves from events.

use crate::search::{Event, StepMetrics};

/// Pairs of step and value, ordered by step.
pub(super) type Points = Vec<[f64; 2]>;

/// Reads one value of each logged step; steps for which `read` returns `None` are omitted.
pub(super) fn of_steps(events: &[Event], read: impl Fn(&StepMetrics) -> Option<f64>) -> Points {
    let step = |event: &Event| match event {
        Event::Step(metrics) => Some([metrics.step as f64, read(metrics)?]),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

/// Running mean in a centred window of a twentieth of the points, shortened at the ends. Non-finite
/// values are not averaged and stay as they are.
pub(super) fn smoothed(points: &[[f64; 2]]) -> Points {
    let half = points.len() / 40;
    // Sums from the start and from the end of each stretch as long as a window: a window is the end of one and the start
    // of the next. Differences of sums over all points would be spoiled by one large value.
    let stretch = 2 * half + 1;
    let numbers: Vec<[f64; 2]> = points.iter().map(|&[_, y]| counted(y)).collect();
    let starts: Vec<[f64; 2]> = numbers.chunks(stretch).flat_map(running).collect();
    let ends = numbers.chunks(stretch).flat_map(|part| {
        let mut sums = running(&part.iter().rev().copied().collect::<Vec<_>>());
        sums.reverse();
        sums
    });
    let ends: Vec<[f64; 2]> = ends.collect();
    let mean = |(at, &[x, y]): (usize, &[f64; 2])| {
        if !y.is_finite() {
            return [x, y];
        }
        let (first, last) = (at.saturating_sub(half), (at + half).min(points.len() - 1));
        let [sum, count] = match first / stretch == last / stretch {
            // Within one stretch: the whole of it, or shortened at an end of the curve.
            true if first % stretch == 0 => starts[last],
            true => ends[first],
            false => add(ends[first], starts[last]),
        };
        [x, sum / count]
    };
    points.iter().enumerate().map(mean).collect()
}

/// A value and 1; zeros of one that is not finite.
fn counted(value: f64) -> [f64; 2] {
    if value.is_finite() {
        [value, 1.0]
    } else {
        [0.0; 2]
    }
}

/// Sums of the first values, of as many as each has before it and itself.
fn running(values: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let sum = |sum: &mut [f64; 2], &own: &[f64; 2]| {
        *sum = add(*sum, own);
        Some(*sum)
    };
    values.iter().scan([0.0; 2], sum).collect()
}

fn add([a, b]: [f64; 2], [c, d]: [f64; 2]) -> [f64; 2] {
    [a + c, b + d]
}

/// Reduces a curve to about `most` points: its ends, and the lowest and highest point of each
/// stretch, so that peaks are kept.
pub(super) fn thinned(points: &[[f64; 2]], most: usize) -> Points {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = (2 * points.len()).div_ceil(most);
    let mut kept = vec![points[0]];
    for part in points[1..points.len() - 1].chunks(stretch) {
        let order = |left: &&[f64; 2], right: &&[f64; 2]| left[1].total_cmp(&right[1]);
        let ends = [part.iter().min_by(order), part.iter().max_by(order)];
        let mut ends: Vec<[f64; 2]> = ends.into_iter().flatten().copied().collect();
        ends.sort_by(|left, right| left[0].total_cmp(&right[0]));
        ends.dedup_by(|left, right| left[0] == right[0]);
        kept.extend(ends);
    }
    kept.push(points[points.len() - 1]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinned_curve_keeps_ends_and_peaks() {
        let mut points: Points = (0..10_000).map(|at| [f64::from(at), 0.0]).collect();
        points[5_003][1] = 9.0;
        points[7_777][1] = f64::NAN;
        let kept = thinned(&points, 300);
        assert!(kept.len() <= 310, "{}", kept.len());
        assert_eq!((kept[0][0], kept[kept.len() - 1][0]), (0.0, 9_999.0));
        assert!(kept.contains(&[5_003.0, 9.0]));
        assert!(kept.windows(2).all(|pair| pair[0][0] < pair[1][0]));
    }

    #[test]
    fn smoothed_straight_line_is_unchanged_and_nan_stays() {
        let mut points: Points = (0..100).map(|at| [f64::from(at), 2.0 * f64::from(at)]).collect();
        let smooth = smoothed(&points);
        let inside = 2..98;
        assert!(inside.into_iter().all(|at| (points[at][1] - smooth[at][1]).abs() < 1e-9));
        assert_eq!((smooth[0][1], smooth[99][1]), (2.0, 196.0));
        points[50][1] = f64::NAN;
        let smooth = smoothed(&points);
        assert!(smooth[50][1].is_nan() && smooth[49][1].is_finite());
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn smoothed_curve_has_the_mean_of_every_window() {
        for count in [1, 39, 40, 85, 203] {
            let y = |at: usize| (at * 7 % 11) as f64;
            let points: Points = (0..count).map(|at| [at as f64, y(at)]).collect();
            let half = count / 40;
            for (at, [_, mean]) in smoothed(&points).into_iter().enumerate() {
                let window = at.saturating_sub(half)..(at + half + 1).min(count);
                let expected = window.clone().map(y).sum::<f64>() / window.len() as f64;
                assert!((mean - expected).abs() < 1e-12, "{count}, {at}: {mean}, {expected}");
            }
        }
    }

    #[test]
    fn smoothed_curve_after_large_values_is_the_mean_of_its_own_window() {
        let last = |large: &[f64]| {
            let ones = std::iter::repeat_n(&1.0, 99);
            let points = large.iter().chain(ones).enumerate().map(|(at, y)| [at as f64, *y]);
            smoothed(&points.collect::<Points>()).last().map(|point| point[1])
        };
        assert_eq!(last(&[1e30]), Some(1.0));
        assert_eq!(last(&[1e308, 1e308]), Some(1.0));
    }
}
