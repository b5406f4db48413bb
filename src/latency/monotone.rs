//! Latencies that fall with no size that grows.

use super::groups::Class;
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

/// Returns the values of a table of a class, [`monotone`], and with one value at all sizes of a dimension where the branch
/// that it needs is removed: that of its smallest size, the lowest.
pub(super) fn table_values(class: &Class, values: &[f64]) -> Vec<f64> {
    let mut values = monotone(&class.grids, values);
    let sizes: Vec<Vec<Size>> = class.grids.iter().map(|grid| grid.sizes().collect()).collect();
    let mut inner = values.len();
    let strides = sizes.iter().map(|own| {
        inner /= own.len().max(1);
        inner
    });
    let strides: Vec<usize> = strides.collect();
    let number = |at: usize, axis: usize| at / strides[axis] % sizes[axis].len();
    for (axis, need) in class.needs.iter().enumerate() {
        let Some(need) = *need else { continue };
        for at in 0..values.len() {
            if sizes[need][number(at, need)].is_removed() {
                values[at] = values[at - number(at, axis) * strides[axis]];
            }
        }
    }
    values
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
    fn table_has_one_value_where_the_needed_branch_is_removed() {
        let branch = Grid { heads: vec![0, 1], channels: vec![1, 2] };
        let grids = vec![grid(&[1, 2]), branch, grid(&[1, 2, 3])];
        let class = Class { grids, needs: vec![None, None, Some(1)], members: vec![], share: 1.0 };
        let values: Vec<f64> = (0..24).map(|at| f64::from(at * 7 % 24)).collect();
        let result = table_values(&class, &values);
        let monotone = monotone(&class.grids, &values);
        // Embedding by embedding: removed at 1 and 2 channels, then present at 1 and 2.
        for (own, before) in result.chunks(12).zip(monotone.chunks(12)) {
            assert!(own[..6].iter().all(|value| *value == before[0]), "{own:?}");
            assert_eq!(own[6..], before[6..]);
            assert!(own[6..].iter().all(|value| *value >= own[0]), "{own:?}");
        }
        assert!(monotone[..6].iter().any(|value| *value != monotone[0]), "{monotone:?}");
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
