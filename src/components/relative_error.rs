//! Relative squared error of outputs that are no logits, and random errors to estimate losses with.

use super::DistillationKind;
use crate::randomness::for_images;
use crate::Result;
use tch::{Kind, Tensor};

/// Returns the mean of ‖student − teacher‖²/‖teacher‖² over images and tokens, with `class_share` of it
/// from token 0.
pub(super) fn relative_error(
    student: &Tensor,
    teacher: &Tensor,
    class_share: f64,
) -> Result<Tensor> {
    let error = squared_norm(&student.f_sub(teacher)?)?;
    weighted(&error.f_div(&scale(teacher)?)?, [class_share, 1.0 - class_share])
}

/// Returns a term of value 0 with the gradient of random errors of the outputs
/// ([`DistillationKind::RelativeError`]), drawn from libtorch's generator; `None` for other kinds and a probe
/// of 0.
///
/// Of L = Σ_t w_t·‖s_t − t_t‖²/‖t_t‖², w_t the share of token t, it is the part that is linear in the
/// errors ε_t = probe·‖t_t‖·ξ_t/√(C·w_t), ξ standard normal of C channels: its gradient g has
/// E\[(gᵀδ)²\] ∝ Σ_t w_t·‖J_t·δ‖²/‖t_t‖², which is the rise of L by a step δ from the target.
pub(crate) fn probe_term(
    student: &Tensor,
    teacher: &Tensor,
    kind: DistillationKind,
) -> Result<Option<Tensor>> {
    let DistillationKind::RelativeError { class_share, probe } = kind else { return Ok(None) };
    if probe == 0.0 {
        return Ok(None);
    }
    let student = student.f_to_kind(Kind::Float)?;
    let moved = student.f_sub(&student.f_detach()?)?;
    let mut shape = student.size();
    let errors = for_images(shape[0], |images| {
        shape[0] = images;
        Ok(Tensor::f_randn(&shape[..], (Kind::Float, student.device()))?)
    })?;
    let products = moved.f_mul(&errors)?;
    let products = products.f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
    let products = products.f_div(&scale(&teacher.f_to_kind(Kind::Float)?)?.f_sqrt()?)?;
    let (channels, others) = (student.size().last().copied().unwrap_or(1), products.size());
    // weighted() takes the mean over the other tokens: √(w/n) of each is √(w·n) of the mean.
    let count = if others.len() > 1 { (others[1] - 1).max(1) as f64 } else { 1.0 };
    let shares = [class_share.sqrt(), ((1.0 - class_share) * count).sqrt()];
    let factor = 2.0 * probe / (channels as f64).sqrt();
    Ok(Some(weighted(&products, shares)?.f_mul_scalar(factor)?))
}

fn squared_norm(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_square()?.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
}

/// ‖t‖² of the teacher's features; features of all zeros have no relative error.
fn scale(teacher: &Tensor) -> Result<Tensor> {
    Ok(squared_norm(teacher)?.f_clamp_min(1e-12)?)
}

/// Returns the mean over images and tokens; of `[B, tokens]`, `class`·(mean of token 0) + `others`·(mean
/// of the other tokens).
fn weighted(values: &Tensor, [class, others]: [f64; 2]) -> Result<Tensor> {
    match values.size()[..] {
        [_, tokens] if tokens > 1 => {
            let class = values.f_select(1, 0)?.f_mean(None)?.f_mul_scalar(class)?;
            let rest = values.f_narrow(1, 1, tokens - 1)?.f_mean(None)?.f_mul_scalar(others)?;
            Ok(class.f_add(&rest)?)
        }
        _ => Ok(values.f_mean(None)?),
    }
}
