//! AdamW (Loshchilov & Hutter 2019) over parameters in one buffer; it computes what
//! `torch.optim.AdamW` does, with a number of operators that does not grow with that of the parameters.

use super::{FlatTensors, Layout, Segment};
use crate::error::expect_shape;
use crate::range::{Range, PART, RATE};
use crate::tensors::blocks;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops;
use std::sync::Arc;
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

/// Learning rate and options of one parameter in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWUpdate {
    /// Learning rate.
    pub rate: f64,
    /// Options; a weight decay of 0 for parameters that do not decay.
    pub options: AdamWOptions,
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
    /// Buffers of which the moments are views, one pair for every buffer of parameters.
    buffers: Vec<MomentBuffers>,
}

/// Moments of the parameters of one buffer.
#[derive(Debug)]
struct MomentBuffers {
    layout: Arc<Layout>,
    first: FlatTensors,
    second: FlatTensors,
}

/// What consecutive parameters share that are updated together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    rate: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// Updates with this one.
    steps: u64,
}

impl AdamW {
    /// Returns an optimiser without moments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Updates `parameters` in place by one step: every tensor for which `update` returns rate and
    /// options; the others, and their moments, do not change.
    ///
    /// The gradient's buffer is overwritten. `apply`, a scalar tensor of 0 or 1 on the parameters'
    /// device, skips the step where it is 0, without a transfer to the host: parameters and moments do
    /// not change, only the step counts of the bias correction grow. The gradient of a skipped step has
    /// to be finite, too.
    ///
    /// # Errors
    /// [`Error::Shape`] if the gradient, or moments, have another shape than a parameter;
    /// [`Error::Unknown`] or [`Error::Invalid`] if the gradient is of other parameters, or in another order.
    pub fn update(
        &mut self,
        parameters: &FlatTensors,
        gradient: FlatTensors,
        apply: &Tensor,
        update: impl Fn(&Segment) -> Option<AdamWUpdate>,
    ) -> Result<()> {
        let layout = parameters.layout();
        expect_same(layout, gradient.layout())?;
        if layout.segments().iter().all(|segment| update(segment).is_none()) {
            return Ok(());
        }
        crate::autograd::no_grad(|| {
            let at = self.align(parameters)?;
            let mut steps = |segment: &Segment| {
                let own = self.moments.get_mut(&segment.name)?;
                update(segment)?;
                own.steps = own.steps.saturating_add(1);
                Some(own.steps)
            };
            let steps: BTreeMap<&str, u64> = layout
                .segments()
                .iter()
                .filter_map(|segment| Some((segment.name.as_str(), steps(segment)?)))
                .collect();
            let runs = layout.runs(|segment| {
                let AdamWUpdate { rate, options } = update(segment)?;
                let AdamWOptions { beta1, beta2, eps, .. } = options;
                Some(Run { rate, beta1, beta2, eps, steps: *steps.get(segment.name.as_str())? })
            });
            let decays = layout.runs(|segment| {
                let AdamWUpdate { rate, options } = update(segment)?;
                Some(rate * options.weight_decay).filter(|lost| *lost != 0.0)
            });
            let buffers = &self.buffers[at];
            let decays = Decays::new(&decays, apply)?;
            runs.iter().try_for_each(|(run, range)| {
                run.apply(range, parameters, &gradient, buffers, apply, &decays)
            })
        })
    }

    /// Makes the moments of these parameters views of two buffers, unless they are; returns which.
    fn align(&mut self, parameters: &FlatTensors) -> Result<usize> {
        let layout = parameters.layout();
        if let Some(at) = self.buffers.iter().position(|own| Arc::ptr_eq(&own.layout, layout)) {
            return Ok(at);
        }
        self.buffers.retain(|own| {
            own.layout.segments().iter().all(|segment| layout.get(&segment.name).is_none())
        });
        let (device, moments) = (parameters.data().device(), &self.moments);
        let known = |segment: &Segment| moments.get(&segment.name).filter(|own| own.steps > 0);
        for segment in layout.segments() {
            if let Some(own) = known(segment) {
                expect_shape("AdamW", &segment.name, &own.first, &segment.shape)?;
            }
        }
        let first = FlatTensors::gather(layout, device, |own| known(own).map(|m| &m.first))?;
        let second = FlatTensors::gather(layout, device, |own| known(own).map(|m| &m.second))?;
        for segment in layout.segments() {
            let steps = self.moments.get(&segment.name).map_or(0, |own| own.steps);
            let (first, second) = (first.tensor(segment)?, second.tensor(segment)?);
            self.moments.insert(segment.name.clone(), Moments { first, second, steps });
        }
        self.buffers.push(MomentBuffers { layout: Arc::clone(layout), first, second });
        Ok(self.buffers.len() - 1)
    }

