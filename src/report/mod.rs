//! Reports of a run: an HTML page, TensorBoard event files, measured latency.
//!
//! [`Report`] holds what is known of a run, finished or not, and renders it as one self-contained
//! HTML page; docs/report.md says how to read it. [`TensorBoard`] is a
//! [`Listener`](crate::search::Listener) that writes scalars while a run goes on.

mod architecture;
mod chart;
mod cost_chart;
mod curves;
mod entropy;
mod event_tables;
mod format;
mod html;
mod kept;
mod latency_bars;
mod latency_profile;
mod network_figures;
mod page;
mod sample;
mod scale;
mod sensitivity;
mod series;
mod stage;
mod summary;
mod svg;
mod tensorboard;

pub use network_figures::{BlockSizes, NetworkFigures, StageSizes};
pub use page::Report;
pub use sample::Sample;
pub use stage::Stage;
pub use tensorboard::TensorBoard;

/// Compiles and runs the examples of docs/report.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/report.md")]
struct ReportDocument;
