//! What a run is told by: a page to look at, files for TensorBoard, measured latency.
//!
//! [`Report`] is plain data that becomes one self-contained HTML page, of a finished run or of one
//! that is under way; docs/report.md says how to read it.

mod accuracy;
mod architecture;
mod budget;
mod chart;
mod format;
mod head;
mod html;
mod incidents;
mod losses;
mod network;
mod page;
mod progress;
mod render;
mod sample;
mod scale;
mod schedules;
mod series;
mod speed;
mod svg;
mod tensorboard;
mod uncertainty;

pub use crate::latency::{compare_latency, median, Latency};
pub use network::{BlockSizes, NetworkFigures};
pub use page::Report;
pub use progress::Stage;
pub use sample::Sample;
pub use tensorboard::TensorBoard;

/// The examples of the document compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/report.md")]
struct ReportDocument;
