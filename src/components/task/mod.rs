//! The task trait: the loss of a network's outputs, which a search minimises.

mod classification;
mod contrastive;
mod features;
mod function;

pub use classification::{cross_entropy, Classification};
pub use contrastive::{Contrastive, ContrastiveLoss};
pub use features::{relative_error, FeatureMatching};
pub use function::FunctionTask;

use super::ComponentId;
use crate::batch::{Batch, Targets};
use crate::error::expect_shape;
use crate::models::OutputTokens;
use crate::{Error, Result};
use std::any::Any;
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// Task: the loss of the network's outputs, which search and fine-tuning minimise.
///
/// | task | loss | targets |
/// |---|---|---|
/// | [`Classification`], the default | cross-entropy | classes or class probabilities |
/// | [`FeatureMatching`] | relative squared error from a teacher's features | none |
/// | [`Contrastive`] | cross-entropy or sigmoid loss of similarities to texts | classes or class probabilities |
/// | [`FunctionTask`] | a function of one's own | any |
///
/// A step computes the loss on its images without waiting for the device, so an implementation reads no
/// tensor of the device back to the host.
pub trait Task: Any + Debug + Send + Sync {
    /// Name and parameters; a checkpoint stores them, and a resume with another id is refused. The names of
    /// this crate's own are refused when the search is built.
    fn id(&self) -> ComponentId;

    /// Returns the loss of each image.
    ///
    /// # Shapes
    /// Result: `[B]`, f32, with the gradient of the outputs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for targets of another kind than the task's; [`Error::Shape`] for outputs or
    /// targets of another shape.
    fn losses(&self, inputs: &TaskInputs) -> Result<Tensor>;

    /// Returns the loss of a batch: the mean over its images. Gradients of accumulated batches, of
    /// images with masked tokens and of several processes are averaged, weighted by their images: the
    /// loss of a batch has to be the mean of those of its images, or the result depends on how
    /// images are grouped.
    ///
    /// # Shapes
    /// Result: scalar, f32.
    ///
    /// # Errors
    /// Those of [`losses`](Self::losses).
    fn loss(&self, inputs: &TaskInputs) -> Result<Tensor> {
        Ok(self.losses(inputs)?.f_mean(Kind::Float)?)
    }

    /// Returns what the outputs of a teacher are for the task. Default: distillation beside the loss.
    fn teacher(&self) -> TeacherRole {
        TeacherRole::Distils
    }

    /// Returns the logits that student and teacher are compared by in distillation. Default: the outputs.
    ///
    /// # Shapes
    /// `outputs`: as in [`TaskInputs::outputs`]. Result: `[B, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for outputs of another shape than the task's.
    fn logits(&self, outputs: &Tensor) -> Result<Tensor> {
        Ok(outputs.shallow_clone())
    }

    /// Returns a scalar on the device that is NaN if a class index of the targets is out of range, else
    /// 0; `None`, the default, where the host has checked it. A step with NaN is skipped.
    ///
    /// # Errors
    /// Those of [`losses`](Self::losses).
    fn class_index_flag(&self, _inputs: &TaskInputs) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Checks that the task compares the tokens that the network has. The default accepts all.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter.
    fn check_tokens(&self, _tokens: OutputTokens) -> Result<()> {
        Ok(())
    }

    /// Checks the parameters. The default accepts all.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// What the outputs of a teacher are for a task. Which network teaches, and in which precision, is
/// [`Distillation`](super::Distillation) of the training options in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeacherRole {
    /// Distillation: the training options mix the loss with the distance of the logits from the
    /// teacher's.
    Distils,
    /// Target of the loss, as [`TaskInputs::teacher`]. Kind and weights of the distillation have no
    /// effect.
    Target,
    /// None: the distillation of the training options has no effect.
    Unused,
}

/// What the loss of a batch is computed from.
#[non_exhaustive]
#[derive(Debug, Clone, Copy)]
pub struct TaskInputs<'a> {
    /// Outputs of the network, f32: logits `[B, classes]`, or features `[B, C]` or `[B, tokens, C]`. Of a
    /// network with a distillation head, the mean of both heads' outputs; beside distillation, those of
    /// the class head.
    pub outputs: &'a Tensor,
    /// Images and targets.
    pub batch: &'a Batch,
    /// Outputs of the teacher for the same images, f32, without gradient; `None` unless the task wants them
    /// as its target ([`TeacherRole::Target`]).
    pub teacher: Option<&'a Tensor>,
    /// Label smoothing of the training options, in [0, 1); 0 in measurements.
    pub label_smoothing: f64,
    /// Whether the gradient is evidence for decisions
    /// ([`Decisions::Estimated`](crate::search::Decisions::Estimated)). A loss that has no gradient at its target, where a search
    /// may begin, then needs a term that has one, of value 0, as [`FeatureMatching::probe`](super::FeatureMatching::probe) is:
    /// otherwise every candidate is estimated to cost nothing.
    pub estimates: bool,
}

impl<'a> TaskInputs<'a> {
    /// Outputs for a batch, without teacher and label smoothing.
    pub fn new(outputs: &'a Tensor, batch: &'a Batch) -> Self {
        Self { outputs, batch, teacher: None, label_smoothing: 0.0, estimates: false }
    }

    /// Sets the teacher's outputs.
    pub fn with_teacher(mut self, teacher: &'a Tensor) -> Self {
        self.teacher = Some(teacher);
        self
    }

    /// Returns the teacher's outputs.
    ///
    /// # Errors
    /// [`Error::Invalid`] without them; [`Error::Shape`] unless they have the shape of the network's.
    pub fn expect_teacher(&self) -> Result<&'a Tensor> {
        let Some(teacher) = self.teacher else {
            let expected = "those of the network that training.distillation names";
            return Err(Error::invalid("outputs of the teacher of the task", expected, "none"));
        };
        expect_shape("task loss", "outputs of the teacher", teacher, &self.outputs.size())?;
        Ok(teacher)
    }
}

/// Returns the loss of a batch, checked to be a scalar in f32.
pub(crate) fn batch_loss(task: &dyn Task, inputs: &TaskInputs) -> Result<Tensor> {
    let loss = task.loss(inputs)?;
    expect_shape("task loss", &format!("loss of the task {}", task.id()), &loss, &[])?;
    match loss.kind() {
        Kind::Float => Ok(loss),
        _ => Ok(loss.f_to_kind(Kind::Float)?),
    }
}

/// Words for the kind of targets, in errors.
fn kind_of(targets: &Targets) -> &'static str {
    match targets {
        Targets::Classes(_) => "class indices",
        Targets::Probabilities(_) => "class probabilities",
        Targets::Values(_) => "values",
        Targets::Unlabelled => "none",
    }
}
