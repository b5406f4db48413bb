//! How units are weighed: importance and sparsity, entangled into one number per unit.
//!
//! m = λ·S + (1−λ)·V, with S = σ(score) the importance of a unit and V the probability that a unit
//! of this rank survives (paper section 3.2; design 2.1 and 2.2). Where scores come from is an
//! [`Importance`]; what is made of them, a [`BiMask`].

mod bi_mask;
mod importance;
mod lambda;
mod magnitude;
mod rank;

pub(crate) use bi_mask::expect_finite;
pub use bi_mask::{survival_by_rank, BiMask, Mask, RankedBiMask, UnitState};
pub use importance::{Importance, Observation, UnitImportance};
pub(crate) use lambda::check_lambda;
pub use lambda::LambdaSchedule;
pub use magnitude::magnitude;
pub use rank::{head_ranks, most_important, ranks};
