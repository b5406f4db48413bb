//! Properties of a task.

use super::runner::{
    drawing, expect_close, expect_finite, expect_true, failed, gradients, leaf, run,
    Counterexample, Verdict,
};
use crate::batch::{Batch, Targets};
use crate::components::{ComponentId, Task, TaskInputs, TeacherRole};
use crate::tensors::to_host;
use proptest::collection::vec;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// A property of a task in one case.
pub type TaskProperty = fn(&dyn Task, &TaskCase, Device) -> Verdict;

/// All properties, with their names.
pub const TASK_PROPERTIES: &[(&str, TaskProperty)] = &[
    ("id is equal after a round trip through JSON", id_survives_json),
    ("loss depends on its inputs only", has_no_hidden_state),
    ("loss is a finite scalar, f32, with a finite gradient in the outputs", is_finite),
    ("loss of an image does not depend on the other images", is_of_its_image),
    ("loss of a batch is the mean over its images", is_the_mean),
    ("loss with estimates has the same value, with a finite gradient", keeps_its_value),
];

/// Which targets a task is checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetsOf {
    /// Class indices below a number of classes.
    Classes(i64),
    /// Probabilities of a number of classes, which sum to 1.
    Probabilities(i64),
    /// Numbers, of this shape for an image.
    Values(&'static [i64]),
    /// None.
    Unlabelled,
}

/// Random outputs of a network and a teacher for some images, with targets.
#[derive(Debug, Clone)]
pub struct TaskCase {
    /// Shape of the outputs, `[B, …]`.
    pub shape: Vec<i64>,
    /// Outputs of the network.
    pub outputs: Vec<f64>,
    /// Outputs of the teacher.
    pub teacher: Vec<f64>,
    /// A number of [0, 1) for each image, which its target is made from.
    pub targets: Vec<f64>,
    /// Kind of the targets.
    pub kind: TargetsOf,
}

/// Checks all properties of [`TASK_PROPERTIES`] on `cases` random inputs each. `outputs`: shape of the outputs
/// of one image, such as `[classes]` or `[tokens, C]`. Reseeds libtorch's generator.
///
/// # Errors
/// The smallest counterexample found, of the first property that does not hold.
pub fn check_task(
    task: &dyn Task,
    outputs: &[i64],
    targets: TargetsOf,
    cases: u32,
    device: Device,
) -> Result<(), Counterexample> {
    for (name, property) in TASK_PROPERTIES {
        let strategy = task_cases(outputs.to_vec(), targets);
        run(name, cases, strategy, |case| property(task, &case, device))?;
    }
    Ok(())
}

/// Two to four images.
fn task_cases(outputs: Vec<i64>, kind: TargetsOf) -> impl Strategy<Value = TaskCase> {
    let count = outputs.iter().product::<i64>().max(0) as usize;
    (2..5usize).prop_flat_map(move |images| {
        let shape: Vec<i64> =
            std::iter::once(images as i64).chain(outputs.iter().copied()).collect();
        let numbers = || vec(-3.0..3.0f64, images * count);
        (numbers(), numbers(), vec(0.0..1.0f64, images)).prop_map(
            move |(outputs, teacher, targets)| {
                let shape = shape.clone();
                TaskCase { shape, outputs, teacher, targets, kind }
            },
        )
    })
}

/// The inputs of a case on a device.
struct Given {
    outputs: Tensor,
    teacher: Tensor,
    batch: Batch,
}

