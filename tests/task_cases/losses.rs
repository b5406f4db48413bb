//! Losses against sums in f64.

use super::{contrastive, invalid, texts, TEXTS, WIDTH};
use crate::support::tiny_run::alone;
use crate::support::{
    cases_on_device, from_numbers, in_words, numbers, softmax, test_device, TestResult, Tolerance,
};
use once_for_both::batch::{Batch, Targets};
use once_for_both::components::{
    cross_entropy, Classification, ComponentId, ContrastiveLoss, FeatureMatching, FunctionTask,
    Task, TaskInputs,
};
use once_for_both::strategies::{check_task, TargetsOf, TASK_PROPERTIES};
use proptest::collection::vec;
use proptest::prelude::*;
use tch::{Kind, Reduction, Tensor};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn task_loss_of_hard_and_soft_targets_is_the_mean_cross_entropy(
        logits in vec(-3.0..3.0f64, 8),
        classes in [0..4i64, 0..4i64],
        smoothing in 0.0..0.5f64,
    ) {
        let tensor = in_words(from_numbers(&logits, &[2, 4]))?;
        let smooth = |class: i64, other: i64| {
            smoothing / 4.0 + if class == other { 1.0 - smoothing } else { 0.0 }
        };
        let targets: Vec<f64> =
            classes.iter().flat_map(|&class| (0..4).map(move |other| smooth(class, other))).collect();
        let all = [true; 4];
        let log_p = logits.chunks(4).flat_map(|row| softmax(row, &all)).map(f64::ln);
        let expected = -log_p.zip(&targets).map(|(log_p, t)| log_p * t).sum::<f64>() / 2.0;
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        let hard = Targets::Classes(Tensor::from_slice(&classes).to_device(test_device()));
        let soft = Targets::Probabilities(in_words(from_numbers(&targets, &[2, 4]))?);
        for (targets, smoothing) in [(hard, smoothing), (soft, 0.0)] {
            let found = cross_entropy(&tensor, &targets, smoothing, Reduction::Mean)?;
            in_words(close.check_against("task loss", &found, &[expected]))?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn contrastive_losses_equal_their_definitions(
        features in vec(-3.0..3.0f64, 2 * WIDTH as usize),
        classes in [0..TEXTS, 0..TEXTS],
    ) {
        let texts = in_words(numbers(&in_words(texts())?))?;
        let unit = |row: &[f64]| {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(|x| x / norm).collect::<Vec<_>>()
        };
        let dot = |l: &[f64], r: &[f64]| l.iter().zip(r).map(|(l, r)| l * r).sum::<f64>();
        let rows = features.chunks(WIDTH as usize).map(unit);
        // Cosines / 0.5.
        let logits: Vec<Vec<f64>> = rows
            .map(|row| texts.chunks(WIDTH as usize).map(|t| dot(&row, &unit(t)) / 0.5).collect())
            .collect();
        let all = [true; TEXTS as usize];
        let soft = |at: usize| -softmax(&logits[at], &all)[classes[at] as usize].ln();
        let bias = -1.5;
        let sigmoid = |at: usize| {
            let pair = |(text, z): (usize, &f64)| {
                let sign = if text as i64 == classes[at] { 1.0 } else { -1.0 };
                (1.0 + (-sign * (z + bias)).exp()).ln()
            };
            logits[at].iter().enumerate().map(pair).sum::<f64>()
        };
        let outputs = in_words(from_numbers(&features, &[2, WIDTH]))?;
        let images = Tensor::zeros([2, 3, 4, 4], (Kind::Float, test_device()));
        let targets = Tensor::from_slice(&classes).to_device(test_device());
        let batch = Batch::classes(images, targets);
        let close = Tolerance { relative: 1e-4, absolute: 1e-5 };
        let inputs = TaskInputs::new(&outputs, &batch);
        for (loss, expected) in [
            (ContrastiveLoss::Softmax, [soft(0), soft(1)]),
            (ContrastiveLoss::Sigmoid { bias }, [sigmoid(0), sigmoid(1)]),
        ] {
            let found = in_words(contrastive(loss))?.losses(&inputs)?;
            in_words(close.check_against("contrastive loss", &found, &expected))?;
        }
    }
}

#[test]
fn check_task_of_every_ready_task_passes() -> TestResult {
    let _alone = alone();
    let (cases, device) = (cases_on_device(60), test_device());
    for targets in [TargetsOf::Classes(TEXTS), TargetsOf::Probabilities(TEXTS)] {
        check_task(&Classification, &[TEXTS], targets, cases, device)?;
        for loss in [ContrastiveLoss::Softmax, ContrastiveLoss::Sigmoid { bias: -2.0 }] {
            check_task(&contrastive(loss)?, &[WIDTH], targets, cases, device)?;
        }
    }
    for (outputs, class_token) in [(vec![4, 3], true), (vec![4, 3], false), (vec![3], true)] {
        let task = FeatureMatching { class_token, ..FeatureMatching::default() };
        check_task(&task, &outputs, TargetsOf::Unlabelled, cases, device)?;
    }
    Ok(())
}

/// A regression, with a loss an image, or the mean alone.
#[test]
fn check_task_of_a_function_of_values_passes() -> TestResult {
    let _alone = alone();
    for mean in [false, true] {
        let task = FunctionTask::new("regression", move |inputs| {
            let Targets::Values(values) = &inputs.batch.targets else {
                return Err(invalid("targets"));
            };
            let squares = inputs.outputs.f_sub(values)?.f_square()?;
            let losses = squares.f_mean_dim([1i64].as_slice(), false, Kind::Float)?;
            Ok(if mean { losses.f_mean(None)? } else { losses })
        });
        check_task(&task, &[3], TargetsOf::Values(&[3]), cases_on_device(60), test_device())?;
    }
    Ok(())
}

#[test]
fn check_task_of_a_task_with_a_mistake_names_the_property() -> TestResult {
    let _alone = alone();
    type Loss = fn(&TaskInputs) -> once_for_both::Result<Tensor>;
    let mistakes: [(&str, Loss); 5] = [
        ("other images", |inputs| {
            // Compared with the mean of the batch.
            let mean = inputs.outputs.f_mean_dim([0i64].as_slice(), true, Kind::Float)?;
            let squares = inputs.outputs.f_sub(&mean)?.f_square()?;
            Ok(squares.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?)
        }),
        ("finite gradient", |inputs| {
            let squares = inputs.outputs.f_detach()?.f_square()?;
            Ok(squares.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?)
        }),
        ("inputs only", |inputs| {
            let losses = inputs.outputs.f_select(1, 0)?;
            let _ = inputs.outputs.f_detach()?.f_add_scalar_(1.0)?;
            Ok(losses.f_mul_scalar(1.0)?)
        }),
        ("mean over its images", |inputs| Ok(inputs.outputs.f_square()?.f_sum(None)?)),
        ("with estimates", |inputs| {
            let losses = inputs.outputs.f_select(1, 0)?.f_square()?;
            Ok(losses.f_add_scalar(if inputs.estimates { 1.0 } else { 0.0 })?)
        }),
    ];
    let mut broken = Vec::new();
    for (expected, loss) in mistakes {
        let task = FunctionTask::new("wrong", loss);
        let found = check_task(&task, &[3], TargetsOf::Unlabelled, 20, test_device());
        let found = found.err().ok_or(format!("{expected}: no counterexample"))?;
        assert!(found.property.contains(expected), "{expected}: {found}");
        broken.push(found.property);
    }
    let nan = FunctionTask::new(ComponentId::new("nan").with("margin", f64::NAN), |inputs| {
        Ok(inputs.outputs.f_select(1, 0)?)
    });
    let found = check_task(&nan, &[3], TargetsOf::Unlabelled, 5, test_device());
    let found = found.err().ok_or("no counterexample")?;
    assert!(found.property.contains("JSON"));
    broken.push(found.property);
    let found = check_task(&Summed, &[3], TargetsOf::Unlabelled, 20, test_device());
    let found = found.err().ok_or("no counterexample")?;
    assert!(found.property.contains("mean over its images"), "{found}");
    broken.push(found.property);
    for (property, _) in TASK_PROPERTIES {
        assert!(broken.contains(property), "no task breaks {property}");
    }
    Ok(())
}

/// Its loss of a batch is the sum of those of the images.
#[derive(Debug)]
struct Summed;

impl Task for Summed {
    fn id(&self) -> ComponentId {
        ComponentId::new("summed")
    }

    fn losses(&self, inputs: &TaskInputs) -> once_for_both::Result<Tensor> {
        Ok(inputs.outputs.f_select(1, 0)?)
    }

    fn loss(&self, inputs: &TaskInputs) -> once_for_both::Result<Tensor> {
        Ok(self.losses(inputs)?.f_sum(Kind::Float)?)
    }
}
