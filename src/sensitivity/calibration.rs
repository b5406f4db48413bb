//! Calibration batches with a loss, and measurements on them.

use super::{CandidateSensitivity, DimensionSensitivity, Rise, Sensitivity};
use crate::batch::{check_images, Batch, Targets};
use crate::components::{Classification, Task, TaskInputs, TeacherRole};
use crate::error::{expect_shape, During};
use crate::models::Architecture;
use crate::space::{Size, Sizes};
use crate::supernet::{DimensionState, Supernet};
use crate::tensors::to_host;
use crate::{Error, Result};
use tch::{Device, Tensor};

/// Outputs of the network on one calibration batch, which the loss is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    /// Number of the batch, from 0.
    pub batch: usize,
    /// Output of the pruned network, `[B, …]`: its logits.
    pub logits: &'a Tensor,
    /// Output of the network before pruning, `[B, …]`: the target of a loss without labels.
    pub reference: &'a Tensor,
}

/// State of a measurement in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Dimension whose candidates are measured.
    pub dimension: &'a str,
    /// Passes over the calibration batches done.
    pub done: usize,
    /// Passes in all: one for the network before pruning, and one a candidate.
    pub passes: usize,
}

type Loss<'a> = Box<dyn FnMut(Outputs) -> Result<Tensor> + 'a>;
type OnProgress<'a> = Box<dyn FnMut(Progress) -> Result<()> + 'a>;

/// Calibration batches with a loss.
pub struct Calibration<'a> {
    images: Vec<&'a Tensor>,
    targets: Vec<&'a Batch>,
    loss: Loss<'a>,
    progress: OnProgress<'a>,
    task: Option<&'a dyn Task>,
}

impl std::fmt::Debug for Calibration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calibration").field("images", &self.images).finish_non_exhaustive()
    }
}

impl<'a> Calibration<'a> {
    /// Returns a calibration by the cross-entropy of these batches.
    pub fn cross_entropy(batches: &'a [Batch]) -> Self {
        Self::task(batches, &Classification)
    }

    /// Returns a calibration by the loss of a task on these batches. The teacher of a task whose target is
    /// one's outputs ([`TeacherRole::Target`]) is the network before pruning.
    pub fn task(batches: &'a [Batch], task: &'a dyn Task) -> Self {
        let loss = move |outputs: Outputs| {
            let Batch { images, targets } = &batches[outputs.batch];
            let targets = match targets {
                // On the host, where class indices are checked.
                Targets::Classes(classes) => Targets::Classes(classes.f_to_device(Device::Cpu)?),
                Targets::Probabilities(own) => Targets::Probabilities(own.shallow_clone()),
                Targets::Values(values) => Targets::Values(values.shallow_clone()),
                Targets::Unlabelled => Targets::Unlabelled,
            };
            let batch = Batch { images: images.shallow_clone(), targets };
            let inputs = TaskInputs::new(outputs.logits, &batch);
            task.losses(&match task.teacher() {
                TeacherRole::Target => inputs.with_teacher(outputs.reference),
                TeacherRole::Distils | TeacherRole::Unused => inputs,
            })
        };
        let images = batches.iter().map(|batch| &batch.images).collect();
        Self { targets: batches.iter().collect(), task: Some(task), ..Self::of(images, loss) }
    }

    /// Returns a calibration by a loss of one's own, with or without labels: a function from the
    /// [`Outputs`] of one batch to one loss an image.
    ///
    /// ```no_run
    /// # use once_for_both::{sensitivity::Calibration, Result};
    /// # fn features(images: &[tch::Tensor]) -> Result<()> {
    /// // Without labels: 1 − cosine to the features before pruning.
    /// let calibration = Calibration::with(images, |outputs| {
    ///     let cosine = tch::Tensor::f_cosine_similarity(outputs.logits, outputs.reference, 1, 1e-8)?;
    ///     Ok(cosine.f_neg()?.f_add_scalar(1.0)?)
    /// });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]` each, f32, on the device of the network. Result of `loss`: `[B]`.
    pub fn with(images: &'a [Tensor], loss: impl FnMut(Outputs) -> Result<Tensor> + 'a) -> Self {
        Self::of(images.iter().collect(), loss)
    }

