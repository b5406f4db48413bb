//! Exponential moving average (EMA) of parameters.

use crate::range::PART;
use crate::Result;
use std::collections::BTreeMap;
use tch::Tensor;

/// Exponential moving average ā ← d·ā + (1 − d)·a of every parameter a, by name. It starts at the
/// first value.
///
/// d is the smaller of `decay` and (1 + n)/(10 + n), where n is the number of updates so far: early
/// updates weigh more, so that the initial values have little influence.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    updates: u64,
    values: BTreeMap<String, Tensor>,
}

impl Ema {
    /// Returns an EMA without values.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) unless `decay` is in [0, 1).
    pub fn new(decay: f64) -> Result<Self> {
        PART.check("decay of the EMA", decay)?;
        Ok(Self { decay, updates: 0, values: BTreeMap::new() })
    }

    /// Returns an EMA with these values after `updates` updates, as read from a checkpoint.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn restore(decay: f64, updates: u64, values: BTreeMap<String, Tensor>) -> Result<Self> {
        Ok(Self { updates, values, ..Self::new(decay)? })
    }

    /// Updates the EMA with the present values.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a parameter has changed its shape.
    pub fn update<'a>(
        &mut self,
        parameters: impl Iterator<Item = (&'a String, &'a Tensor)>,
    ) -> Result<()> {
        let n = self.updates as f64;
        let decay = self.decay.min((1.0 + n) / (10.0 + n));
        self.updates = self.updates.saturating_add(1);
        crate::autograd::no_grad(|| {
            for (name, value) in parameters {
                match self.values.get_mut(name) {
                    Some(mean) => {
                        crate::error::expect_shape("EMA", name, value, &mean.size())?;
                        let _ = mean.f_lerp_(value, 1.0 - decay)?;
                    }
                    None => {
                        self.values.insert(name.clone(), value.f_detach_copy()?);
                    }
                }
            }
            Ok(())
        })
    }

    /// Returns the number of updates.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Returns the EMA of every parameter, by name.
    pub fn values(&self) -> &BTreeMap<String, Tensor> {
        &self.values
    }

    /// Replaces every value by `narrow` of its name and value.
    ///
    /// # Errors
    /// Those of `narrow`.
    pub fn narrow(&mut self, narrow: impl Fn(&str, &Tensor) -> Result<Tensor>) -> Result<()> {
        for (name, value) in &mut self.values {
            *value = narrow(name, value)?;
        }
        Ok(())
    }

    /// Removes a parameter.
    pub fn forget(&mut self, name: &str) {
        self.values.remove(name);
    }
}
