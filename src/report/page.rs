//! What goes into a report.

use super::network::NetworkFigures;
use super::progress::Stage;
use super::sample::Sample;
use crate::cost::CostLimit;
use crate::subnet::LatencyComparison;

/// What is known of a run, finished or not, as one HTML page.
///
/// Everything may be left empty: the page shows what there is. It is a single file that fetches
/// nothing.
///
/// ```
/// use once_for_both::report::{NetworkFigures, Report, Stage};
/// # use once_for_both::{models::VitConfig, search::Event};
/// # fn main() -> once_for_both::Result<()> {
/// let search = Stage { name: "search".into(), steps: Some(300), events: Vec::new() };
/// let report = Report {
///     title: "DeiT-S".into(),
///     stages: vec![search],
///     dense: Some(NetworkFigures::of(&VitConfig::deit_small())?),
///     ..Report::default()
/// };
/// assert!(report.html()?.contains("DeiT-S"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// What was compressed, on what.
    pub title: String,
    /// What else to know of the run, by name: data set, seed, device…
    pub facts: Vec<(String, String)>,
    /// The sessions of the run, in order.
    pub stages: Vec<Stage>,
    /// The given network.
    pub dense: Option<NetworkFigures>,
    /// The extracted network; none as long as the search goes on.
    pub subnet: Option<NetworkFigures>,
    /// What the subnet may cost.
    pub budgets: Vec<CostLimit>,
    /// Measured times of both networks.
    pub latency: Vec<LatencyComparison>,
    /// What was painted into hidden patches.
    pub samples: Vec<Sample>,
    /// The resolved options, as text.
    pub config: String,
}
