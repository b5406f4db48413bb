//! Teaching: what a step learns from, labels and the outputs of a teacher.

use super::finite::Checked;
use super::model_gradients::Part;
use super::ranks::Placed;
use super::step::Search;
use crate::autograd;
use crate::batch::Batch;
use crate::components::{
    batch_loss, distillation_loss, drawn_classes, feature_distance, lock_teacher, Components,
    Distillation, TaskInputs, TeacherOutputs, TeacherRole, TeacherSource,
};
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::subnet::Subnet;
use crate::supernet::{Output, Supernet, Weights};
use crate::tensors::widened;
use crate::{Error, Result};
use tch::Tensor;

/// The dense network as a teacher, and which of its channels the student keeps.
#[derive(Debug)]
pub(super) struct Teaching<A: Architecture> {
    /// The dense network, where the options want it to teach and weights were given.
    dense: Option<Subnet<A>>,
    /// `None` where the features are not those of a dimension under search.
    channels: Option<Channels>,
}

/// Channels of the features that are not fading out.
#[derive(Debug)]
struct Channels {
    /// Their indices among the student's channels.
    student: Tensor,
    /// Their indices among the channels of the dense network.
    dense: Tensor,
    /// Channels of the dense network.
    width: i64,
}

impl<A: Architecture> Teaching<A> {
    /// A teacher-less state.
    pub(super) fn none() -> Self {
        Self { dense: None, channels: None }
    }

    /// Weights of the dense network, if it teaches.
    pub(super) fn dense_weights(&self) -> Option<&Weights> {
        self.dense.as_ref().map(Subnet::weights)
    }

    /// Finds the channels of the student's features again, after dimensions were narrowed or began to
    /// fade out.
    pub(super) fn align(&mut self, supernet: &Supernet<A>) -> Result<()> {
        let dimension = supernet.architecture().feature_dimension();
        let state = supernet.states().iter().find(|state| Some(&state.name) == dimension.as_ref());
        self.channels = match state {
            None => None,
            Some(state) => {
                let [student, dense] = state.staying_units()?;
                let width = supernet.cost_model().dense.get(&state.name);
                let width = width.map_or(state.candidates().units(), |size| size.units());
                Some(Channels { student, dense, width })
            }
        };
        Ok(())
    }
}

/// Refuses components whose task or distillation needs a teacher that is not there.
pub(super) fn expect_teacher(
    components: &Components,
    distillation: Option<Distillation>,
) -> Result<()> {
    let (task, role) = (&components.task, components.task.teacher());
    if role == TeacherRole::Target && distillation.is_none() {
        let task = task.id();
        let expected =
            format!("one, such as Distillation::dense(): it names the teacher of the task {task}");
        return Err(Error::invalid("training.distillation", expected, "none"));
    }
    let asks = |own: Distillation| own.teacher == TeacherSource::Component;
    let needs = role != TeacherRole::Unused && distillation.is_some_and(asks);
    if needs && components.teacher.is_none() {
        let expected = "one, for training.distillation.teacher component; give one, or set dense";
        return Err(Error::invalid("teacher", expected, "none"));
    }
    Ok(())
}

/// Refuses outputs without the features that the distillation asks for.
fn with_features(outputs: TeacherOutputs) -> Result<TeacherOutputs> {
    match outputs.features {
        Some(_) => Ok(outputs),
        None => {
            let expected = "some, for training.distillation.features; implement Teacher::outputs, or set it to 0";
            Err(Error::invalid("features of the teacher", expected, "none"))
        }
    }
}

impl<A: Architecture> Search<A> {
    /// Makes the dense network with these weights the teacher, if the options want it.
    ///
    /// Mask token and decoder, which weights of another search may have, are left out.
    pub(super) fn teach_by_dense(&mut self, architecture: A, weights: &Weights) -> Result<()> {
        let training = &self.options.training;
        let used = self.components.task.teacher() != TeacherRole::Unused;
        let teaches = |own: &Distillation| used && own.teacher == TeacherSource::Dense;
        if let Some(own) = training.distillation.filter(teaches) {
            let device = self.supernet.device();
            let precision = own.precision.unwrap_or(training.precision);
            // Not those of the supernet, which in a resumed search may have removed branches.
            let known = architecture.variables()?;
            let own = weights.iter().filter(|(name, _)| known.contains_key(*name));
            let own = own.map(|(name, weight)| (name.clone(), weight.shallow_clone())).collect();
            let dense = Subnet::with_precision(architecture, &own, device, precision)?;
            self.teaching.dense = Some(dense);
        }
        Ok(())
    }

    /// Refuses a task whose target is the dense network, in a search without its weights.
    pub(super) fn expect_no_dense_target(&self) -> Result<()> {
        let (task, own) = (&self.components.task, self.options.training.distillation);
        let dense = own.is_some_and(|own| own.teacher == TeacherSource::Dense);
        if task.teacher() != TeacherRole::Target || !dense {
            return Ok(());
        }
        let expected = format!("those of the dense network, the target of the task {}", task.id());
        Err(Error::invalid("weights of the search", expected, "none"))
    }

    /// Returns the distillation with its weight in this step; `None` with weight 0. Where the teacher is
    /// the target of the task, the weight is 1 and features have none.
    fn distillation(&self) -> Option<Distillation> {
        let own = self.options.training.distillation?;
        match self.components.task.teacher() {
            TeacherRole::Distils => {}
            TeacherRole::Target => {
                return Some(Distillation { weight: 1.0, features: 0.0, ..own });
            }
            TeacherRole::Unused => return None,
        }
        let (first, last) = (self.options.search_steps, self.options.total_steps);
        let done =
            self.step.saturating_sub(first) as f64 / last.saturating_sub(first).max(1) as f64;
        let weight = own.weight_at(done);
        let mut now = own;
        now.weight = weight;
        (weight > 0.0).then_some(now)
    }

