//! AdamW (Loshchilov & Hutter 2019) over plain tensors; it computes what `torch.optim.AdamW` does.

use crate::range::{Range, PART, RATE};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::{BTreeMap, Entry};
use tch::Tensor;

/// Beyond 1, ε outweighs the second moment, and no step is made.
const EPS: Range<f64> = Range::closed(1e-30, 1.0);

/// AdamW options of one parameter group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWOptions {
    /// β₁, decay of the first moment.
    pub beta1: f64,
    /// β₂, decay of the second moment.
    pub beta2: f64,
    /// ε, added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; it is multiplied by the learning rate.
    pub weight_decay: f64,
}

impl AdamWOptions {
    /// Checks that β₁ and β₂ are in [0, 1), ε in [1e-30, 1], and the weight decay in [0, 1e6].
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with the option's name, prefixed by `group`.
    pub fn check(&self, group: &str) -> Result<()> {
        let options = [
            ("beta1", self.beta1, PART),
            ("beta2", self.beta2, PART),
            ("eps", self.eps, EPS),
            ("weight_decay", self.weight_decay, RATE),
        ];
        let mut options = options.into_iter();
        options.try_for_each(|(name, value, range)| range.check(format!("{group}.{name}"), value))
    }
}

impl Default for AdamWOptions {
    /// PyTorch's defaults, except a weight decay of 1e-3.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-3 }
    }
}

/// Moments of one parameter.
#[derive(Debug)]
pub struct Moments {
    /// First moment: exponential moving average of the gradient.
    pub first: Tensor,
    /// Second moment: exponential moving average of the squared gradient.
    pub second: Tensor,
    /// Number of updates, as used by the bias correction.
    pub steps: u64,
}

/// AdamW with the moments of all parameters, by parameter name.
#[derive(Debug, Default)]
pub struct AdamW {
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Returns an optimiser without moments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Updates `parameter` in place by one step with learning rate `rate`.
    ///
    /// `apply`, a scalar tensor of 0 or 1 on the parameter's device, skips the step where it is 0,
    /// without a transfer to the host: parameter and moments do not change, only the step count of
    /// the bias correction grows. The gradient of a skipped step has to be finite, too.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the gradient or the moments have another shape than the parameter.
    pub fn update(
        &mut self,
        name: &str,
        parameter: &mut Tensor,
        gradient: &Tensor,
        apply: &Tensor,
        rate: f64,
        options: &AdamWOptions,
    ) -> Result<()> {
        crate::autograd::no_grad(|| {
            let moments = self.moments_of(name, parameter)?;
            for tensor in [gradient, &moments.first] {
                crate::error::expect_shape("AdamW", name, tensor, &parameter.size())?;
            }
            moments.steps = moments.steps.saturating_add(1);
            let share = |beta: f64| apply.f_mul_scalar(1.0 - beta);
            let _ = moments.first.f_lerp_tensor_(gradient, &share(options.beta1)?)?;
            let square = gradient.f_square()?;
            let _ = moments.second.f_lerp_tensor_(&square, &share(options.beta2)?)?;
            let unbias = |beta: f64| 1.0 - beta.powf(moments.steps as f64);
            if options.weight_decay != 0.0 {
                let lost = apply.f_mul_scalar(-rate * options.weight_decay)?;
                let _ = parameter.f_mul_(&lost.f_add_scalar(1.0)?)?;
            }
            let mut spread = moments.second.f_sqrt()?;
            let _ = spread
                .f_mul_scalar_(1.0 / unbias(options.beta2).sqrt())?
                .f_add_scalar_(options.eps)?;
            let step = moments.first.f_mul(&apply.f_mul_scalar(-rate / unbias(options.beta1))?)?;
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

    /// Returns all moments by parameter name, as a checkpoint stores them.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Sets the moments of a parameter, as read from a checkpoint.
    pub fn restore(&mut self, name: impl Into<String>, moments: Moments) {
        self.moments.insert(name.into(), moments);
    }

    /// Replaces both moments of a parameter by `narrow` of them, and keeps the step count. Does
    /// nothing for a parameter without moments.
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

    /// Removes the moments of a parameter.
    pub fn forget(&mut self, name: &str) {
        self.moments.remove(name);
    }
}
