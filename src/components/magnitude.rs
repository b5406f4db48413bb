//! Magnitude of units in the weights.

use crate::space::{expect_length, Dimension, Over};
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Returns the standardised log-norm of every unit: z = standardise(Σ_W ln ‖W_u‖₂), with W_u the
/// slice of unit u in the bound matrix W, standardised over the dimension to mean 0 and std 1.
///
/// Multiplying a matrix by a constant does not change z, so layers of different scale count
/// equally. Biases and tokens (variables whose name ends in `bias` or `token`) and other tensors with fewer
/// than two axes or a single number per unit, such as scales of norms, are left out: the logarithm of so few numbers
/// is mostly noise. A table of positions counts. Every other bound variable counts, so a dimension must have no bindings of
/// constants; a search passes none to an [`Importance`](super::Importance).
///
/// # Shapes
/// Result: `[heads, channels]`, f32.
///
/// # Errors
/// [`Error::UnknownVariable`] if a bound variable is missing, [`Error::BindingAxis`] if it has not the length of the dimension
/// along the bound axis.
pub fn magnitude(dimension: &Dimension, weights: &Weights) -> Result<Tensor> {
    let shape = dimension.candidates.unit_shape();
    let mut sum: Option<Tensor> = None;
    for binding in dimension.bindings.iter().filter(|binding| binding.over == Over::Units) {
        let weight = weights.get(&binding.variable).ok_or_else(|| Error::UnknownVariable {
            dimension: dimension.name.clone(),
            variable: binding.variable.clone(),
        })?;
        expect_length(dimension, binding, &weight.size())?;
        let view = binding.view(&weight.size());
        let is_matrix = weight.dim() >= 2 && view[0] * view[2] >= 2;
        if !is_matrix || is_bias_or_token(&binding.variable) {
            continue;
        }
        let slices = weight.f_detach()?.f_to_kind(Kind::Float)?.f_reshape(view)?;
        let squares = slices.f_square()?.f_sum_dim_intlist([0i64, 2].as_slice(), false, None)?;
        let squares = match binding.half_split {
            // The two entries of every pair.
            true => squares.f_view([shape[0], 2, shape[1]])?.f_sum_dim_intlist(
                [1i64].as_slice(),
                false,
                None,
            )?,
            false => squares.f_view(shape)?,
        };
        let log_norm = squares.f_add_scalar(1e-12)?.f_log()?.f_mul_scalar(0.5)?;
        sum = Some(match sum {
            Some(sum) => sum.f_add(&log_norm)?,
            None => log_norm,
        });
    }
    let sum = sum.ok_or_else(|| {
        Error::invalid(format!("bindings of {}", dimension.name), "at least one matrix", 0)
    })?;
    standardised(&sum)
}

/// Returns whether a variable is a bias or a token by its name, such as the bias `[2, heads, channels]` of queries and
/// keys that are apart from values, or several register tokens.
fn is_bias_or_token(name: &str) -> bool {
    name.ends_with("bias") || name.ends_with("token")
}

/// Returns the values standardised to mean 0 and std 1; equal values become 0.
pub(super) fn standardised(values: &Tensor) -> Result<Tensor> {
    let centred = values.f_sub(&values.f_mean(None)?)?;
    let spread = centred.f_square()?.f_mean(None)?.f_sqrt()?.f_add_scalar(1e-6)?;
    Ok(centred.f_div(&spread)?)
}
