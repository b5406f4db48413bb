//! Replaceable parts of the method, and its losses.
//!
//! | component | trait | in the paper | ready implementation |
//! |---|---|---|---|
//! | importance score | [`Importance`] | learned by gradient | [`UnitImportance`] |
//! | bi-mask m = λ·S + (1−λ)·V | [`BiMask`] | section 3.2, eq. 5 | [`RankedBiMask`] |
//! | adaptive one-hot loss | [`AdaptiveOneHotLoss`] | section 3.3, eq. 8 | [`EntropyVarianceLoss`] |
//! | masked image modeling (PMIM) | [`PmimRegularizer`] | section 3.4 | [`WindowedPixels`] |
//! | task | [`Task`] | cross-entropy | [`Classification`], [`FeatureMatching`], [`Contrastive`], [`FunctionTask`] |
//! | distillation teacher | [`Teacher`] | none | [`SubnetTeacher`](crate::subnet::SubnetTeacher) |
//!
//! Each works on plain tensors without a search. [`Components`] holds one of each. The total loss
//! of a search step is
//!
//! task + w_rec·reconstruction + weight·Σ_dimensions one-hot + budget,
//!
//! with [`Task::loss`] (mixed with [`distillation_loss`] and [`feature_loss`]), [`PmimRegularizer::loss`], [`AdaptiveOneHotLoss::loss`] and [`BudgetLoss`]
//! (eq. 9). w_rec = task / reconstruction, a constant to autograd.

mod bi_mask;
mod budget_loss;
mod distillation;
mod id;
mod importance;
mod magnitude;
mod one_hot;
mod pmim;
mod rank;
mod ranked_bi_mask;
mod set;
mod task;

pub(crate) use bi_mask::check_lambda;
pub(crate) use bi_mask::expect_finite;
pub use bi_mask::{BiMask, Mask, UnitState};
pub use budget_loss::BudgetLoss;
pub use distillation::{
    distillation_loss, feature_loss, Distillation, DistillationKind, Teacher, TeacherOutputs,
    TeacherSource,
};
pub(crate) use distillation::{drawn_classes, feature_distance};
pub use id::ComponentId;
pub use importance::{Importance, Observation, UnitImportance};
pub use magnitude::magnitude;
pub use one_hot::{AdaptiveOneHotLoss, EntropyVarianceLoss};
pub(crate) use pmim::seeded_token_mask;
pub use pmim::{
    masked_pixels, random_token_mask, MaskedTokens, PixelDecoder, PmimRegularizer, Reconstruction,
    WindowNorm, WindowedPixels,
};
pub use rank::{head_ranks, most_important, ranks};
pub use ranked_bi_mask::{survival_by_rank, RankedBiMask};
pub(crate) use set::lock_teacher;
pub use set::{ComponentIds, Components};
pub(crate) use task::batch_loss;
pub use task::{
    cross_entropy, relative_error, Classification, Contrastive, ContrastiveLoss, FeatureMatching,
    FunctionTask, Task, TaskInputs, TeacherRole,
};
