//! The report of a run, and its HTML page.

use super::network_figures::NetworkFigures;
use super::sample::{self, Sample};
use super::stage::Stage;
use super::{
    architecture, cost_chart, curves, entropy, event_tables, html, latency_bars, latency_profile,
    sensitivity, summary,
};
use crate::cost::CostLimit;
use crate::latency::LatencyModel;
use crate::sensitivity::Sensitivity;
use crate::subnet::LatencyComparison;
use crate::Result;
use std::path::Path;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("readout.js");

/// Everything known of a run, finished or not, that one HTML page shows.
///
/// Every field may be empty: its section is then left out. The page is a single file without
/// external resources.
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
    /// Title of the page, such as the name of the model and of the data set.
    pub title: String,
    /// Further facts of the run as (name, value): data set, seed, device.
    pub facts: Vec<(String, String)>,
    /// Stages of the run, in order: dense training, search, fine-tuning.
    pub stages: Vec<Stage>,
    /// Figures of the dense network.
    pub dense: Option<NetworkFigures>,
    /// Figures of the extracted subnet; `None` during the search.
    pub subnet: Option<NetworkFigures>,
    /// Budgets of the search, resolved to amounts.
    pub budgets: Vec<CostLimit>,
    /// Measured latency of dense network and subnet, one entry a batch size.
    pub latency: Vec<LatencyComparison>,
    /// Latency model, where a latency is limited.
    pub latency_model: Option<LatencyModel>,
    /// Pictures of masked image modeling.
    pub samples: Vec<Sample>,
    /// Measured sensitivity of the dense network.
    pub sensitivity: Option<Sensitivity>,
    /// Options of the run as text, shown as they are.
    pub config: String,
}

impl Report {
    /// Returns the HTML page.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a sample that PNG cannot encode.
    pub fn html(&self) -> Result<String> {
        let title = html::escape(self.title());
        let mut main = summary::header(self);
        main += &architecture::section(self);
        main += &cost_chart::section(self);
        main += &sensitivity::section(self.sensitivity.as_ref());
        main += &entropy::section(&self.stages);
        main += &curves::accuracy(&self.stages);
        main += &curves::losses(&self.stages);
        main += &curves::schedules(&self.stages);
        main += &sample::section(&self.samples)?;
        main += &latency_profile::section(self.latency_model.as_ref())?;
        main += &latency_bars::section(&self.latency);
        main += &event_tables::section(&self.stages);
        main += &self.options();
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{main}</main>\n\
             <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
        ))
    }

    /// Writes the page to `path` atomically: the file has its old or its new content at any time.
    ///
    /// # Errors
    /// Those of [`html`](Self::html); [`crate::Error::Io`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::files::write_atomically(path.as_ref(), self.html()?.as_bytes())
    }

    /// Title of the page; "Untitled run" where none is given.
    pub(super) fn title(&self) -> &str {
        match self.title.trim() {
            "" => "Untitled run",
            title => title,
        }
    }

    fn options(&self) -> String {
        if self.config.trim().is_empty() {
            return String::new();
        }
        let text = html::escape(&self.config);
        let body =
            format!("<details><summary>options as given</summary><pre>{text}</pre></details>");
        html::section("Options", "Options of the run, as given. plan.json of each stage has all options of the library, with \
                   their defaults.", &body)
    }
}
