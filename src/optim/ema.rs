//! Exponential EMA of parameters.

use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

/// ā ← decay·ā + (1 − decay)·a of every parameter, by name; the first value is taken as it is.
///
/// In the first steps the decay is (1 + n)/(10 + n) after n updates where that is smaller, so that
/// the start is forgotten soon.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    updates: u64,
    values: BTreeMap<String, Tensor>,
}

impl Ema {
    /// An average that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the decay is within [0, 1).
    pub fn new(decay: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::invalid("decay of the average", "within [0, 1)", decay));
        }
        Ok(Self { decay, updates: 0, values: BTreeMap::new() })
    }

    /// Goes on from saved values after `updates` updates.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn restore(decay: f64, updates: u64, values: BTreeMap<String, Tensor>) -> Result<Self> {
        Ok(Self { updates, values, ..Self::new(decay)? })
    }

    /// Takes in the present values.
    ///
    /// # Errors
    /// [`Error::Shape`] if a parameter has changed its shape.
    pub fn update<'a>(
        &mut self,
        parameters: impl Iterator<Item = (&'a String, &'a Tensor)>,
    ) -> Result<()> {
        let n = self.updates as f64;
        let decay = self.decay.min((1.0 + n) / (10.0 + n));
        self.updates += 1;
        tch::no_grad(|| {
            for (name, value) in parameters {
                match self.values.get_mut(name) {
                    Some(mean) => {
                        crate::error::expect_shape("average", name, value, &mean.size())?;
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

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The averages, by name.
    pub fn values(&self) -> &BTreeMap<String, Tensor> {
        &self.values
    }

    /// Replaces every average by what `narrow` makes of it.
    ///
    /// # Errors
    /// Those of `narrow`.
    pub fn narrow(&mut self, narrow: impl Fn(&str, &Tensor) -> Result<Tensor>) -> Result<()> {
        for (name, value) in &mut self.values {
            *value = narrow(name, value)?;
        }
        Ok(())
    }

    /// Forgets a parameter.
    pub fn forget(&mut self, name: &str) {
        self.values.remove(name);
    }
}
