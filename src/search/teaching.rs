//! Teaching: what a step learns from, labels and the outputs of a teacher.

use super::finite::Checked;
use super::model_gradients::Part;
use super::ranks::Placed;
use super::step::Search;
use crate::autograd;
use crate::batch::Batch;
use crate::components::{
    class_index_flag, distillation_loss, feature_distance, lock_teacher, probe_term, task_loss,
    Distillation, TeacherOutputs, TeacherSource,
};
use crate::error::expect_shape;
use crate::models::Architecture;
use crate::subnet::Subnet;
use crate::supernet::{Output, Supernet, Weights};
use crate::Result;
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

impl<A: Architecture> Search<A> {
    /// Makes the dense network with these weights the teacher, if the options want it.
    ///
    /// Mask token and decoder, which weights of another search may have, are left out.
    pub(super) fn teach_by_dense(&mut self, architecture: A, weights: &Weights) -> Result<()> {
        let training = &self.options.training;
        let teaches = |own: &Distillation| own.teacher == TeacherSource::Dense;
        if let Some(own) = training.distillation.filter(teaches) {
            let device = self.supernet.device();
            let precision = own.precision.unwrap_or(training.precision);
            let known = self.supernet.folded_weights();
            let own = weights.iter().filter(|(name, _)| known.contains_key(*name));
            let own = own.map(|(name, weight)| (name.clone(), weight.shallow_clone())).collect();
            let dense = Subnet::with_precision(architecture, &own, device, precision)?;
            self.teaching.dense = Some(dense);
        }
        Ok(())
    }

    /// Returns the distillation with its weight in this step; `None` with weight 0.
    fn distillation(&self) -> Option<Distillation> {
        let own = self.options.training.distillation?;
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
                        true => teacher.outputs(images),
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

    /// Returns the task loss of a batch: cross-entropy, mixed with the distillation loss where there
    /// is a teacher.
    pub(super) fn task(
        &self,
        part: &Part,
        output: &Output,
        taught: Option<&(Distillation, TeacherOutputs)>,
        checked: &mut Checked,
    ) -> Result<Tensor> {
        let (batch, logits) = (&part.batch, &output.logits);
        let Some((distillation, teacher)) = taught else {
            return self.cross_entropy(batch, &logits.prediction()?, checked);
        };
        let student = &match distillation.teacher {
            // What it teaches is the prediction of the same heads.
            TeacherSource::Dense => logits.prediction()?,
            TeacherSource::Component => {
                logits.distillation.as_ref().unwrap_or(&logits.class).shallow_clone()
            }
        };
        let mut distance = distillation_loss(student, &teacher.logits, distillation.kind)?;
        if let (Some(own), Some(target)) = (&output.features, &teacher.features) {
            let loss = self
                .feature_loss(own, target, &part.images)?
                .f_mul_scalar(distillation.features)?;
            distance = distance.f_add(&loss)?;
        }
        if self.needs_evidence() {
            if let Some(probe) = probe_term(student, &teacher.logits, distillation.kind)? {
                distance = distance.f_add(&probe)?;
            }
        }
        Checked::add(&mut checked.distillation, &distance)?;
        let share = distillation.weight;
        if share == 1.0 {
            // Labels have no weight, and there may be none.
            return Ok(distance);
        }
        let task = self.cross_entropy(batch, &logits.class, checked)?;
        Ok(task.f_mul_scalar(1.0 - share)?.f_add(&distance.f_mul_scalar(share)?)?)
    }

    /// Returns the cross-entropy of logits and labels.
    fn cross_entropy(
        &self,
        batch: &Batch,
        logits: &Tensor,
        checked: &mut Checked,
    ) -> Result<Tensor> {
        if let Some(flag) = class_index_flag(logits, &batch.targets)? {
            Checked::add(&mut checked.classes, &flag)?;
        }
        let task = task_loss(logits, &batch.targets, self.options.training.label_smoothing)?;
        Checked::add(&mut checked.task, &task)?;
        Ok(task)
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