impl Given {
    /// The images from `first` on.
    fn new(case: &TaskCase, first: usize, count: usize, device: Device) -> crate::Result<Self> {
        let tensor = |values: &[f64]| -> crate::Result<Tensor> {
            let all = Tensor::f_from_slice(values)?.f_view(&case.shape[..])?;
            let all = all.f_to_kind(Kind::Float)?.f_to_device(device)?;
            Ok(all.f_narrow(0, first as i64, count as i64)?)
        };
        let own = &case.targets[first..first + count];
        let targets = match case.kind {
            TargetsOf::Classes(classes) => {
                let own: Vec<i64> = own.iter().map(|own| (own * classes as f64) as i64).collect();
                Targets::Classes(Tensor::f_from_slice(&own)?.f_to_device(device)?)
            }
            TargetsOf::Probabilities(classes) => {
                let row = |&own: &f64| (0..classes).map(move |class| own * class as f64);
                let rows: Vec<f64> = own.iter().flat_map(row).collect();
                let rows = Tensor::f_from_slice(&rows)?.f_view([count as i64, classes])?;
                let rows = rows.f_softmax(-1, Kind::Double)?.f_to_kind(Kind::Float)?;
                Targets::Probabilities(rows.f_to_device(device)?)
            }
            TargetsOf::Values(shape) => {
                let length = shape.iter().product::<i64>();
                let row = |&own: &f64| (0..length).map(move |at| own - 0.1 * at as f64);
                let rows: Vec<f64> = own.iter().flat_map(row).collect();
                let rows =
                    Tensor::f_from_slice(&rows)?.f_view(&[&[count as i64], shape].concat()[..])?;
                Targets::Values(rows.f_to_kind(Kind::Float)?.f_to_device(device)?)
            }
            TargetsOf::Unlabelled => Targets::Unlabelled,
        };
        let images = Tensor::f_zeros([count as i64, 3, 4, 4], (Kind::Float, device))?;
        let [outputs, teacher] = [tensor(&case.outputs)?, tensor(&case.teacher)?];
        Ok(Self { outputs, teacher, batch: Batch { images, targets } })
    }

    /// All images of a case.
    fn all(case: &TaskCase, device: Device) -> crate::Result<Self> {
        Self::new(case, 0, case.targets.len(), device)
    }

    fn inputs<'a>(&'a self, task: &dyn Task, outputs: &'a Tensor) -> TaskInputs<'a> {
        let inputs = TaskInputs::new(outputs, &self.batch);
        match task.teacher() {
            TeacherRole::Target => inputs.with_teacher(&self.teacher),
            TeacherRole::Distils | TeacherRole::Unused => inputs,
        }
    }

    fn loss(&self, task: &dyn Task) -> crate::Result<Vec<f64>> {
        to_host(&task.loss(&self.inputs(task, &self.outputs))?)
    }

    /// Loss of each image; `None` for a task that has only that of a batch.
    fn losses(&self, task: &dyn Task) -> crate::Result<Option<Vec<f64>>> {
        let inputs = self.inputs(task, &self.outputs);
        match task.losses(&inputs) {
            Err(crate::Error::Shape { .. }) if task.loss(&inputs)?.dim() == 0 => Ok(None),
            losses => to_host(&losses?).map(Some),
        }
    }
}

/// Returns the losses of the images, each alone in a batch.
fn losses_alone(task: &dyn Task, case: &TaskCase, device: Device) -> crate::Result<Vec<f64>> {
    let mut alone = Vec::new();
    for image in 0..case.targets.len() {
        let given = Given::new(case, image, 1, device)?;
        alone.extend(given.losses(task)?.map_or_else(|| given.loss(task), Ok)?);
    }
    Ok(alone)
}

fn rounding(expected: f64) -> f64 {
    1e-5 * (1.0 + expected.abs())
}

/// A checkpoint stores the id as JSON; a search resumes only with an equal one. NaN and infinite
/// parameters become null.
pub fn id_survives_json(task: &dyn Task, _: &TaskCase, _: Device) -> Verdict {
    task.check().map_err(failed)?;
    let id = task.id();
    let read = serde_json::to_string(&id)
        .and_then(|text| serde_json::from_str::<ComponentId>(&text))
        .map_err(|error| TestCaseError::fail(format!("id {id}: {error}")))?;
    let null = id.parameters.iter().find(|(_, value)| value.is_null());
    let reason = || format!("parameter {:?} of the id: got null", null.map(|(name, _)| name));
    expect_true(null.is_none(), reason)?;
    expect_true(read == id, || format!("id: got {read} from JSON, expected {id}"))
}

