//! Steps whose loss or gradient is not finite move nothing, and are counted.
//!
//! Both happen on the device: the host learns of it when a step is logged.

use super::gradients::StepGradients;
use super::session::Session;
use crate::models::Architecture;
use crate::supernet::{Parameter, ParameterKind};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Counters on the device.
#[derive(Debug)]
pub(super) struct Guard {
    skipped: Tensor,
    in_a_row: Tensor,
    /// Skipped steps as of the last look.
    pub(super) seen: u64,
}

impl Guard {
    /// A guard that has skipped so many steps before.
    pub(super) fn new(skipped: u64, device: Device) -> Result<Self> {
        let count = |n: u64| -> Result<Tensor> {
            Ok(Tensor::f_full([0i64; 0], n as i64, (Kind::Int64, device))?)
        };
        Ok(Self { skipped: count(skipped)?, in_a_row: count(0)?, seen: skipped })
    }

    /// Counts a step that goes (1) or is skipped (0).
    fn count(&mut self, go: &Tensor) -> Result<()> {
        let stop = go.f_ne(1)?.f_to_kind(Kind::Int64)?;
        self.skipped = self.skipped.f_add(&stop)?;
        self.in_a_row = self.in_a_row.f_add(&stop)?.f_mul(&stop)?;
        Ok(())
    }

    /// Steps skipped in all. Reads from the device.
    pub(super) fn skipped(&self) -> Result<u64> {
        Ok(self.skipped.f_int64_value(&[])? as u64)
    }

    /// Steps skipped in all, and in a row up to now. Reads from the device.
    pub(super) fn read(&mut self) -> Result<(u64, u64)> {
        self.seen = self.skipped()?;
        Ok((self.seen, self.in_a_row.f_int64_value(&[])? as u64))
    }
}

impl<A: Architecture> Session<A> {
    /// Bounds the norm of the gradient of all weights together, and sets all gradients to zero if
    /// one of them or a loss is not finite; returns 1 where the step goes, 0 where it is skipped.
    pub(super) fn clip_and_guard(
        &mut self,
        parameters: &[Parameter],
        step: &mut StepGradients,
    ) -> Result<Tensor> {
        tch::no_grad(|| {
            let device = self.supernet.device();
            let norm_of = |names: &[&String]| -> Result<Tensor> {
                let norms = names.iter().map(|name| step.parameters[*name].f_norm());
                let norms: Vec<Tensor> = norms.collect::<Result<_, _>>()?;
                match norms.is_empty() {
                    true => Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, device))?),
                    false => Ok(Tensor::f_stack(&norms, 0)?.f_norm()?),
                }
            };
            let names = |weights: bool| -> Vec<&String> {
                let kind = |p: &&Parameter| (p.kind == ParameterKind::Weight) == weights;
                let names = parameters.iter().filter(kind).map(|p| &p.name);
                names.filter(|name| step.parameters.contains_key(*name)).collect()
            };
            let (weights, others) = (names(true), names(false));
            let norm = norm_of(&weights)?;
            let losses = &step.losses;
            let mut sum = norm.f_add(&norm_of(&others)?)?.f_add(&losses.task)?;
            for loss in
                [Some(&losses.one_hot), Some(&losses.budget), losses.reconstruction.as_ref()]
                    .into_iter()
                    .flatten()
            {
                sum = sum.f_add(loss)?;
            }
            let finite = sum.f_isfinite()?;
            let scale = match self.options.optimiser.clip_norm {
                None => norm.f_ones_like()?,
                Some(largest) => norm
                    .f_add_scalar(1e-6)?
                    .f_reciprocal()?
                    .f_mul_scalar(largest)?
                    .f_clamp_max(1.0)?,
            };
            let zero = norm.f_zeros_like()?;
            let bounded = |names: Vec<&String>, scale: Option<&Tensor>| -> Result<Vec<_>> {
                let bound = |name: &String| -> Result<(String, Tensor)> {
                    let gradient = &step.parameters[name];
                    let scaled = match scale {
                        Some(scale) => gradient.f_mul(scale)?,
                        None => gradient.shallow_clone(),
                    };
                    Ok((name.clone(), scaled.f_where_self(&finite, &zero)?))
                };
                names.into_iter().map(bound).collect()
            };
            let mut all = bounded(weights, Some(&scale))?;
            all.extend(bounded(others, None)?);
            step.parameters.extend(all);
            let go = finite.f_to_kind(Kind::Float)?;
            self.guard.count(&go)?;
            Ok(go)
        })
    }
}
