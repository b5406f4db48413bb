//! A task whose loss is a function of the user's.

use super::{Task, TaskInputs, TeacherRole};
use crate::components::ComponentId;
use crate::error::expect_shape;
use crate::Result;
use std::fmt::{Debug, Formatter};
use tch::{Kind, Tensor};

type Loss = dyn Fn(&TaskInputs) -> Result<Tensor> + Send + Sync;

/// Task whose loss is a function of the outputs and the batch.
///
/// The function returns a scalar, the mean over the images, or one loss an image, `[B]`, which
/// [`Calibration`](crate::sensitivity::Calibration) needs. There is no distillation beside it.
///
/// ```
/// use once_for_both::prelude::*;
/// use tch::Kind;
///
/// # fn main() -> once_for_both::Result<()> {
/// // 1 − cosine to the features of the dense network.
/// let cosine = FunctionTask::new("cosine", |inputs| {
///     let target = inputs.expect_teacher()?;
///     let cosine = tch::Tensor::f_cosine_similarity(inputs.outputs, target, -1, 1e-8)?;
///     Ok(cosine.f_neg()?.f_add_scalar(1.0)?)
/// });
/// let vit = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(16);
/// let weights = Search::training(vit.clone(), 1).build()?.supernet().raw_weights();
/// let search = Search::of(vit).weights(&weights).task(cosine.with_teacher());
/// let mut search = search.budget(Budget::macs_share(0.5)).steps(60, 40).build()?;
/// let images = tch::Tensor::f_randn([2, 3, 16, 16], (Kind::Float, tch::Device::Cpu))?;
/// search.step(&[Batch::unlabelled(images)], &mut ())?;
/// # Ok(())
/// # }
/// ```
pub struct FunctionTask {
    id: ComponentId,
    teacher: TeacherRole,
    loss: Box<Loss>,
}

impl Debug for FunctionTask {
    fn fmt(&self, formatter: &mut Formatter) -> std::fmt::Result {
        write!(formatter, "FunctionTask({})", self.id)
    }
}

impl FunctionTask {
    /// Creates a task. `id`: its name, or its [`ComponentId`] with parameters that tell it from others of
    /// the name.
    ///
    /// # Shapes
    /// Result of `loss`: scalar or `[B]`, with the gradient of the outputs.
    pub fn new(
        id: impl Into<ComponentId>,
        loss: impl Fn(&TaskInputs) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self { id: id.into(), teacher: TeacherRole::Unused, loss: Box::new(loss) }
    }

    /// Gives the function the outputs of the teacher ([`TaskInputs::teacher`]). Where the dense network is the teacher, a
    /// search begins at the target: see [`TaskInputs::estimates`].
    pub fn with_teacher(mut self) -> Self {
        self.teacher = TeacherRole::Target;
        self
    }
}

impl Task for FunctionTask {
    fn id(&self) -> ComponentId {
        self.id.clone()
    }

    fn losses(&self, inputs: &TaskInputs) -> Result<Tensor> {
        let losses = (self.loss)(inputs)?;
        let name = format!("loss of the task {}, one an image,", self.id);
        expect_shape("task loss", &name, &losses, &inputs.batch.images.size()[..1])?;
        Ok(losses)
    }

    fn loss(&self, inputs: &TaskInputs) -> Result<Tensor> {
        let loss = (self.loss)(inputs)?;
        match loss.size()[..] == inputs.batch.images.size()[..1] {
            true => Ok(loss.f_mean(Kind::Float)?),
            false => Ok(loss),
        }
    }

    fn teacher(&self) -> TeacherRole {
        self.teacher
    }
}
