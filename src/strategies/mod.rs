//! Property testing for whoever replaces a part of the method (feature `proptest`).
//!
//! Two things: strategies that make everything the method works on, written so that they shrink
//! to something a person can read, and the properties that an implementation of
//! [`BiMask`](crate::components::BiMask), [`AdaptiveOneHotLoss`](crate::components::AdaptiveOneHotLoss) or
//! [`PmimRegularizer`](crate::components::PmimRegularizer) has to have. [`check_bi_mask`],
//! [`check_one_hot_loss`] and [`check_pmim_regularizer`] try all of them on random input and come
//! back with the smallest counterexample.
//!
//! ```
//! use once_for_both::{mask::RankedBiMask, strategies::check_bi_mask};
//!
//! check_bi_mask(&RankedBiMask, 20, tch::Device::Cpu).unwrap_or_else(|broken| panic!("{broken}"));
//! ```
//!
//! docs/property-testing.md walks through a mask that is wrong.

mod bi_mask;
mod checks;
mod one_hot;
mod pmim;
mod spaces;
mod units;

pub use bi_mask::{check_bi_mask, BiMaskCase, BiMaskProperty, BI_MASK_PROPERTIES};
pub use checks::{Counterexample, Verdict};
pub use one_hot::{check_one_hot_loss, OneHotProperty, ONE_HOT_PROPERTIES};
pub use pmim::{
    check_pmim_regularizer, images, mask_ratio_schedules, reconstructions, token_masks,
    PmimProperty, ReconstructionCase, PMIM_PROPERTIES,
};
pub use spaces::{budgets, dimensions, vit_configs};
pub use units::{alphas, candidates, extreme_alphas, lambda_schedules, scores, units, units_with};

/// The walk-through compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/property-testing.md")]
struct PropertyTesting;
