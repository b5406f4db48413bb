//! Units of one dimension: candidates, scores, α, active candidates.

use crate::oracle::Units;
use crate::schedule::LinearRamp;
use crate::space::Candidates;
use ndarray::Array2;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The largest grid: heads, channels.
const HEADS: usize = 4;
const CHANNELS: usize = 8;

/// Candidates of a grid of at most 4 heads of 8 channels, every second one flat. They shrink to one
/// unit and one candidate.
pub fn candidates() -> impl Strategy<Value = Candidates> {
    let sides = (1..=HEADS, 1..=CHANNELS, any::<bool>());
    let (head_counts, widths) = (vec(0..HEADS, 1..=HEADS), vec(0..CHANNELS, 1..=CHANNELS));
    // What comes first shrinks first: few small candidates let the sides shrink further.
    (head_counts, widths, sides).prop_filter_map(
        "candidates within the grid",
        |(head_counts, widths, (heads, channels, flat))| {
            let heads = if flat { 1 } else { heads };
            let (head_counts, widths) = (values(heads, head_counts), values(channels, widths));
            Candidates::grid(heads as i64, channels as i64, head_counts, widths).ok()
        },
    )
}

/// Any numbers, brought into 1..=most: whatever `most` shrinks to, small ones stay what they are.
fn values(most: usize, numbers: Vec<usize>) -> Vec<i64> {
    let within = numbers.into_iter().map(|number| 1 + (number % most) as i64);
    within.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Scores that every kind of number holds exactly: eighths within ±4 with many ties, all equal,
/// or as far out as ±2¹³. They shrink to zeros.
pub fn scores(count: usize) -> impl Strategy<Value = Vec<f64>> {
    let eighths = || (-32..=32i32).prop_map(|n| f64::from(n) / 8.0);
    let far = prop_oneof![eighths(), Just(8192.0), Just(-8192.0)];
    prop_oneof![
        6 => vec(eighths(), count),
        1 => eighths().prop_map(move |score| vec![score; count]),
        2 => vec(far, count),
    ]
}

/// Candidate logits: like scores.
pub fn alphas(count: usize) -> impl Strategy<Value = Vec<f64>> {
    scores(count)
}

/// Candidate logits of any finite f32: denormals, ±3.4·10³⁸ and all between.
pub fn extreme_alphas(count: usize) -> impl Strategy<Value = Vec<f64>> {
    use proptest::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    let any_finite = NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE;
    let far = prop_oneof![any_finite, Just(f32::MAX), Just(f32::MIN), -4.0..4.0f32];
    vec(far.prop_map(f64::from), count)
}

/// Units of one dimension with everything a bi-mask is computed from; of some, channels have left.
pub fn units() -> impl Strategy<Value = Units> {
    units_with(alphas(HEADS * CHANNELS))
}

/// Units with candidate logits of one's own, at least 32 at a time, of which the first are used.
pub fn units_with(alphas: impl Strategy<Value = Vec<f64>>) -> impl Strategy<Value = Units> {
    let most = HEADS * CHANNELS;
    // Lists as long as the largest grid needs, cut to size: they shrink apart from the candidates.
    let flags = (vec(any::<bool>(), most), any::<prop::sample::Index>());
    let pruned_importance =
        prop::option::of(vec((0..32u8).prop_map(|n| f64::from(n) / 8.0), HEADS));
    (candidates(), scores(most), alphas, flags, pruned_importance).prop_filter_map(
        "units of the candidates",
        |(candidates, score, alpha, flags, pruned_importance)| {
            let (mut active, one) = flags;
            active[one.index(candidates.len())] = true;
            let [heads, channels] = candidates.unit_shape().map(|side| side as usize);
            let [rows, columns] = candidates.shape().map(|side| side as usize);
            let score = first(score, [heads, channels])?;
            let (alpha, active) = (first(alpha, [rows, columns])?, first(active, [rows, columns])?);
            let units = Units::new(candidates, score, alpha, active).ok()?;
            match pruned_importance {
                None => Some(units),
                Some(pruned_importance) => units
                    .with_pruned_importance(pruned_importance.into_iter().take(heads).collect())
                    .ok(),
            }
        },
    )
}

fn first<T>(mut values: Vec<T>, [rows, columns]: [usize; 2]) -> Option<Array2<T>> {
    values.truncate(rows * columns);
    Array2::from_shape_vec((rows, columns), values).ok()
}

/// λ schedules between any two ends.
pub fn lambda_schedules() -> impl Strategy<Value = LinearRamp> {
    (0.0..=1.0f64, 0.0..=1.0f64, 0..1000u64).prop_map(|(start, end, steps)| LinearRamp {
        start,
        end,
        steps,
    })
}
