//! Random inputs of an importance component.

use super::architectures::dimensions;
use super::runner::{drawing, tensor};
use crate::components::{Importance, Observation};
use crate::space::{Binding, Dimension};
use crate::tensors::{to_host, Weights};
use ndarray::{Array2, Axis};
use proptest::collection::vec;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// One dimension with everything that an importance may read.
#[derive(Debug, Clone)]
pub struct ImportanceCase {
    /// Dimension `d`: it gates the rows of `d.weight` and the entries of `d.bias`, and narrows the
    /// columns of `d.out.weight`.
    pub dimension: Dimension,
    /// `d.weight`, `[outer · units, 3]`.
    pub weight: Array2<f64>,
    /// `d.bias`, `[1, outer · units]`.
    pub bias: Array2<f64>,
    /// `d.out.weight`, `[2, units]`.
    pub out_weight: Array2<f64>,
    /// Scores of the step, `[heads, channels]`.
    pub score: Array2<f64>,
    /// Gates of the step, `[heads, channels]`, in [0, 1].
    pub gate: Array2<f64>,
    /// Gradient of the loss in the gates, `[heads, channels]`.
    pub gate_gradient: Array2<f64>,
}

/// Dimensions with weights, scores, gates and gradients that are multiples of 1/8. Shrinks to one
/// unit and to zeros.
pub fn importance_cases() -> impl Strategy<Value = ImportanceCase> {
    // Lists as long as the largest dimension needs, cut to size, so that they shrink apart from it.
    let eighths = |count| vec((-32..=32i32).prop_map(|n| f64::from(n) / 8.0), count);
    let gates = vec((0..=8u8).prop_map(|n| f64::from(n) / 8.0), MOST_UNITS);
    let weights = (eighths(9 * MOST_UNITS), eighths(3 * MOST_UNITS), eighths(2 * MOST_UNITS));
    let units = (eighths(MOST_UNITS), gates, eighths(MOST_UNITS));
    (dimensions("d"), weights, units).prop_filter_map(
        "arrays of the dimension",
        |(mut dimension, (weight, bias, out_weight), (score, gate, gate_gradient))| {
            let outer = dimension.bindings[0].outer;
            dimension.bindings.push(Binding::gated("d.bias", 0).outer(outer));
            let units = dimension.candidates.units() as usize;
            let [heads, channels] = dimension.candidates.unit_shape().map(|side| side as usize);
            let rows = outer as usize * units;
            Some(ImportanceCase {
                weight: array(weight, [rows, 3])?,
                bias: array(bias, [1, rows])?,
                out_weight: array(out_weight, [2, units])?,
                score: array(score, [heads, channels])?,
                gate: array(gate, [heads, channels])?,
                gate_gradient: array(gate_gradient, [heads, channels])?,
                dimension,
            })
        },
    )
}

/// Units of the largest dimension of [`dimensions`].
const MOST_UNITS: usize = 32;

fn array(mut values: Vec<f64>, [rows, columns]: [usize; 2]) -> Option<Array2<f64>> {
    values.truncate(rows * columns);
    Array2::from_shape_vec((rows, columns), values).ok()
}

/// The tensors of a case.
pub(super) struct Arguments {
    pub(super) weights: Weights,
    pub(super) score: Tensor,
    gate: Tensor,
    gate_gradient: Tensor,
}

impl Arguments {
    /// Weights and scores require gradients, as those of a search do.
    pub(super) fn new(case: &ImportanceCase, device: Device) -> crate::Result<Self> {
        let on_device = |values: &Array2<f64>| tensor(values, Kind::Float, device);
        let trained = |tensor: Tensor| tensor.f_set_requires_grad(true);
        let weights = [
            ("d.weight", on_device(&case.weight)?),
            ("d.bias", on_device(&case.bias)?.f_flatten(0, -1)?),
            ("d.out.weight", on_device(&case.out_weight)?),
        ];
        let named = weights.into_iter().map(|(name, weight)| Ok((name.into(), trained(weight)?)));
        Ok(Self {
            weights: named.collect::<crate::Result<_>>()?,
            score: trained(on_device(&case.score)?)?,
            gate: on_device(&case.gate)?,
            gate_gradient: on_device(&case.gate_gradient)?,
        })
    }

    /// Copies of all numbers, in one list.
    pub(super) fn numbers(&self) -> crate::Result<Vec<f64>> {
        let units = [&self.score, &self.gate, &self.gate_gradient];
        let all = self.weights.values().chain(units).map(to_host);
        Ok(all.collect::<crate::Result<Vec<_>>>()?.concat())
    }

    /// Initial scores, and updated ones if there are any, with libtorch's generator seeded before
    /// each; outside autograd, as a search calls them.
    pub(super) fn scores(
        &self,
        importance: &dyn Importance,
        dimension: &Dimension,
        seed: i64,
    ) -> crate::Result<Vec<Tensor>> {
        let Self { weights, score, gate, gate_gradient } = self;
        let seen = Observation { dimension, score, weights, gate, gate_gradient };
        drawing(|| {
            crate::autograd::no_grad(|| {
                crate::randomness::seed(seed as u64);
                let initial = importance.initial(dimension, weights)?;
                crate::randomness::seed(seed as u64);
                Ok(std::iter::once(initial).chain(importance.update(seen)?).collect())
            })
        })
    }
}

impl ImportanceCase {
    /// The case with unit `from[u]` at the place of unit `u`.
    pub(super) fn permuted(&self, from: &[usize]) -> Self {
        let units = from.len();
        let repeated = |length: usize| -> Vec<usize> {
            (0..length).map(|at| at / units * units + from[at % units]).collect()
        };
        let (heads, channels) = self.score.dim();
        let grid = |values: &Array2<f64>| {
            Array2::from_shape_fn((heads, channels), |(head, channel)| {
                let unit = from[head * channels + channel];
                values[(unit / channels, unit % channels)]
            })
        };
        Self {
            dimension: self.dimension.clone(),
            weight: self.weight.select(Axis(0), &repeated(self.weight.nrows())),
            bias: self.bias.select(Axis(1), &repeated(self.bias.ncols())),
            out_weight: self.out_weight.select(Axis(1), from),
            score: grid(&self.score),
            gate: grid(&self.gate),
            gate_gradient: grid(&self.gate_gradient),
        }
    }
}

/// The case with irregular numbers added: units whose scores are equal except for rounding could
/// be exchanged by it.
pub(super) fn without_ties(case: &ImportanceCase) -> ImportanceCase {
    let mut case = case.clone();
    let mut at = 0.0;
    for values in [
        &mut case.weight,
        &mut case.bias,
        &mut case.out_weight,
        &mut case.score,
        &mut case.gate,
        &mut case.gate_gradient,
    ] {
        values.mapv_inplace(|x| {
            at += 0.754_877_666_246_692_7;
            x + f64::fract(at) / 8.0
        });
    }
    case
}
