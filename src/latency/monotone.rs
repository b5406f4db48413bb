//! Latencies that fall with no size that grows.

use crate::cost::Grid;
use crate::space::Size;

/// Returns the mean of the lowest function above `values` and the highest below them among those that do not fall
/// where heads and units grow: `values` themselves where they do not fall.
///
/// `values`: at all combinations of the points of `grids`, those of the last side by side.
pub(super) fn monotone(grids: &[Grid], values: &[f64]) -> Vec<f64> {
    let above = extended(grids, values, f64::max, |own, other| is_within(other, own));
    let below = extended(grids, values, f64::min, is_within);
    above.iter().zip(&below).map(|(above, below)| (above + below) / 2.0).collect()
}

fn is_within(size: Size, other: Size) -> bool {
    size.heads <= other.heads && size.units() <= other.units()
}

/// Replaces every value by the extreme over the points that `counts` for it, dimension by dimension.
fn extended(
    grids: &[Grid],
    values: &[f64],
    extreme: fn(f64, f64) -> f64,
    counts: impl Fn(Size, Size) -> bool,
) -> Vec<f64> {
    let mut values = values.to_vec();
    let mut inner = values.len();
    for grid in grids {
        let sizes: Vec<Size> = grid.sizes().collect();
        let block = inner;
        inner /= sizes.len().max(1);
        let before = values.clone();
        for (at, value) in values.iter_mut().enumerate() {
            let own = at % block / inner;
            let first = at - own * inner;
            for (other, size) in sizes.iter().enumerate() {
                if counts(sizes[own], *size) {
                    *value = extreme(*value, before[first + other * inner]);
                }
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(widths: &[i64]) -> Grid {
        Grid { heads: vec![1], channels: widths.to_vec() }
    }

    #[test]
    fn monotone_of_rising_values_returns_them() {
        let grids = [grid(&[1, 2]), Grid { heads: vec![1, 2], channels: vec![1, 2] }];
        let values = [1.0, 2.0, 2.5, 4.0, 1.5, 3.0, 3.5, 5.0];
        assert_eq!(monotone(&grids, &values), values);
    }

    #[test]
    fn monotone_of_a_fall_returns_its_mean_on_both_sides() {
        assert_eq!(monotone(&[grid(&[1, 2, 3])], &[1.0, 3.0, 2.0]), [1.0, 2.5, 2.5]);
    }

    #[test]
    fn monotone_in_two_dimensions_never_falls_with_heads_and_units() {
        let grids = [grid(&[1, 2, 3]), Grid { heads: vec![2, 4], channels: vec![3, 5] }];
        let values: Vec<f64> = (0..12).map(|at| f64::from(at * 7 % 12)).collect();
        let result = monotone(&grids, &values);
        let sizes: Vec<[Size; 2]> = grids[0]
            .sizes()
            .flat_map(|first| grids[1].sizes().map(move |second| [first, second]))
            .collect();
        for (own, value) in sizes.iter().zip(&result) {
            for (other, larger) in sizes.iter().zip(&result) {
                let grows = is_within(own[0], other[0]) && is_within(own[1], other[1]);
                assert!(!grows || value <= larger, "{own:?} {value}, {other:?} {larger}");
            }
        }
    }
}
