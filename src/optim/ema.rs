//! Exponential moving average (EMA) of parameters.

use super::{FlatTensors, Layout};
use crate::error::expect_shape;
use crate::range::PART;
use crate::Result;
use std::collections::BTreeMap;
use std::sync::Arc;
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
    /// Buffers of which the values are views, one for every buffer of parameters.
    buffers: Vec<FlatTensors>,
}

impl Ema {
    /// Returns an EMA without values.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) unless `decay` is in [0, 1).
    pub fn new(decay: f64) -> Result<Self> {
        PART.check("decay of the EMA", decay)?;
        Ok(Self { decay, updates: 0, values: BTreeMap::new(), buffers: Vec::new() })
    }

    /// Returns an EMA with these values after `updates` updates, as read from a checkpoint.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn restore(decay: f64, updates: u64, values: BTreeMap<String, Tensor>) -> Result<Self> {
        Ok(Self { updates, values, ..Self::new(decay)? })
    }

    /// Updates the EMA with the present values of all parameters, one buffer or more.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a parameter has changed its shape.
    pub fn update(&mut self, parameters: &[&FlatTensors]) -> Result<()> {
        let n = self.updates as f64;
        let decay = self.decay.min((1.0 + n) / (10.0 + n));
        crate::autograd::no_grad(|| {
            for own in parameters {
                let mean = self.align(own)?;
                let _ = mean.data().shallow_clone().f_lerp_(own.data(), 1.0 - decay)?;
            }
            self.updates = self.updates.saturating_add(1);
            Ok(())
        })
    }

    /// Returns the buffer of the values of these parameters, made of the values so far and, for new
    /// parameters, of their present ones.
    fn align(&mut self, parameters: &FlatTensors) -> Result<&FlatTensors> {
        let layout: &Arc<Layout> = parameters.layout();
        if let Some(at) = self.buffers.iter().position(|own| Arc::ptr_eq(own.layout(), layout)) {
            return Ok(&self.buffers[at]);
        }
        for segment in layout.segments() {
            if let Some(mean) = self.values.get(&segment.name) {
                expect_shape("EMA", &segment.name, mean, &segment.shape)?;
            }
        }
        let present = parameters.tensors()?;
        let means = FlatTensors::gather(layout, parameters.data().device(), |segment| {
            self.values.get(&segment.name).or_else(|| present.get(&segment.name))
        })?;
        self.values.extend(means.tensors()?);
        self.buffers.retain(|own| {
            own.layout().segments().iter().all(|segment| layout.get(&segment.name).is_none())
        });
        self.buffers.push(means);
        Ok(&self.buffers[self.buffers.len() - 1])
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
        self.buffers.clear();
        for (name, value) in &mut self.values {
            *value = narrow(name, value)?;
        }
        Ok(())
    }

    /// Removes a parameter.
    pub fn forget(&mut self, name: &str) {
        self.buffers.clear();
        self.values.remove(name);
    }
}
