//! The units of one dimension and their bi-mask.

use crate::mask::check_lambda;
use crate::space::Cells;
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use std::fmt;

/// Everything a bi-mask is computed from, in numbers.
#[derive(Clone, PartialEq)]
pub struct Units {
    cells: Cells,
    score: Array2<f64>,
    alpha: Array2<f64>,
    active: Array2<bool>,
    departed: Option<Array1<f64>>,
}

/// A bi-mask and its two halves, each shaped like the scores.
#[derive(Debug, Clone, PartialEq)]
pub struct BiMask {
    /// S = σ(score).
    pub importance: Array2<f64>,
    /// V, the probability that the unit survives.
    pub sparsity: Array2<f64>,
    /// m = λ·S + (1−λ)·V.
    pub mask: Array2<f64>,
}

/// Mean sizes over the cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedSize {
    /// Σ p·h·c, which is Σ p·w in a flat dimension.
    pub units: f64,
    /// Σ p·h.
    pub heads: f64,
}

/// Row by row, for a counterexample that can be read and typed in again.
impl fmt::Debug for Units {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        fn rows<T: Copy>(values: &Array2<T>) -> Vec<Vec<T>> {
            values.rows().into_iter().map(|row| row.to_vec()).collect()
        }
        formatter
            .debug_struct("Units")
            .field("cells", &self.cells)
            .field("score", &rows(&self.score))
            .field("alpha", &rows(&self.alpha))
            .field("active", &rows(&self.active))
            .field("departed", &self.departed.as_ref().map(|all| all.to_vec()))
            .finish()
    }
}

impl Units {
    /// Units with scores `[heads, channels]`, α and active cells `[head counts, widths]`.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the array that does not fit the cells; [`Error::Invalid`] without
    /// an active cell; [`Error::NonFinite`] for a score or α that is not a number.
    pub fn new(
        cells: Cells,
        score: Array2<f64>,
        alpha: Array2<f64>,
        active: Array2<bool>,
    ) -> Result<Self> {
        expect_shape("score", score.dim(), cells.unit_shape())?;
        expect_shape("alpha", alpha.dim(), cells.shape())?;
        expect_shape("active cells", active.dim(), cells.shape())?;
        if !active.iter().any(|&active| active) {
            return Err(Error::invalid("active cells", "at least one", 0));
        }
        for (name, values) in [("score", &score), ("alpha", &alpha)] {
            if !values.iter().all(|value| value.is_finite()) {
                return Err(Error::NonFinite { name: name.into(), dimension: "units".into() });
            }
        }
        Ok(Self { cells, score, alpha, active, departed: None })
    }

    /// The same units, with the importance of channels that have left, by head: it counts among the
    /// heads' ranks.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless there is one number a head; [`Error::NonFinite`] if one is not.
    pub fn with_departed(mut self, departed: Array1<f64>) -> Result<Self> {
        let heads = self.score.nrows();
        if departed.len() != heads {
            let expected = format!("{heads}, one a head");
            return Err(Error::invalid("departed importances", expected, departed.len()));
        }
        if !departed.iter().all(|value| value.is_finite()) {
            let (name, dimension) = ("departed importance".into(), "units".into());
            return Err(Error::NonFinite { name, dimension });
        }
        self.departed = Some(departed);
        Ok(self)
    }