/// The loss is a finite scalar, f32, on the device of the outputs, with a finite gradient in them.
pub fn is_finite(task: &dyn Task, case: &TaskCase, device: Device) -> Verdict {
    let compute = || {
        let given = Given::all(case, device)?;
        let outputs = leaf(&given.outputs)?;
        let loss = task.loss(&given.inputs(task, &outputs))?;
        let gradient = to_host(&gradients(&loss, &[&outputs])?[0])?;
        Ok::<_, crate::Error>((loss, outputs.device(), gradient))
    };
    let (loss, device, gradient) = compute().map_err(failed)?;
    let found = (loss.size(), loss.kind(), loss.device());
    let expected = (Vec::new(), Kind::Float, device);
    expect_true(found == expected, || format!("loss: got {found:?}, expected {expected:?}"))?;
    expect_true(loss.requires_grad(), || "loss: got no gradient in the outputs".into())?;
    expect_finite("loss", &to_host(&loss).map_err(failed)?)?;
    expect_finite("gradient of output", &gradient)
}

/// The loss of each image is that of the image alone. For a task that has only the loss of a batch, [`is_the_mean`]
/// checks it.
pub fn is_of_its_image(task: &dyn Task, case: &TaskCase, device: Device) -> Verdict {
    let compute = || {
        let Some(together) = Given::all(case, device)?.losses(task)? else { return Ok(None) };
        Ok::<_, crate::Error>(Some((together, losses_alone(task, case, device)?)))
    };
    let Some((together, alone)) = compute().map_err(failed)? else { return Ok(()) };
    expect_close("loss of image", &together, &alone, rounding)
}

/// The loss of a batch is the mean of those of its images. Accumulated batches and processes are averaged
/// so.
pub fn is_the_mean(task: &dyn Task, case: &TaskCase, device: Device) -> Verdict {
    let compute = || {
        let given = Given::all(case, device)?;
        let losses = given.losses(task)?.map_or_else(|| losses_alone(task, case, device), Ok)?;
        Ok::<_, crate::Error>((given.loss(task)?, losses))
    };
    let (loss, losses) = compute().map_err(failed)?;
    let mean = losses.iter().sum::<f64>() / case.targets.len() as f64;
    expect_close("loss", &loss, &[mean], rounding)
}

/// While the gradient is evidence for decisions ([`TaskInputs::estimates`]), the loss has the same value and a finite
/// gradient in the outputs.
pub fn keeps_its_value(task: &dyn Task, case: &TaskCase, device: Device) -> Verdict {
    let compute = || {
        let given = Given::all(case, device)?;
        let outputs = leaf(&given.outputs)?;
        let inputs = TaskInputs { estimates: true, ..given.inputs(task, &outputs) };
        let loss = drawing(|| {
            crate::randomness::seed(0);
            task.loss(&inputs)
        })?;
        let gradient = to_host(&gradients(&loss, &[&outputs])?[0])?;
        Ok::<_, crate::Error>((to_host(&loss)?, given.loss(task)?, gradient))
    };
    let (found, expected, gradient) = compute().map_err(failed)?;
    expect_close("loss with estimates", &found, &expected, rounding)?;
    expect_finite("gradient of output with estimates", &gradient)
}

/// A second call has the same loss, and changes neither outputs nor targets.
pub fn has_no_hidden_state(task: &dyn Task, case: &TaskCase, device: Device) -> Verdict {
    let numbers = |given: &Given| -> crate::Result<Vec<f64>> {
        let mut all = to_host(&given.outputs)?;
        all.extend(to_host(&given.teacher)?);
        match &given.batch.targets {
            Targets::Classes(own) | Targets::Probabilities(own) | Targets::Values(own) => {
                all.extend(to_host(own)?);
            }
            Targets::Unlabelled => {}
        }
        Ok(all)
    };
    let compute = || {
        let given = Given::all(case, device)?;
        let before = numbers(&given)?;
        let losses = [given.loss(task)?, given.loss(task)?];
        Ok::<_, crate::Error>((before, numbers(&given)?, losses))
    };
    let (before, after, [first, second]) = compute().map_err(failed)?;
    expect_close("loss of the second call", &second, &first, |_| 0.0)?;
    expect_close("input", &after, &before, |_| 0.0)
}
