//! Ranks, survivors and bi-masks against loops written down from their definitions.

mod support;

use once_for_both::mask::{
    head_ranks, most_important, ranks, BiMask, LearnedBiMask, Mask, UnitState,
};
use once_for_both::space::{ActiveSet, Cells, Size};
use once_for_both::Error;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use support::{
    from_numbers, gradients, in_words, leaf, numbers, softmax, test_device, TestResult, Tolerance,
};
use tch::{Kind, Tensor};

/// Numbers of one sign are added.
const SUM: Tolerance = Tolerance { relative: 1e-6, absolute: 1e-7 };

/// How many are larger, or equal and further left.
fn slow_ranks(values: &[f64]) -> Vec<usize> {
    let before = |i: usize, j: usize| values[j] > values[i] || (values[j] == values[i] && j < i);
    (0..values.len()).map(|i| (0..values.len()).filter(|&j| before(i, j)).count()).collect()
}

/// Ranks of the heads, and of the channels inside each head.
fn slow_places(score: &[f64], importance: &[f64], channels: usize) -> (Vec<usize>, Vec<usize>) {
    let sums: Vec<f64> = importance.chunks(channels).map(|head| head.iter().sum()).collect();
    (slow_ranks(&sums), score.chunks(channels).flat_map(slow_ranks).collect())
}

/// Units of the best heads' best channels, ascending.
fn slow_survivors(score: &[f64], importance: &[f64], channels: usize, size: Size) -> Vec<f64> {
    let (heads, within) = slow_places(score, importance, channels);
    let lives = |unit: &usize| {
        heads[unit / channels] < size.heads as usize && within[*unit] < size.channels as usize
    };
    (0..score.len()).filter(lives).map(|unit| unit as f64).collect()
}

/// A grid with everything a bi-mask is computed from.
#[derive(Debug, Clone)]
struct Grid {
    cells: Cells,
    /// Small whole numbers: many ties.
    score: Vec<f64>,
    /// Eighths: sums over heads are exact, and often equal.
    importance: Vec<f64>,
    alpha: Vec<f64>,
    active: Vec<bool>,
    upstream: Vec<f64>,
}

impl Grid {
    fn active(&self) -> TestResult<ActiveSet> {
        Ok(ActiveSet::new(&self.cells, self.active.clone(), test_device())?)
    }

    fn units(&self, values: &[f64]) -> TestResult<Tensor> {
        from_numbers(values, &self.cells.unit_shape())
    }

    fn alpha(&self) -> TestResult<Tensor> {
        from_numbers(&self.alpha, &self.cells.shape())
    }

    fn channels(&self) -> usize {
        self.cells.channels() as usize
    }

    /// Whether a cell keeps the unit of these ranks.
    fn keeps(&self, cell: usize, head: usize, channel: usize) -> bool {
        let size = self.cells.size(cell);
        size.heads > head as i64 && size.channels > channel as i64
    }

    /// Σ of the cells' probabilities that keep the unit of these ranks.
    fn slow_survival(&self, head: usize, channel: usize) -> f64 {
        let p = softmax(&self.alpha, &self.active);
        (0..p.len()).filter(|&cell| self.keeps(cell, head, channel)).map(|cell| p[cell]).sum()
    }
}