    /// The same units with other scores, α or active cells.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn like(
        &self,
        score: Array2<f64>,
        alpha: Array2<f64>,
        active: Array2<bool>,
    ) -> Result<Self> {
        let departed = self.departed.clone();
        Ok(Self { departed, ..Self::new(self.cells.clone(), score, alpha, active)? })
    }

    /// The cells.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Scores, `[heads, channels]`.
    pub fn score(&self) -> &Array2<f64> {
        &self.score
    }

    /// Cell logits, `[head counts, widths]`.
    pub fn alpha(&self) -> &Array2<f64> {
        &self.alpha
    }

    /// Active cells, `[head counts, widths]`.
    pub fn active(&self) -> &Array2<bool> {
        &self.active
    }

    /// Importance of channels that have left, `[heads]`, if any have.
    pub fn departed(&self) -> Option<&Array1<f64>> {
        self.departed.as_ref()
    }

    /// n, the number of active cells.
    pub fn active_count(&self) -> usize {
        self.active.iter().filter(|&&active| active).count()
    }

    /// p: softmax of α over the active cells; 0 outside.
    pub fn probabilities(&self) -> Array2<f64> {
        let cells = || self.alpha.iter().zip(&self.active);
        let largest = cells()
            .filter(|(_, &active)| active)
            .fold(f64::NEG_INFINITY, |largest, (&alpha, _)| largest.max(alpha));
        let exp = |(&alpha, &active): (&f64, &bool)| match active {
            true => (alpha - largest).exp(),
            false => 0.0,
        };
        let exps =
            Array2::from_shape_fn(self.alpha.dim(), |at| exp((&self.alpha[at], &self.active[at])));
        let sum = exps.sum();
        exps / sum
    }

    /// `V̂[ρ, r] = Σ_{h_a > ρ, c_b > r} p_ab`: how probable it is that the r-th channel of the
    /// ρ-th head survives.
    pub fn survival_by_rank(&self) -> Array2<f64> {
        let p = self.probabilities();
        let (head_counts, widths) = (self.cells.head_counts(), self.cells.widths());
        Array2::from_shape_fn(self.score.dim(), |(head, channel)| {
            let mut survival = 0.0;
            for (a, &heads) in head_counts.iter().enumerate() {
                for (b, &width) in widths.iter().enumerate() {
                    if heads > head as i64 && width > channel as i64 {
                        survival += p[(a, b)];
                    }
                }
            }
            survival
        })
    }

    /// S = σ(score).
    pub fn importance(&self) -> Array2<f64> {
        self.score.mapv(sigmoid)
    }

    /// Importance of every head: the sum of its channels', of those that have left too.
    pub fn head_importance(&self) -> Array1<f64> {
        let sums = self.importance().sum_axis(Axis(1));
        match &self.departed {
            Some(departed) => sums + departed,
            None => sums,
        }
    }

    /// Ranks of the heads, by their importance.
    pub fn head_ranks(&self) -> Array1<usize> {
        ranks(self.head_importance().view())
    }

    /// Ranks of the channels inside each head, by score.
    pub fn channel_ranks(&self) -> Array2<usize> {
        let mut all = Array2::zeros(self.score.dim());
        for (head, score) in self.score.rows().into_iter().enumerate() {
            all.row_mut(head).assign(&ranks(score));
        }
        all
    }

    /// V: the survival of every unit's rank.
    pub fn sparsity(&self) -> Array2<f64> {
        let (survival, heads, channels) =
            (self.survival_by_rank(), self.head_ranks(), self.channel_ranks());
        Array2::from_shape_fn(self.score.dim(), |(head, channel)| {
            survival[(heads[head], channels[(head, channel)])]
        })
    }

    /// m = λ·S + (1−λ)·V, with its halves (paper eq. 5).
    ///
    /// # Errors
    /// [`Error::Invalid`] if λ is outside [0, 1].
    pub fn mask(&self, lambda: f64) -> Result<BiMask> {
        check_lambda("lambda", lambda)?;
        let (importance, sparsity) = (self.importance(), self.sparsity());
        let mask = &importance * lambda + &sparsity * (1.0 - lambda);
        Ok(BiMask { importance, sparsity, mask })
    }

    /// Expected numbers of units and heads, which the budget loss works on.
    pub fn expected_size(&self) -> ExpectedSize {
        let p = self.probabilities();
        let mean = |of: fn(i64, i64) -> i64| {
            let sizes = self.cells.sizes().map(|size| of(size.heads, size.channels) as f64);
            sizes.zip(&p).map(|(size, p)| size * p).sum()
        };
        ExpectedSize { units: mean(|heads, channels| heads * channels), heads: mean(|h, _| h) }
    }
}

/// How many values are larger, or equal and further left: 0 for the first of the largest.
pub fn ranks(values: ArrayView1<f64>) -> Array1<usize> {
    Array1::from_shape_fn(values.len(), |i| {
        let before = |&j: &usize| values[j] > values[i] || (values[j] == values[i] && j < i);
        (0..values.len()).filter(before).count()
    })
}

/// 1/(1 + e⁻ˣ), without overflow on either side.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        x.exp() / (1.0 + x.exp())
    }
}

fn expect_shape(name: &str, actual: (usize, usize), expected: [i64; 2]) -> Result<()> {
    let actual = [actual.0 as i64, actual.1 as i64];
    if actual == expected {
        return Ok(());
    }
    let (expected, actual) = (expected.to_vec(), actual.to_vec());
    Err(Error::Shape { operation: "oracle", name: name.into(), expected, actual })
}
