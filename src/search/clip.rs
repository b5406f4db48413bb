//! Gradients are bounded, or set to zero where one is not finite.

use super::session::Session;
use super::step::StepGradients;
use crate::models::Architecture;
use crate::supernet::{Parameter, ParameterKind, Weights};
use crate::Result;
use tch::{Kind, Tensor};

impl<A: Architecture> Session<A> {
    /// Bounds the norm of the gradient of all weights together, and sets all gradients to zero if
    /// one of them or a loss is not finite; returns 1 where the step goes, 0 where it is skipped.
    pub(super) fn clip_and_guard(
        &mut self,
        parameters: &[Parameter],
        step: &mut StepGradients,
    ) -> Result<Tensor> {
        tch::no_grad(|| {
            let names = |weights: bool| -> Vec<String> {
                let kind = |p: &&Parameter| (p.kind == ParameterKind::Weight) == weights;
                let names = parameters.iter().filter(kind).map(|p| p.name.clone());
                names.filter(|name| step.parameters.contains_key(name)).collect()
            };
            let (weights, others) = (names(true), names(false));
            let norm = self.norm(&step.parameters, &weights)?;
            let sum = norm.f_add(&self.norm(&step.parameters, &others)?)?;
            let finite = sum.f_add(&step.losses.sum()?)?.f_isfinite()?;
            bound(&mut step.parameters, &weights, &self.scale(&norm)?, &finite)?;
            bound(&mut step.parameters, &others, &norm.f_ones_like()?, &finite)?;
            let go = finite.f_to_kind(Kind::Float)?;
            self.guard.count(&go)?;
            Ok(go)
        })
    }

    /// Norm of some gradients together.
    fn norm(&self, gradients: &Weights, names: &[String]) -> Result<Tensor> {
        let norms = names.iter().map(|name| gradients[name].f_norm());
        let norms: Vec<Tensor> = norms.collect::<Result<_, _>>()?;
        match norms.is_empty() {
            true => Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, self.supernet.device()))?),
            false => Ok(Tensor::f_stack(&norms, 0)?.f_norm()?),
        }
    }

    /// What brings a norm down to the largest allowed.
    fn scale(&self, norm: &Tensor) -> Result<Tensor> {
        let Some(largest) = self.options.optimiser.clip_norm else {
            return Ok(norm.f_ones_like()?);
        };
        let inverse = norm.f_add_scalar(1e-6)?.f_reciprocal()?;
        Ok(inverse.f_mul_scalar(largest)?.f_clamp_max(1.0)?)
    }
}

/// Multiplies gradients by a scale, or sets them to zero unless all was finite.
fn bound(gradients: &mut Weights, names: &[String], scale: &Tensor, finite: &Tensor) -> Result<()> {
    let zero = scale.f_zeros_like()?;
    for name in names {
        if let Some(gradient) = gradients.get_mut(name) {
            *gradient = gradient.f_mul(scale)?.f_where_self(finite, &zero)?;
        }
    }
    Ok(())
}
