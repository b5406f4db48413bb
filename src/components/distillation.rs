//! Knowledge distillation: the teacher trait and the loss between student and teacher.

use super::ComponentId;
use crate::error::expect_shape;
use crate::precision::Precision;
use crate::randomness::for_images;
use crate::range::{Range, RATE, SHARE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tch::{Kind, Reduction, Tensor};

/// Logits divided by it, and its square, stay finite in f32.
const TEMPERATURE: Range<f64> = Range::closed(1e-3, 1e6);
/// Weight of drawn classes in the gradient: that of labels beside [`Distillation::dense`].
const PROBE: f64 = 0.1;

/// Distillation teacher: a network whose outputs the student imitates.
///
/// [`SubnetTeacher`](crate::subnet::SubnetTeacher) loads a saved network; implement the trait for a
/// TorchScript module or any other network.
pub trait Teacher: Send {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused.
    fn id(&self) -> ComponentId;

    /// Returns the teacher's logits, or its outputs where they are the target of the task
    /// ([`TeacherRole::Target`](super::TeacherRole)). Called without autograd.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`. Result: that of the student's logits, `[B, classes]`, or
    /// `[B, tokens, C]` for a network of features.
    ///
    /// # Errors
    /// Those of the network.
    fn logits(&self, images: &Tensor) -> Result<Tensor>;

    /// Returns logits and features. Called without autograd, where
    /// [`Distillation::features`] is not 0 and has an effect on the network; a search then refuses outputs without
    /// features, as the default's.
    ///
    /// # Errors
    /// Those of the network.
    fn outputs(&self, images: &Tensor) -> Result<TeacherOutputs> {
        Ok(TeacherOutputs { logits: self.logits(images)?, features: None })
    }
}

/// Outputs of a teacher for a batch of images.
#[derive(Debug)]
pub struct TeacherOutputs {
    /// Logits, `[B, classes]`.
    pub logits: Tensor,
    /// Final features of all tokens, `[B, tokens, E]`, with E the width of the dense network that
    /// is searched; `None` for a teacher without.
    pub features: Option<Tensor>,
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

/// Which network teaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeacherSource {
    /// The teacher component.
    #[default]
    Component,
    /// The dense network with the weights that the search is built with: self-distillation. A search
    /// that is built without weights has no teacher, and learns from the labels alone.
    Dense,
}

/// Weighting of task and distillation loss:
/// (1 − weight)·task + weight·(distillation + features·feature loss).
///
/// With weight 1 the task loss is not computed: the images need no labels
/// ([`Batch::unlabelled`](crate::batch::Batch::unlabelled)). For a task whose target is the teacher
/// ([`TeacherRole::Target`](super::TeacherRole::Target)), `teacher` and `precision` alone have an effect.
///
/// The task loss uses the logits of the class head. The distillation loss of a network with a
/// distillation head uses the logits of that head, or, if the dense network teaches, the mean of both
/// heads' logits, which is what the dense network predicts from.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Which network teaches.
    #[serde(default)]
    pub teacher: TeacherSource,
    /// Distillation loss: soft or hard.
    pub kind: DistillationKind,
    /// Weight of the distillation loss, in [0, 1]; 0.5 in DeiT.
    pub weight: f64,
    /// Weight at the end of fine-tuning, towards which it moves linearly from the end of the search;
    /// `None` for `weight` throughout.
    #[serde(default)]
    pub final_weight: Option<f64>,
    /// Precision that the dense network teaches in, f32 or bf16; `None` for that of the training. It has
    /// no effect on a teacher component.
    #[serde(default)]
    pub precision: Option<Precision>,
    /// Weight of the [`feature_loss`] beside the distillation loss; 0 for none. It acts on networks
    /// with a [`feature_dimension`](crate::models::Architecture::feature_dimension), in steps
    /// without masked tokens.
    #[serde(default)]
    pub features: f64,
}

impl Distillation {
    /// Distillation of logits from the teacher component.
    pub fn new(kind: DistillationKind, weight: f64) -> Self {
        let teacher = TeacherSource::Component;
        Self { teacher, kind, weight, final_weight: None, precision: None, features: 0.0 }
    }

    /// DeiT's setting: hard distillation with weight 0.5.
    pub fn deit() -> Self {
        Self::new(DistillationKind::Hard, 0.5)
    }

    /// Self-distillation: logits (temperature 2) and features of the dense network, with weight 0.9.
    pub fn dense() -> Self {
        let kind = DistillationKind::Soft { temperature: 2.0 };
        Self { teacher: TeacherSource::Dense, features: 3.0, ..Self::new(kind, 0.9) }
    }

    /// Sets the final weight for so many steps of fine-tuning: `weight` for up to 200 steps, 0 for 400 and more, and between
    /// them `weight`·(2 − steps/200). A subnet that is trained for long outgrows its teacher.
    pub fn for_finetuning(mut self, steps: u64) -> Self {
        self.final_weight = Some(self.weight * (2.0 - steps as f64 / 200.0).clamp(0.0, 1.0));
        self
    }

