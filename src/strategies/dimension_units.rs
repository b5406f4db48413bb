//! Random units of one dimension: candidates, scores, α, active candidates.

use crate::oracle::Units;
use crate::schedule::LinearRamp;
use crate::space::Candidates;
use ndarray::Array2;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Most heads, and most channels of a head, of a random dimension.
const HEADS: usize = 4;
const CHANNELS: usize = 8;
/// Most candidates: all pairs, and the removal.
const MOST_CANDIDATES: usize = HEADS * CHANNELS + 1;

/// Candidates of at most 4 heads of 8 channels; every second dimension is flat, every fourth may be removed. Shrink to one
/// unit and one candidate.
pub fn candidates() -> impl Strategy<Value = Candidates> {
    // Odd: flat; from 6 on: may be removed. One number shrinks faster than two.
    let sides = (1..=HEADS, 1..=CHANNELS, 0..8u8);
    let (head_counts, widths) = (vec(0..HEADS, 1..=HEADS), vec(0..CHANNELS, 1..=CHANNELS));
    // Proptest shrinks the first part first: few small candidates let the sides shrink further.
    (head_counts, widths, sides).prop_filter_map(
        "candidates within the grid",
        |(head_counts, widths, (heads, channels, kind))| {
            let heads = if kind % 2 == 1 { 1 } else { heads };
            let (head_counts, widths) = (values(heads, head_counts), values(channels, widths));
            let grid = Candidates::grid(heads as i64, channels as i64, head_counts, widths).ok()?;
            Some(if kind >= 6 { grid.with_removal() } else { grid })
        },
    )
}

/// Numbers modulo `most`, plus 1, without duplicates; small numbers are the same for every `most`,
/// so that both shrink independently.
fn values(most: usize, numbers: Vec<usize>) -> Vec<i64> {
    let within = numbers.into_iter().map(|number| 1 + (number % most) as i64);
    within.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Scores that f16, bf16 and f32 represent exactly: multiples of 1/8 in [−4, 4] with many ties, all
/// equal, or as large as ±2¹³. Shrink to zeros.
pub fn scores(count: usize) -> impl Strategy<Value = Vec<f64>> {
    let eighths = || (-32..=32i32).prop_map(|n| f64::from(n) / 8.0);
    let far = prop_oneof![eighths(), Just(8192.0), Just(-8192.0)];
    prop_oneof![
        6 => vec(eighths(), count),
        1 => eighths().prop_map(move |score| vec![score; count]),
        2 => vec(far, count),
    ]
}

/// Candidate logits α, of the same numbers as [`scores`].
pub fn alphas(count: usize) -> impl Strategy<Value = Vec<f64>> {
    scores(count)
}

/// Candidate logits α of any finite f32, from subnormal numbers to ±3.4·10³⁸.
pub fn extreme_alphas(count: usize) -> impl Strategy<Value = Vec<f64>> {
    use proptest::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    let any_finite = NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE;
    let far = prop_oneof![any_finite, Just(f32::MAX), Just(f32::MIN), -4.0..4.0f32];
    vec(far.prop_map(f64::from), count)
}

/// Scores, α and active candidates of one dimension, some of them with the importance of pruned
/// channels.
pub fn units() -> impl Strategy<Value = Units> {
    units_with(alphas(MOST_CANDIDATES))
}

/// [`units`] with other candidate logits: lists of at least 33, of which the first are used.
pub fn units_with(alphas: impl Strategy<Value = Vec<f64>>) -> impl Strategy<Value = Units> {
    let most = HEADS * CHANNELS;
    // Lists for the largest dimension, truncated: they shrink independently of the candidates.
    let flags = (vec(any::<bool>(), MOST_CANDIDATES), any::<prop::sample::Index>());
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

/// Schedules of λ between two values in [0, 1].
pub fn lambda_schedules() -> impl Strategy<Value = LinearRamp> {
    (0.0..=1.0f64, 0.0..=1.0f64, 0..1000u64).prop_map(|(start, end, steps)| LinearRamp {
        start,
        end,
        steps,
    })
}
