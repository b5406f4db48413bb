//! AdamW over plain tensors (Loshchilov & Hutter 2019), as `torch.optim.AdamW` computes it.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::{BTreeMap, Entry};
use tch::Tensor;

/// Options of one group of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWOptions {
    /// β₁, decay of the gradient's mean.
    pub beta1: f64,
    /// β₂, decay of the gradient's mean square.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl AdamWOptions {
    /// Refuses numbers that make parameters NaN.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the number of `group`.
    pub fn check(&self, group: &str) -> Result<()> {
        let Self { beta1, beta2, eps, weight_decay } = *self;
        let invalid = |name, expected, value: f64| {
            Err(Error::invalid(format!("{group}.{name}"), expected, value))
        };
        for (name, beta) in [("beta1", beta1), ("beta2", beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return invalid(name, "within [0, 1)", beta);
            }
        }
        if !(eps.is_finite() && eps > 0.0) {
            return invalid("eps", "finite and positive", eps);
        }
        if !(weight_decay.is_finite() && weight_decay >= 0.0) {
            return invalid("weight_decay", "finite and not negative", weight_decay);
        }
        Ok(())
    }
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-3 }
    }
}

/// What AdamW remembers of one parameter.
#[derive(Debug)]
pub struct Moments {
    /// Mean of the gradient.
    pub first: Tensor,
    /// Mean of the squared gradient.
    pub second: Tensor,
    /// Updates so far.
    pub steps: u64,
}

/// The optimiser's memory, by parameter name.
#[derive(Debug, Default)]
pub struct AdamW {
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimiser that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves `parameter` in place against `gradient`.
    ///
    /// `go`, a scalar of 0 or 1 on the device, decides whether anything moves, without the host
    /// having to know; the step counts in the bias correction either way. Where it is 0 the gradient
    /// still has to be finite.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the gradient or the remembered moments have another shape.
    pub fn update(
        &mut self,
        name: &str,
        parameter: &mut Tensor,
        gradient: &Tensor,
        go: &Tensor,
        rate: f64,
        options: &AdamWOptions,
    ) -> Result<()> {
        tch::no_grad(|| {
            let moments = self.moments_of(name, parameter)?;
            for tensor in [gradient, &moments.first] {
                crate::error::expect_shape("AdamW", name, tensor, &parameter.size())?;
            }
            moments.steps += 1;
            let share = |beta: f64| go.f_mul_scalar(1.0 - beta);
            let _ = moments.first.f_lerp_tensor_(gradient, &share(options.beta1)?)?;
            let square = gradient.f_square()?;
            let _ = moments.second.f_lerp_tensor_(&square, &share(options.beta2)?)?;
            let unbias = |beta: f64| 1.0 - beta.powf(moments.steps as f64);
            if options.weight_decay != 0.0 {
                let lost = go.f_mul_scalar(-rate * options.weight_decay)?;
                let _ = parameter.f_mul_(&lost.f_add_scalar(1.0)?)?;
            }
            let mut spread = moments.second.f_sqrt()?;
            let _ = spread
                .f_mul_scalar_(1.0 / unbias(options.beta2).sqrt())?
                .f_add_scalar_(options.eps)?;
            let step = moments.first.f_mul(&go.f_mul_scalar(-rate / unbias(options.beta1))?)?;
            let _ = parameter.f_addcdiv_(&step, &spread)?;
            Ok(())
        })
    }

    fn moments_of(&mut self, name: &str, parameter: &Tensor) -> Result<&mut Moments> {
        match self.moments.entry(name.into()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let (first, second) = (parameter.f_zeros_like()?, parameter.f_zeros_like()?);
                Ok(unknown.insert(Moments { first, second, steps: 0 }))
            }
        }
    }

    /// All moments by parameter name, for checkpoints.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Puts back moments read from a checkpoint.
    pub fn restore(&mut self, name: impl Into<String>, moments: Moments) {
        self.moments.insert(name.into(), moments);
    }

    /// Replaces both moments of a parameter by what `narrow` makes of them; the step count stays.
    ///
    /// # Errors
    /// Those of `narrow`.
    pub fn narrow(&mut self, name: &str, narrow: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        if let Some(moments) = self.moments.get_mut(name) {
            moments.first = narrow(&moments.first)?;
            moments.second = narrow(&moments.second)?;
        }
        Ok(())
    }

    /// Forgets a parameter.
    pub fn forget(&mut self, name: &str) {
        self.moments.remove(name);
    }
}
