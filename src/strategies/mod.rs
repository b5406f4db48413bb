//! Property checks for implementations of this crate's traits, and the random inputs they use
//! (feature `proptest`).
//!
//! | trait | check |
//! |---|---|
//! | [`Importance`](crate::components::Importance) | [`check_importance`] |
//! | [`BiMask`](crate::components::BiMask) | [`check_bi_mask`] |
//! | [`AdaptiveOneHotLoss`](crate::components::AdaptiveOneHotLoss) | [`check_one_hot_loss`] |
//! | [`PmimRegularizer`](crate::components::PmimRegularizer) | [`check_pmim_regularizer`] |
//! | [`Task`](crate::components::Task) | [`check_task`] |
//! | [`SubnetExtractor`](crate::subnet::SubnetExtractor) | [`check_extractor`] |
//!
//! A check tries every property of its trait on random inputs, and returns the smallest
//! counterexample of the first that does not hold. The inputs are [`proptest`] strategies that
//! shrink to small, readable values.
//!
//! ```
//! use once_for_both::{components::RankedBiMask, strategies::check_bi_mask};
//!
//! check_bi_mask(&RankedBiMask, 20, tch::Device::Cpu).unwrap_or_else(|found| panic!("{found}"));
//! ```
//!
//! docs/property-testing.md lists the properties and explains how to read a counterexample.

mod architectures;
mod check_bi_mask;
mod check_extractor;
mod check_importance;
mod check_one_hot_loss;
mod check_pmim;
mod check_task;
mod dimension_units;
mod importance_cases;
mod runner;

pub use architectures::{budgets, dimensions, vit_configs};
pub use check_bi_mask::{check_bi_mask, BiMaskCase, BiMaskProperty, BI_MASK_PROPERTIES};
pub use check_extractor::{
    check_extractor, decided_supernet, extractor_cases, extractor_properties, ExtractorCase,
    ExtractorProperty,
};
pub use check_importance::{check_importance, ImportanceProperty, IMPORTANCE_PROPERTIES};
pub use check_one_hot_loss::{check_one_hot_loss, OneHotProperty, ONE_HOT_PROPERTIES};
pub use check_pmim::{
    check_pmim_regularizer, images, mask_ratio_schedules, reconstructions, token_masks,
    PmimProperty, ReconstructionCase, PMIM_PROPERTIES,
};
pub use check_task::{check_task, TargetsOf, TaskCase, TaskProperty, TASK_PROPERTIES};
pub use dimension_units::{
    alphas, candidates, extreme_alphas, lambda_schedules, scores, units, units_with,
};
pub use importance_cases::{importance_cases, ImportanceCase};
pub use runner::{Counterexample, Verdict};

/// The examples of the document compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/property-testing.md")]
struct PropertyTesting;
