//! Evaluation of features by labels.

mod knn;
mod probe;

/// Numbers in −1..1 that look random, of a seed.
pub fn draw(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
