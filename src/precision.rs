//! Floating-point type of saved weights and of computation.

use crate::tensors::Weights;
use crate::{Error, Result};
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use tch::Kind;

/// Floating-point type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits: weights are not rounded.
    #[default]
    F32,
    /// 16 bits: 10 for the fraction, largest number 65,504.
    F16,
    /// 16 bits: 7 for the fraction, the range of f32.
    Bf16,
}

impl Precision {
    /// Name, as in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Tensor kind.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// Machine epsilon: distance from 1 to the next larger number.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::F32 => f64::from(f32::EPSILON),
            Self::F16 => f16::EPSILON.to_f64(),
            Self::Bf16 => bf16::EPSILON.to_f64(),
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Returns the weights rounded to this type; integers and flags as they are.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a weight with a NaN or an infinity, before or after rounding.
    pub(super) fn round(self, weights: &Weights) -> Result<Weights> {
        let rounded = weights.iter().map(|(name, tensor)| {
            let mut tensor = tensor.f_detach()?;
            if tensor.is_floating_point() {
                tensor = tensor.f_to_kind(self.kind())?;
            }
            if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                let copy = format!("the {} copy", self.name());
                return Err(Error::NonFinite { name: copy, dimension: name.clone() });
            }
            Ok((name.clone(), tensor))
        });
        rounded.collect()
    }
}
