//! The search: one optimiser step after the other, decisions, pruning, checkpoints and events.
//!
//! Read in this order: `builder` (what a search is made of), `init` (its first scores and α),
//! `step` and `gradients` (one optimiser step), `update` (clipping, AdamW, EMA), `decide`
//! (candidates dropped, sizes decided), `prune` (gate fade-out, units removed), `extract` (the
//! subnet). `snapshot`, `consistency`, `resume`, `checkpoint` and `resume_run` write, check and read the
//! state, `run` trains in a
//! folder.

mod branch;
#[cfg(feature = "distributed")]
mod buckets;
mod buffers;
mod builder;
mod checkpoint;
mod consistency;
mod decide;
mod differences;
mod estimated_loss;
mod evaluate;
mod events;
mod evidence;
mod extract;
mod feasible;
mod finite;
mod flat_gradients;
mod gradients;
mod init;
mod latency;
mod latency_check;
mod listeners;
mod log;
mod model_gradients;
mod options;
mod prune;
mod ranks;
mod readout;
mod replicate;
mod resume;
mod resume_run;
mod rollback;
mod rounds;
mod run;
mod snapshot;
mod step;
mod step_timer;
mod stored_tensors;
mod teaching;
mod update;

pub use branch::{write_pareto, ParetoPoint};
pub use builder::SearchBuilder;
pub use checkpoint::{Checkpoints, Resumed};
#[cfg(feature = "pipeline")]
pub(crate) use checkpoint::{CHECKPOINT, CHECKPOINTS};
#[cfg(feature = "pipeline")]
pub(crate) use events::number;
pub use events::{
    DimensionMetrics, Event, Finished, Listener, Losses, NonFiniteAction, Phase, Pruned,
    StepMetrics,
};
pub use gradients::{StepGradients, StepLosses};
pub use latency_check::{LatencyCheck, LatencyOutcome};
pub use listeners::{read_events, MetricsFile, TracingListener};
pub use options::{
    AlphaInit, Balance, BudgetOptions, Decisions, InitOptions, OneHotOptions, OptimiserOptions,
    PmimOptions, PmimReach, PruningOptions, SearchOptions, Stages, TrainingOptions,
};
#[cfg(feature = "pipeline")]
pub(crate) use replicate::expect_alike;
#[cfg(feature = "pipeline")]
pub(crate) use run::expect_run;
pub use run::{Outcome, Run, METRICS};
pub use step::Search;
