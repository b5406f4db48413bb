//! Knowledge distillation: the teacher trait and the loss between student and teacher.

use super::ComponentId;
use crate::error::expect_shape;
use crate::range::{Range, SHARE};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tch::{Kind, Reduction, Tensor};

/// Logits divided by it, and its square, stay finite in f32.
const TEMPERATURE: Range<f64> = Range::closed(1e-3, 1e6);

/// Distillation teacher: a network whose logits the student imitates.
///
/// [`SubnetTeacher`](crate::subnet::SubnetTeacher) loads a saved network; implement the trait for a
/// TorchScript module or any other network.
pub trait Teacher: Send {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused.
    fn id(&self) -> ComponentId;

    /// Returns the teacher's logits. Called without autograd.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`. Result: `[B, classes]`.
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

/// Distillation loss: soft or hard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistillationKind {
    /// τ²·KL(softmax(teacher/τ) ‖ softmax(student/τ)), mean over the batch (Hinton et al. 2015;
    /// DeiT eq. 2).
    Soft {
        /// Temperature τ, positive.
        temperature: f64,
    },
    /// Cross-entropy with the teacher's predicted class (DeiT eq. 3).
    Hard,
}

/// Weighting of task and distillation loss: (1 − weight)·task + weight·distillation.
///
/// The task loss uses the logits of the class head. The distillation loss uses those of the
/// distillation head if the network has one, else those of the class head.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Distillation loss: soft or hard.
    pub kind: DistillationKind,
    /// Weight of the distillation loss, in [0, 1]; 0.5 in DeiT.
    pub weight: f64,
}

impl Distillation {
    /// DeiT's setting: hard distillation with weight 0.5.
    pub fn deit() -> Self {
        Self { kind: DistillationKind::Hard, weight: 0.5 }
    }

    /// Checks weight and temperature.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the weight is outside [0, 1] or the temperature
    /// outside [1e-3, 1e6].
    pub fn check(&self) -> Result<()> {
        self.check_as("distillation")
    }

    /// [`check`](Self::check) of the option `name`.
    pub(crate) fn check_as(&self, name: &str) -> Result<()> {
        SHARE.check(format!("{name}.weight"), self.weight)?;
        match self.kind {
            DistillationKind::Soft { temperature } => {
                TEMPERATURE.check(format!("{name}.kind.soft.temperature"), temperature)
            }
            DistillationKind::Hard => Ok(()),
        }
    }
}

/// Returns the teacher's logits, computed without autograd.
pub(crate) fn teacher_logits(teacher: &dyn Teacher, images: &Tensor) -> Result<Tensor> {
    crate::autograd::no_grad(|| teacher.logits(images))
}

/// Returns the distillation loss between student and teacher logits.
///
/// # Shapes
/// `student`, `teacher`: `[B, classes]`. Result: scalar.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if student and teacher differ in shape.
pub fn distillation_loss(
    student: &Tensor,
    teacher: &Tensor,
    kind: DistillationKind,
) -> Result<Tensor> {
    expect_shape("distillation", "teacher logits", teacher, &student.size())?;
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
            // xlogy has 0 · ln 0 = 0, where the teacher's probability underflows.
            let divergence = p.f_xlogy(&p)?.f_sub(&p.f_mul(&student)?)?;
            let batch = student.size()[0].max(1) as f64;
            Ok(divergence.f_sum(None)?.f_mul_scalar(temperature * temperature / batch)?)
        }
    }
}