    /// Returns the moments of all parameters that were updated, by name, as a checkpoint stores them.
    pub fn moments(&self) -> impl Iterator<Item = (&String, &Moments)> {
        self.moments.iter().filter(|(_, own)| own.steps > 0)
    }

    /// Sets the moments of a parameter, as read from a checkpoint.
    pub fn restore(&mut self, name: impl Into<String>, moments: Moments) {
        self.buffers.clear();
        self.moments.insert(name.into(), moments);
    }

    /// Replaces both moments of every parameter by `narrow` of its name and them, and keeps the step
    /// counts.
    ///
    /// # Errors
    /// Those of `narrow`.
    pub fn narrow(&mut self, narrow: impl Fn(&str, &Tensor) -> Result<Tensor>) -> Result<()> {
        self.buffers.clear();
        self.moments.retain(|_, own| own.steps > 0);
        for (name, moments) in &mut self.moments {
            moments.first = narrow(name, &moments.first)?;
            moments.second = narrow(name, &moments.second)?;
        }
        Ok(())
    }

    /// Removes the moments of a parameter.
    pub fn forget(&mut self, name: &str) {
        self.buffers.clear();
        self.moments.remove(name);
    }
}

impl Run {
    /// Updates the parameters of a range.
    fn apply(
        &self,
        range: &ops::Range<i64>,
        parameters: &FlatTensors,
        gradient: &FlatTensors,
        moments: &MomentBuffers,
        apply: &Tensor,
        decays: &Decays,
    ) -> Result<()> {
        let shares = [self.beta1, self.beta2].map(|beta| apply.f_mul_scalar(1.0 - beta));
        let [share1, share2] = shares;
        let (share1, share2) = (share1?, share2?);
        let unbias = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let scale = apply.f_mul_scalar(-self.rate / unbias(self.beta1))?;
        for block in blocks(range, 1, apply.device()) {
            let mut parameter = parameters.range(&block)?;
            // The gradient's memory is reused for its square and for the divisor of the step.
            let mut scratch = gradient.range(&block)?;
            let mut first = moments.first.range(&block)?;
            let mut second = moments.second.range(&block)?;
            let _ = first.f_lerp_tensor_(&scratch, &share1)?;
            let _ = scratch.f_square_()?;
            let _ = second.f_lerp_tensor_(&scratch, &share2)?;
            decays.apply(parameters, &block)?;
            let _ = second.f_sqrt_out(&scratch)?;
            // Divided by a scale of 0 it is infinite, and the step is 0.
            let _ = scratch
                .f_mul_scalar_(1.0 / unbias(self.beta2).sqrt())?
                .f_add_scalar_(self.eps)?
                .f_div_(&scale)?;
            let _ = parameter.f_addcdiv_(&first, &scratch)?;
        }
        Ok(())
    }
}

/// Factors 1 − rate·decay of ranges of parameters, 1 where the step is skipped.
struct Decays(Vec<(Tensor, ops::Range<i64>)>);

impl Decays {
    fn new(decays: &[(f64, ops::Range<i64>)], apply: &Tensor) -> Result<Self> {
        let mut factors: Vec<(f64, Tensor)> = Vec::new();
        let own = decays.iter().map(|(lost, range)| {
            if let Some((_, known)) = factors.iter().find(|(other, _)| other == lost) {
                return Ok((known.shallow_clone(), range.clone()));
            }
            let factor = apply.f_mul_scalar(-lost)?.f_add_scalar(1.0)?;
            factors.push((*lost, factor.shallow_clone()));
            Ok((factor, range.clone()))
        });
        Ok(Self(own.collect::<Result<_>>()?))
    }

    /// Multiplies the parameters of a block that decay.
    fn apply(&self, parameters: &FlatTensors, block: &ops::Range<i64>) -> Result<()> {
        for (factor, range) in &self.0 {
            let both = range.start.max(block.start)..range.end.min(block.end);
            if both.start < both.end {
                let _ = parameters.range(&both)?.f_mul_(factor)?;
            }
        }
        Ok(())
    }
}

/// Checks that a gradient is that of the parameters.
fn expect_same(parameters: &Arc<Layout>, gradient: &Arc<Layout>) -> Result<()> {
    if Arc::ptr_eq(parameters, gradient) || parameters == gradient {
        return Ok(());
    }
    for segment in parameters.segments() {
        let names = gradient.segments().iter().map(|own| &own.name);
        let Some(own) = gradient.get(&segment.name) else {
            return Err(Error::unknown("gradient", &segment.name, names));
        };
        if own.shape != segment.shape {
            let (operation, name) = ("AdamW", segment.name.clone());
            let (expected, actual) = (segment.shape.clone(), own.shape.clone());
            return Err(Error::Shape { operation, name, expected, actual });
        }
    }
    Err(Error::invalid("gradient", "in the order of the parameters", "another order"))
}