    /// Returns the distillation for another length of fine-tuning: the final weight of `from` steps becomes that of `to`
    /// steps ([`for_finetuning`](Self::for_finetuning)); any other final weight stays.
    pub(crate) fn for_other_length(self, from: u64, to: u64) -> Self {
        if self == self.for_finetuning(from) {
            return self.for_finetuning(to);
        }
        self
    }

    /// Returns the weight with this share of fine-tuning done: [`weight`](Self::weight) at 0, that of
    /// the search, [`final_weight`](Self::final_weight) at 1.
    pub fn weight_at(&self, finetuned: f64) -> f64 {
        let end = self.final_weight.unwrap_or(self.weight);
        self.weight + (end - self.weight) * finetuned.clamp(0.0, 1.0)
    }

    /// Checks weights, temperature and precision.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the field if `weight` or `final_weight` is outside
    /// [0, 1], `features` outside [0, 1e6], the temperature outside [1e-3, 1e6], or the
    /// precision f16.
    pub fn check(&self) -> Result<()> {
        self.check_as("distillation")
    }

    /// [`check`](Self::check) of the option `name`.
    pub(crate) fn check_as(&self, name: &str) -> Result<()> {
        SHARE.check(format!("{name}.weight"), self.weight)?;
        if let Some(weight) = self.final_weight {
            SHARE.check(format!("{name}.final_weight"), weight)?;
        }
        if self.precision == Some(Precision::F16) {
            let expected = "f32 or bf16: the activations of f16 overflow";
            return Err(Error::invalid(format!("{name}.precision"), expected, "f16"));
        }
        RATE.check(format!("{name}.features"), self.features)?;
        match self.kind {
            DistillationKind::Soft { temperature } => {
                TEMPERATURE.check(format!("{name}.kind.soft.temperature"), temperature)
            }
            DistillationKind::Hard => Ok(()),
        }
    }
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

/// Returns a term of value 0 with [`PROBE`] times the gradient of the cross-entropy with classes drawn from the
/// student's own softmax(logits/τ), by libtorch's generator; `None` for hard distillation.
///
/// A student that meets its soft target has no gradient, and every candidate would be estimated to cost nothing
/// ([`Decisions::Estimated`](crate::search::Decisions::Estimated)). The expected square of this gradient is, up to the
/// square of [`PROBE`], the Gauss–Newton term of τ²·KL: the second-order rise of the loss.
pub(crate) fn drawn_classes(student: &Tensor, kind: DistillationKind) -> Result<Option<Tensor>> {
    let DistillationKind::Soft { temperature } = kind else { return Ok(None) };
    let log_p = student.f_to_kind(Kind::Float)?.f_div_scalar(temperature)?;
    let log_p = log_p.f_log_softmax(-1, None)?;
    let mut shape = log_p.size();
    // The largest of ln p plus Gumbel noise is a draw from p.
    let noise = for_images(shape[0], |images| {
        shape[0] = images;
        let uniform = Tensor::f_rand(&shape[..], (Kind::Float, student.device()))?;
        let uniform = uniform.f_clamp(f64::from(f32::MIN_POSITIVE), 1.0 - 1e-7)?;
        Ok(uniform.f_log()?.f_neg()?.f_log()?.f_neg()?)
    })?;
    let class = log_p.f_detach()?.f_add(&noise)?.f_argmax(-1, true)?;
    let log_p = log_p.f_gather(-1, &class, false)?;
    let moved = log_p.f_detach()?.f_sub(&log_p)?;
    Ok(Some(moved.f_mean(None)?.f_mul_scalar(PROBE * temperature)?))
}

/// Returns the squared distance of the student's features from the teacher's, as a share of the
/// squared length of the teacher's, over a batch: ‖F − F*‖²/‖F*‖².
///
/// A subnet keeps channels of the embedding of its dense network, so that features compare channel by
/// channel, without a learned projection between them.
///
/// # Shapes
/// `student`, `teacher`: `[B, tokens, E]`. Result: scalar.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if student and teacher differ in shape.
pub fn feature_loss(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let [distance, length] = feature_distance(student, teacher)?;
    Ok(distance.f_div(&length)?)
}

/// Returns squared distance and squared length, whose ratio is the [`feature_loss`].
pub(crate) fn feature_distance(student: &Tensor, teacher: &Tensor) -> Result<[Tensor; 2]> {
    expect_shape("distillation", "teacher features", teacher, &student.size())?;
    let teacher = teacher.f_detach()?.f_to_kind(Kind::Float)?;
    let squared = |x: &Tensor| x.f_square()?.f_sum(Kind::Float);
    let distance = squared(&student.f_to_kind(Kind::Float)?.f_sub(&teacher)?)?;
    Ok([distance, squared(&teacher)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?])
}
