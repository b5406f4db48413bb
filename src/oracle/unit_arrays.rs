//! Units of one dimension, and their bi-mask (paper section 3.2).

use crate::components::check_lambda;
use crate::space::{Candidates, Size};
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use std::fmt;

/// Scores, α and active candidates of one dimension, in f64.
#[derive(Clone, PartialEq)]
pub struct Units {
    candidates: Candidates,
    score: Array2<f64>,
    alpha: Array2<f64>,
    active: Array2<bool>,
    pruned_importance: Option<Array1<f64>>,
}

/// Bi-mask m of every unit and its two parts S and V, `[heads, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BiMaskValues {
    /// Importance S = σ(score).
    pub importance: Array2<f64>,
    /// Sparsity score V, the probability that a unit of this rank is kept.
    pub sparsity: Array2<f64>,
    /// m = λ·S + (1 − λ)·V.
    pub mask: Array2<f64>,
}

/// Expected size of a dimension under the candidate probabilities p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedSize {
    /// Σ p·h·c over candidates of h heads and c channels; h = 1 in a flat dimension.
    pub units: f64,
    /// Σ p·h.
    pub heads: f64,
}

/// Prints arrays as nested lists, one per row, as Rust literals.
impl fmt::Debug for Units {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        fn rows<T: Copy>(values: &Array2<T>) -> Vec<Vec<T>> {
            values.rows().into_iter().map(|row| row.to_vec()).collect()
        }
        formatter
            .debug_struct("Units")
            .field("candidates", &self.candidates)
            .field("score", &rows(&self.score))
            .field("alpha", &rows(&self.alpha))
            .field("active", &rows(&self.active))
            .field("pruned_importance", &self.pruned_importance.as_ref().map(|all| all.to_vec()))
            .finish()
    }
}

impl Units {
    /// Returns units with scores `[heads, channels]`, α and active candidates of the
    /// shape [`Candidates::shape`].
    ///
    /// # Errors
    /// [`Error::Shape`] naming the array that does not fit the candidates; [`Error::Invalid`] without
    /// an active candidate; [`Error::NonFinite`] for a score or α that is not finite.
    pub fn new(
        candidates: Candidates,
        score: Array2<f64>,
        alpha: Array2<f64>,
        active: Array2<bool>,
    ) -> Result<Self> {
        expect_shape("score", score.dim(), candidates.unit_shape())?;
        expect_shape("alpha", alpha.dim(), candidates.shape())?;
        expect_shape("active candidates", active.dim(), candidates.shape())?;
        if !active.iter().any(|&active| active) {
            return Err(Error::invalid("active candidates", "at least one", 0));
        }
        for (name, values) in [("score", &score), ("alpha", &alpha)] {
            if !values.iter().all(|value| value.is_finite()) {
                return Err(Error::NonFinite { name: name.into(), dimension: "units".into() });
            }
        }
        Ok(Self { candidates, score, alpha, active, pruned_importance: None })
    }

    /// Sets the importance of pruned channels, `[heads]`: it is part of Σ S, by which heads rank.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless there is one number per head; [`Error::NonFinite`] if one is not
    /// finite.
    pub fn with_pruned_importance(mut self, pruned_importance: Array1<f64>) -> Result<Self> {
        let heads = self.score.nrows();
        if pruned_importance.len() != heads {
            let name = "length of the importance of pruned channels";
            let expected = format!("{heads}, one per head");
            return Err(Error::invalid(name, expected, pruned_importance.len()));
        }
        if !pruned_importance.iter().all(|value| value.is_finite()) {
            let (name, dimension) = ("importance of pruned channels".into(), "units".into());
            return Err(Error::NonFinite { name, dimension });
        }
        self.pruned_importance = Some(pruned_importance);
        Ok(self)
    }

