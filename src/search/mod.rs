//! The search session: one loop for dense training, search and fine-tuning.
//!
//! A session over an empty space is plain training; a session whose dimensions are all decided
//! is fine-tuning. Steps, pruning, cuts, checkpoints and events live here; what they do is in
//! the modules above.

mod branch;
mod checkpoint;
mod clip;
mod cut;
mod decide;
mod dimensions;
mod event;
mod gradients;
mod guard;
mod importance;
mod log;
mod method;
mod metrics;
mod options;
mod reconstruct;
mod run;
mod session;
mod start;
mod state;
mod step;
mod trace;
mod update;

pub use branch::{write_pareto, ParetoPoint};
pub use checkpoint::{Checkpoints, Resumed};
pub use event::{
    Cut, DimensionMetrics, Event, Finished, Guarded, Listener, Losses, Phase, StepMetrics,
};
pub use method::Method;
pub use metrics::{read_events, MetricsFile};
pub use options::{
    AlphaStart, Balance, OneHotOptions, OptimiserOptions, Order, PmimOptions, Precision,
    SearchOptions,
};
pub use run::{Ending, Run};
pub use session::Session;
pub use step::{StepGradients, StepLosses};
pub use trace::TracingListener;
