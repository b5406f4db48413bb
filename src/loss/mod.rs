//! What a search minimises beside the task: the decision, and the budget.

mod budget;
mod distillation;
mod one_hot;
mod task;

pub use budget::BudgetLoss;
pub use distillation::{distillation_loss, Distillation, DistillationKind, Teacher};
pub use one_hot::{AdaptiveOneHotLoss, EntropyVarianceLoss};
pub use task::{task_loss, Targets};