    fn of(images: Vec<&'a Tensor>, loss: impl FnMut(Outputs) -> Result<Tensor> + 'a) -> Self {
        let progress = Box::new(|_: Progress| Ok(()));
        Self { images, targets: Vec::new(), loss: Box::new(loss), progress, task: None }
    }

    /// Calls `progress` before every pass over the batches; an error of it ends the measurement.
    pub fn on_progress(mut self, progress: impl FnMut(Progress) -> Result<()> + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Measures the rise of the loss at every candidate of every dimension that is still possible,
    /// each dimension pruned alone, in one pass over the batches a candidate.
    ///
    /// The network measured is that of the last [`Supernet::materialise`]; of a search, it is given by
    /// [`Search::evaluate`](crate::search::Search::evaluate). The most important units by its scores
    /// are kept, and nothing else differs from it. θ, scores and α stay as they are, and the network's
    /// variables have their values again. Embeddings are measured on networks built at their
    /// candidate sizes, because norms run over them; these draw from libtorch's generator, which a
    /// search seeds anew at every step.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming dimension and size if a loss is not finite; [`Error::Invalid`]
    /// without batches, with fewer than two images, for batches that do not fit the network, or while
    /// gates fade out; [`Error::Shape`] unless there is one loss an image; those of network, loss and
    /// progress.
    pub fn measure<A: Architecture>(&mut self, supernet: &Supernet<A>) -> Result<Sensitivity> {
        let states = supernet.states();
        let possible: Vec<Vec<Size>> = states.iter().map(possible_sizes).collect();
        let cuts = possible.iter().zip(states).flat_map(|(sizes, state)| {
            sizes.iter().filter(|size| **size != state.candidates().full())
        });
        let passes = 1 + cuts.count();
        let name = states.first().map_or("", |state| &state.name);
        (self.progress)(Progress { dimension: name, done: 0, passes })?;
        let before = self.before(supernet)?;
        let mut done = 1;
        let mut dimensions = Vec::new();
        for (at, (state, sizes)) in states.iter().zip(&possible).enumerate() {
            let mut candidates = Vec::new();
            for &size in sizes {
                let rise = if size == state.candidates().full() {
                    Rise::default()
                } else {
                    (self.progress)(Progress { dimension: &state.name, done, passes })?;
                    done += 1;
                    self.rise_at(supernet, &[(at, size)], &before)?
                };
                candidates.push(CandidateSensitivity { size, rise });
            }
            let (name, size) = (state.name.clone(), state.candidates().full());
            let kind = supernet.space().dimensions[at].kind;
            dimensions.push(DimensionSensitivity { name, kind, size, candidates });
        }
        let Rise { mean: loss, standard_error } = mean(&before.losses);
        Ok(Sensitivity { images: before.losses.len(), loss, standard_error, dimensions })
    }

    /// Measures the rise of the loss with several dimensions pruned at once; dimensions that are not
    /// in `sizes` keep their size. What a [`Forecast`](super::Forecast) is checked against.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a dimension that the search space does not have; those of
    /// [`measure`](Self::measure).
    pub fn rise<A: Architecture>(&mut self, supernet: &Supernet<A>, sizes: &Sizes) -> Result<Rise> {
        let states = supernet.states();
        let at = |name: &String| {
            let found = states.iter().position(|state| state.name == *name);
            let known = || states.iter().map(|state| &state.name);
            found.ok_or_else(|| Error::unknown("dimension", name, known()))
        };
        let sizes = sizes.iter().map(|(name, size)| Ok((at(name)?, *size)));
        let sizes: Vec<(usize, Size)> = sizes.collect::<Result<_>>()?;
        let before = self.before(supernet)?;
        self.rise_at(supernet, &sizes, &before)
    }

    /// Checks the batches, and returns outputs and losses of the network before pruning.
    fn before<A: Architecture>(&mut self, supernet: &Supernet<A>) -> Result<Before> {
        self.check(supernet.device())?;
        if let (Some(task), Some(tokens)) = (self.task, supernet.architecture().output_tokens()) {
            task.check_tokens(tokens)?;
        }
        let outputs = self.images.iter().map(|images| supernet.network_logits(images));
        let outputs: Vec<Tensor> = outputs.collect::<Result<_>>()?;
        let mut losses = Vec::new();
        for (batch, logits) in outputs.iter().enumerate() {
            losses.extend(self.losses(Outputs { batch, logits, reference: logits })?);
        }
        expect_finite(&losses, || "the network before pruning".into())?;
        Ok(Before { outputs, losses })
    }

    /// Returns the rise of the loss with dimensions pruned to sizes, as (index, size).
    fn rise_at<A: Architecture>(
        &mut self,
        supernet: &Supernet<A>,
        sizes: &[(usize, Size)],
        before: &Before,
    ) -> Result<Rise> {
        let name = |&(at, size): &(usize, Size)| {
            format!("{} pruned to {size}", supernet.states()[at].name)
        };
        let words = || sizes.iter().map(name).collect::<Vec<_>>().join(", ");
        let losses = supernet.with_pruned(sizes, |network| {
            let mut losses = Vec::new();
            for (batch, (images, reference)) in
                self.images.clone().into_iter().zip(&before.outputs).enumerate()
            {
                let logits = &network(images)?;
                losses.extend(self.losses(Outputs { batch, logits, reference })?);
            }
            Ok(losses)
        });
        let losses = losses.during(format!("measuring {}", words()))?;
        expect_finite(&losses, words)?;
        let rises = losses.iter().zip(&before.losses).map(|(after, before)| after - before);
        Ok(mean(&rises.collect::<Vec<_>>()))
    }

    /// Returns the losses of one batch, one an image.
    fn losses(&mut self, outputs: Outputs) -> Result<Vec<f64>> {
        let images = self.images[outputs.batch].size()[0];
        let losses = crate::autograd::no_grad(|| (self.loss)(outputs))?;
        expect_shape("calibration loss", "losses of a batch, one an image", &losses, &[images])?;
        to_host(&losses)
    }

    fn check(&self, device: Device) -> Result<()> {
        if self.images.is_empty() {
            return Err(Error::invalid("number of calibration batches", "at least one", 0));
        }
        self.targets.iter().try_for_each(|batch| batch.check(device))?;
        let mut images = 0;
        for own in &self.images {
            check_images(own, device)?;
            images += own.size().first().copied().unwrap_or(0);
        }
        if images < 2 {
            let expected = "at least 2, for a standard error";
            return Err(Error::invalid("number of calibration images", expected, images));
        }
        Ok(())
    }
}

/// Outputs, by batch, and losses, by image, of the network before pruning.
struct Before {
    outputs: Vec<Tensor>,
    losses: Vec<f64>,
}

/// Returns the sizes of the candidates of a dimension that are still possible.
fn possible_sizes(state: &DimensionState) -> Vec<Size> {
    let possible = state.possible_candidates().into_iter();
    possible.map(|candidate| state.candidates().size(candidate)).collect()
}

fn expect_finite(losses: &[f64], of: impl Fn() -> String) -> Result<()> {
    match losses.iter().all(|loss| loss.is_finite()) {
        true => Ok(()),
        false => Err(Error::NonFinite { name: "calibration loss".into(), dimension: of() }),
    }
}

/// Mean and its standard error.
fn mean(values: &[f64]) -> Rise {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Rise { mean, standard_error: (squares / (count - 1.0) / count).sqrt() }
}