fn grids() -> impl Strategy<Value = Grid> {
    let candidates = |most: i64| subsequence((1..=most).collect::<Vec<_>>(), 1..=most as usize);
    let cells = (1..=4i64, 1..=7i64)
        .prop_flat_map(move |(h, c)| (Just(h), Just(c), candidates(h), candidates(c)));
    cells.prop_flat_map(|(heads, channels, head_counts, widths)| {
        let cells = Cells::grid(heads, channels, head_counts, widths);
        let cells = cells.unwrap_or_else(|error| panic!("{error}"));
        let (units, count) = (cells.units() as usize, cells.len());
        let eighths = vec((0..8).prop_map(|n| f64::from(n) / 8.0), units);
        let flags = (0..count, vec(any::<bool>(), count)).prop_map(|(one, mut flags)| {
            flags[one] = true;
            flags
        });
        (
            Just(cells),
            vec((-3..4).prop_map(f64::from), units),
            eighths,
            vec(-2.0..2.0, count),
            flags,
            vec(-1.0..1.0, units),
        )
            .prop_map(|(cells, score, importance, alpha, active, upstream)| Grid {
                cells,
                score,
                importance,
                alpha,
                active,
                upstream,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranks_count_what_comes_before(
        rows in 1..4usize,
        columns in 1..40usize,
        seed in vec(-5..6i32, 160),
    ) {
        let values: Vec<f64> = seed[..rows * columns].iter().copied().map(f64::from).collect();
        let tensor = in_words(from_numbers(&values, &[rows as i64, columns as i64]))?;
        let found = ranks(&tensor)?;
        prop_assert_eq!(found.kind(), Kind::Int64);
        let expected: Vec<f64> =
            values.chunks(columns).flat_map(slow_ranks).map(|rank| rank as f64).collect();
        prop_assert_eq!(in_words(numbers(&found))?, expected);
    }

    #[test]
    fn the_most_important_are_the_best_channels_of_the_best_heads(grid in grids()) {
        let (score, importance) =
            (in_words(grid.units(&grid.score))?, in_words(grid.units(&grid.importance))?);
        let (heads, _) = slow_places(&grid.score, &grid.importance, grid.channels());
        let heads: Vec<f64> = heads.into_iter().map(|rank| rank as f64).collect();
        prop_assert_eq!(in_words(numbers(&head_ranks(&importance, None)?))?, heads);
        for size in grid.cells.sizes() {
            let found = in_words(numbers(&most_important(&score, &head_ranks(&importance, None)?, size)?))?;
            let expected = slow_survivors(&grid.score, &grid.importance, grid.channels(), size);
            prop_assert_eq!(found, expected, "at {:?}", size);
        }
    }

    #[test]
    fn sparsity_is_the_probability_to_survive(grid in grids()) {
        let (score, importance) =
            (in_words(grid.units(&grid.score))?, in_words(grid.units(&grid.importance))?);
        let (alpha, active) = (in_words(grid.alpha())?, in_words(grid.active())?);
        let mask = LearnedBiMask::new(grid.cells.clone(), test_device())?;
        let state = UnitState { score: &score, alpha: &alpha, active: &active, departed: None };
        let (heads, within) = slow_places(&grid.score, &grid.importance, grid.channels());

        let by_rank: Vec<f64> = (0..grid.score.len())
            .map(|place| grid.slow_survival(place / grid.channels(), place % grid.channels()))
            .collect();
        let found = mask.sparsity_by_rank(&alpha, &active)?;
        in_words(SUM.check_against("sparsity by rank", &found, &by_rank))?;

        let expected: Vec<f64> = (0..grid.score.len())
            .map(|unit| grid.slow_survival(heads[unit / grid.channels()], within[unit]))
            .collect();
        let found = mask.sparsity(state, &importance)?;
        in_words(SUM.check_against("sparsity", &found, &expected))?;
        prop_assert!(in_words(numbers(&found))?.iter().all(|v| (0.0..=1.0).contains(v)));
    }

    #[test]
    fn gradients_reach_scores_by_importance_and_alpha_by_sparsity(
        grid in grids(),
        lambda in 0.0..=1.0f64,
    ) {
        let score = leaf(&in_words(grid.units(&grid.score))?);
        let alpha = leaf(&in_words(grid.alpha())?);
        let active = in_words(grid.active())?;
        let bi_mask = LearnedBiMask::new(grid.cells.clone(), test_device())?;
        let state = UnitState { score: &score, alpha: &alpha, active: &active, departed: None };
        let Mask { importance, mask, .. } = bi_mask.mask(state, lambda)?;
        let loss = (mask * in_words(grid.units(&grid.upstream))?).f_sum(None)?;
        let found = in_words(gradients(&loss, &[&score, &alpha]))?;

        let sigmoid: Vec<f64> = grid.score.iter().map(|s| 1.0 / (1.0 + (-s).exp())).collect();
        in_words(SUM.check_against("importance", &importance, &sigmoid))?;
        let to_score: Vec<f64> = sigmoid
            .iter()
            .zip(&grid.upstream)
            .map(|(s, upstream)| upstream * lambda * s * (1.0 - s))
            .collect();
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        in_words(close.check_against("gradient in the score", &found[0], &to_score))?;

        // dp_k/dα_j = p_k (δ_kj − p_j), and a cell's p counts for all units it keeps. Ranks of
        // heads are taken from the tensor, whose sums may round to a tie.
        let heads: Vec<usize> =
            in_words(numbers(&head_ranks(&importance.detach(), None)?))?.iter().map(|&r| r as usize).collect();
        let (_, within) = slow_places(&grid.score, &sigmoid, grid.channels());
        let p = softmax(&grid.alpha, &grid.active);
        let to_p: Vec<f64> = (0..p.len())
            .map(|cell| {
                let kept = (0..within.len())
                    .filter(|&unit| grid.keeps(cell, heads[unit / grid.channels()], within[unit]));
                (1.0 - lambda) * kept.map(|unit| grid.upstream[unit]).sum::<f64>()
            })
            .collect();
        let mean: f64 = p.iter().zip(&to_p).map(|(p, g)| p * g).sum();
        let to_alpha: Vec<f64> = p.iter().zip(&to_p).map(|(p, g)| p * (g - mean)).collect();
        let close = Tolerance { relative: 1e-5, absolute: 1e-5 };
        in_words(close.check_against("gradient in alpha", &found[1], &to_alpha))?;
    }

    #[test]
    fn a_decided_dimension_keeps_exactly_its_most_important_units(
        grid in grids(),
        pick in any::<prop::sample::Index>(),
    ) {
        let cell = pick.index(grid.cells.len());
        let flags = (0..grid.cells.len()).map(|other| other == cell).collect();
        let active = ActiveSet::new(&grid.cells, flags, test_device())?;
        let (score, alpha) = (in_words(grid.units(&grid.score))?, in_words(grid.alpha())?);
        let bi_mask = LearnedBiMask::new(grid.cells.clone(), test_device())?;
        let state = UnitState { score: &score, alpha: &alpha, active: &active, departed: None };
        let mask = bi_mask.mask(state, 0.0)?;
        let kept = most_important(&score, &head_ranks(&mask.importance, None)?, grid.cells.size(cell))?;
        let expected = mask.mask.zeros_like().flatten(0, -1).index_fill(0, &kept, 1.0);
        let exact = Tolerance::relative(0.0);
        in_words(exact.check("mask", &mask.mask.flatten(0, -1), &expected))?;
    }
}

#[test]
fn states_of_other_shapes_and_lambdas_out_of_range_are_refused() -> TestResult {
    let cells = Cells::grid(2, 4, vec![1, 2], vec![2, 4])?;
    let active = ActiveSet::all(&cells, test_device())?;
    let bi_mask = LearnedBiMask::new(cells, test_device())?;
    let (score, alpha) = (from_numbers(&[0.0; 8], &[2, 4])?, from_numbers(&[0.0; 4], &[2, 2])?);
    let state = UnitState { score: &score, alpha: &alpha, active: &active, departed: None };
    let turned = score.view([4, 2]);
    assert_refused!(
        bi_mask.mask(UnitState { score: &turned, ..state }, 0.5),
        Error::Shape { ref expected, .. } if expected == &[2, 4]
    );
    let long = from_numbers(&[0.0; 6], &[2, 3])?;
    assert_refused!(
        bi_mask.mask(UnitState { alpha: &long, ..state }, 0.5),
        Error::Shape { ref actual, .. } if actual == &[2, 3]
    );
    for lambda in [-0.1, 1.1, f64::NAN] {
        assert_refused!(bi_mask.mask(state, lambda), Error::Invalid { .. });
    }
    Ok(())
}