    /// Returns the units with other scores, α and active candidates.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn like(
        &self,
        score: Array2<f64>,
        alpha: Array2<f64>,
        active: Array2<bool>,
    ) -> Result<Self> {
        let pruned_importance = self.pruned_importance.clone();
        Ok(Self { pruned_importance, ..Self::new(self.candidates.clone(), score, alpha, active)? })
    }

    /// The candidates.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// Scores, `[heads, channels]`.
    pub fn score(&self) -> &Array2<f64> {
        &self.score
    }

    /// Candidate logits, of the shape [`Candidates::shape`].
    pub fn alpha(&self) -> &Array2<f64> {
        &self.alpha
    }

    /// Active candidates, of the shape [`Candidates::shape`].
    pub fn active(&self) -> &Array2<bool> {
        &self.active
    }

    /// Importance of pruned channels, `[heads]`, if it is set.
    pub fn pruned_importance(&self) -> Option<&Array1<f64>> {
        self.pruned_importance.as_ref()
    }

    /// n, the number of active candidates.
    pub fn active_count(&self) -> usize {
        self.active.iter().filter(|&&active| active).count()
    }

    /// Returns p = softmax(α) over the active candidates, and 0 for the others.
    pub fn probabilities(&self) -> Array2<f64> {
        let candidates = || self.alpha.iter().zip(&self.active);
        let largest = candidates()
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

    /// Returns `V̂[ρ, r] = Σ_{h_a > ρ, c_b > r} p_ab`: the probability that the channel of rank r in
    /// the head of rank ρ is kept (paper section 3.2).
    pub fn survival_by_rank(&self) -> Array2<f64> {
        let p = self.probabilities();
        let sizes: Vec<Size> = self.candidates.sizes().collect();
        Array2::from_shape_fn(self.score.dim(), |(head, channel)| {
            let keeps = |size: &Size| size.heads > head as i64 && size.channels > channel as i64;
            let kept = sizes.iter().zip(&p).filter(|(size, _)| keeps(size));
            kept.map(|(_, p)| p).sum()
        })
    }

    /// Returns S = σ(score).
    pub fn importance(&self) -> Array2<f64> {
        self.score.mapv(sigmoid)
    }

    /// Returns Σ S of every head, over its channels and its pruned channels.
    pub fn head_importance(&self) -> Array1<f64> {
        let sums = self.importance().sum_axis(Axis(1));
        match &self.pruned_importance {
            Some(pruned_importance) => sums + pruned_importance,
            None => sums,
        }
    }

    /// Returns the ranks of the heads by [`head_importance`](Self::head_importance).
    pub fn head_ranks(&self) -> Array1<usize> {
        ranks(self.head_importance().view())
    }

    /// Returns the ranks of the channels inside each head, by score.
    pub fn channel_ranks(&self) -> Array2<usize> {
        let mut all = Array2::zeros(self.score.dim());
        for (head, score) in self.score.rows().into_iter().enumerate() {
            all.row_mut(head).assign(&ranks(score));
        }
        all
    }

    /// Returns V: `V̂` at the ranks of every unit.
    pub fn sparsity(&self) -> Array2<f64> {
        let (survival, heads, channels) =
            (self.survival_by_rank(), self.head_ranks(), self.channel_ranks());
        Array2::from_shape_fn(self.score.dim(), |(head, channel)| {
            survival[(heads[head], channels[(head, channel)])]
        })
    }

    /// Returns S, V and m = λ·S + (1 − λ)·V (paper eq. 5).
    ///
    /// # Errors
    /// [`Error::Invalid`] if λ is outside [0, 1].
    pub fn mask(&self, lambda: f64) -> Result<BiMaskValues> {
        check_lambda("lambda", lambda)?;
        let (importance, sparsity) = (self.importance(), self.sparsity());
        let mask = &importance * lambda + &sparsity * (1.0 - lambda);
        Ok(BiMaskValues { importance, sparsity, mask })
    }

    /// Returns the expected numbers of units and heads, from which the expected cost is computed.
    pub fn expected_size(&self) -> ExpectedSize {
        let p = self.probabilities();
        let mean = |of: fn(i64, i64) -> i64| {
            let sizes = self.candidates.sizes().map(|size| of(size.heads, size.channels) as f64);
            sizes.zip(&p).map(|(size, p)| size * p).sum()
        };
        ExpectedSize { units: mean(|heads, channels| heads * channels), heads: mean(|h, _| h) }
    }
}

/// Returns the rank of every value: the number of values that are larger, or equal and at a lower
/// index.
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
