//! What a teacher adds to the task.

use super::ComponentId;
use crate::error::expect_shape;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tch::{Kind, Reduction, Tensor};

/// A network to learn from: one from disk ([`SubnetTeacher`](crate::subnet::SubnetTeacher)), a
/// TorchScript module, anything.
pub trait Teacher: Send {
    /// Name and parameters, by which a checkpoint recognises the teacher.
    fn id(&self) -> ComponentId;

    /// Its logits for `images`, `[B, C, H, W]` → `[B, classes]`. Called outside autograd.
    ///
    /// # Errors
    /// Those of the network.
    fn logits(&self, images: &Tensor) -> Result<Tensor>;
}

impl Debug for dyn Teacher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "Teacher({})", self.id())
    }
}

/// How the teacher's word is taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistillationKind {
    /// τ²·KL(teacher/τ ‖ student/τ) (Hinton et al. 2015; DeiT eq. 2).
    Soft {
        /// τ.
        temperature: f64,
    },
    /// Cross-entropy with the teacher's first choice (DeiT eq. 3).
    Hard,
}

/// (1 − weight)·task + weight·distillation. The task looks at the class head; distillation at the
/// distillation head where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Soft or hard.
    pub kind: DistillationKind,
    /// Share of the teacher, in [0, 1]; 0.5 in DeiT.
    pub weight: f64,
}

impl Distillation {
    /// DeiT's: hard, by halves.
    pub fn deit() -> Self {
        Self { kind: DistillationKind::Hard, weight: 0.5 }
    }

    /// Checks both numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the weight is outside [0, 1] or the temperature is not positive.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.weight) {
            return Err(Error::invalid("distillation.weight", "within [0, 1]", self.weight));
        }
        match self.kind {
            DistillationKind::Soft { temperature }
                if !(temperature.is_finite() && temperature > 0.0) =>
            {
                Err(Error::invalid("distillation.temperature", "finite and positive", temperature))
            }
            _ => Ok(()),
        }
    }
}

/// Distance of a student from its teacher, both `[B, classes]`; a scalar.
///
/// # Errors
/// [`Error::Shape`] if they differ in shape.
pub fn distillation_loss(
    student: &Tensor,
    teacher: &Tensor,
    kind: DistillationKind,
) -> Result<Tensor> {
    expect_shape("distillation", "teacher's logits", teacher, &student.size())?;
    let teacher = teacher.f_detach()?.f_to_kind(Kind::Float)?;
    let student = student.f_to_kind(Kind::Float)?;
    match kind {
        DistillationKind::Hard => {
            let (weight, choice): (Option<Tensor>, _) = (None, teacher.f_argmax(-1, false)?);
            Ok(student.f_cross_entropy_loss(&choice, weight, Reduction::Mean, -100, 0.0)?)
        }
        DistillationKind::Soft { temperature } => {
            let log_p = |x: &Tensor| x.f_div_scalar(temperature)?.f_log_softmax(-1, None);
            let (student, p) = (log_p(&student)?, log_p(&teacher)?.f_exp()?);
            // 0 · ln 0 is 0: a class that the teacher rules out says nothing.
            let divergence = p.f_xlogy(&p)?.f_sub(&p.f_mul(&student)?)?;
            let batch = student.size()[0].max(1) as f64;
            Ok(divergence.f_sum(None)?.f_mul_scalar(temperature * temperature / batch)?)
        }
    }
}
