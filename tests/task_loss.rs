//! The task loss against a sum in f64.

mod support;

use once_for_both::batch::Targets;
use once_for_both::components::task_loss;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{from_numbers, in_words, softmax, test_device, Tolerance};
use tch::Tensor;

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
            let found = task_loss(&tensor, &targets, smoothing)?;
            in_words(close.check_against("task loss", &found, &[expected]))?;
        }
    }
}