    /// Returns the distillation of this step, and its teacher's outputs for the images; `None`
    /// without a teacher.
    pub(super) fn taught(&self, images: &Tensor) -> Result<Option<(Distillation, TeacherOutputs)>> {
        let Some(own) = self.distillation() else { return Ok(None) };
        let has_features = self.supernet.architecture().feature_dimension().is_some();
        let features = own.features > 0.0 && has_features;
        let outputs = autograd::no_grad(|| match (own.teacher, &self.teaching.dense) {
            (TeacherSource::Dense, dense) => {
                dense.as_ref().map(|dense| dense.outputs(images, features)).transpose()
            }
            (TeacherSource::Component, _) => {
                let teacher = self.components.teacher.as_ref().map(|own| lock_teacher(own));
                teacher
                    .map(|teacher| match features {
                        true => with_features(teacher.outputs(images)?),
                        false => {
                            let logits = teacher.logits(images)?;
                            Ok(TeacherOutputs { logits, features: None })
                        }
                    })
                    .transpose()
            }
        })?;
        Ok(outputs.map(|outputs| (own, outputs)))
    }

    /// Returns the loss of the task for a batch, mixed with the distillation loss where there is a
    /// teacher.
    pub(super) fn task(
        &self,
        part: &Part,
        output: &Output,
        taught: Option<&(Distillation, TeacherOutputs)>,
        checked: &mut Checked,
    ) -> Result<Tensor> {
        let (batch, logits) = (&part.batch, &output.logits);
        let Some((distillation, teacher)) = taught else {
            return self.task_loss(batch, &logits.prediction()?, None, checked);
        };
        let task = &self.components.task;
        if task.teacher() == TeacherRole::Target {
            return self.task_loss(batch, &logits.prediction()?, Some(&teacher.logits), checked);
        }
        let student = &match distillation.teacher {
            // What it teaches is the prediction of the same heads.
            TeacherSource::Dense => logits.prediction()?,
            TeacherSource::Component => {
                logits.distillation.as_ref().unwrap_or(&logits.class).shallow_clone()
            }
        };
        let [own, target] = [task.logits(student)?, task.logits(&teacher.logits)?];
        let mut distance = distillation_loss(&own, &target, distillation.kind)?;
        if let (Some(own), Some(target)) = (&output.features, &teacher.features) {
            let loss = self
                .feature_loss(own, target, &part.images)?
                .f_mul_scalar(distillation.features)?;
            distance = distance.f_add(&loss)?;
        }
        Checked::add(&mut checked.distillation, &distance)?;
        let share = distillation.weight;
        if share == 1.0 {
            // Labels have no weight, and there may be none.
            return self.probed(distance, &own, *distillation);
        }
        let task = self.task_loss(batch, &logits.class, None, checked)?;
        Ok(task.f_mul_scalar(1.0 - share)?.f_add(&distance.f_mul_scalar(share)?)?)
    }

    /// Adds the gradient of drawn classes to the distance from the teacher while losses are estimated from gradients. A student
    /// that starts as its teacher has none otherwise.
    fn probed(&self, distance: Tensor, logits: &Tensor, own: Distillation) -> Result<Tensor> {
        if !self.needs_evidence() {
            return Ok(distance);
        }
        match drawn_classes(logits, own.kind)? {
            Some(probe) => Ok(distance.f_add(&probe)?),
            None => Ok(distance),
        }
    }

    /// Returns the loss of the task for outputs of the network.
    fn task_loss(
        &self,
        batch: &Batch,
        outputs: &Tensor,
        teacher: Option<&Tensor>,
        checked: &mut Checked,
    ) -> Result<Tensor> {
        let teacher = teacher.map(widened).transpose()?;
        let mut inputs = TaskInputs::new(outputs, batch);
        inputs.teacher = teacher.as_ref();
        inputs.label_smoothing = self.options.training.label_smoothing;
        inputs.estimates = self.needs_evidence();
        if let Some(flag) = self.components.task.class_index_flag(&inputs)? {
            Checked::add(&mut checked.classes, &flag)?;
        }
        let loss = batch_loss(&*self.components.task, &inputs)?;
        Checked::add(&mut checked.task, &loss)?;
        Ok(loss)
    }

    /// Returns the [`feature_loss`](crate::components::feature_loss) over the channels that the student
    /// keeps. It is a ratio of two sums over the images: the lower one is that of all ranks.
    fn feature_loss(&self, student: &Tensor, teacher: &Tensor, images: &Placed) -> Result<Tensor> {
        let ratio = |student: &Tensor, teacher: &Tensor| {
            let [distance, length] = feature_distance(student, teacher)?;
            Ok(distance.f_div(&self.of_all_ranks(&length, images)?)?)
        };
        let Some(channels) = &self.teaching.channels else { return ratio(student, teacher) };
        let mut expected = student.size();
        if let Some(last) = expected.last_mut() {
            *last = channels.width;
        }
        expect_shape("distillation", "teacher features", teacher, &expected)?;
        let select = |features: &Tensor, kept| features.f_index_select(-1, kept);
        ratio(&select(student, &channels.student)?, &select(teacher, &channels.dense)?)
    }
}
