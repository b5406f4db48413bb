//! The report: what goes in, and the page that comes out.

use super::network::NetworkFigures;
use super::progress::Stage;
use super::sample::{paintings, Sample};
use super::{
    accuracy, architecture, budget, head, html, incidents, losses, schedules, speed, uncertainty,
};
use crate::cost::Budget;
use crate::extract::LatencyComparison;
use crate::Result;
use std::path::Path;

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
    pub budgets: Vec<Budget>,
    /// Measured times of both networks.
    pub latency: Vec<LatencyComparison>,
    /// What was painted into hidden patches.
    pub samples: Vec<Sample>,
    /// The resolved options, as text.
    pub config: String,
}

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("readout.js");

impl Report {
    /// The page.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a picture that cannot be encoded.
    pub fn html(&self) -> Result<String> {
        let title = html::escape(self.title());
        let mut main = head::head(self);
        main += &architecture::section(self);
        main += &budget::section(self);
        main += &uncertainty::section(&self.stages);
        main += &accuracy::section(&self.stages);
        main += &losses::section(&self.stages);
        main += &schedules::section(&self.stages);
        main += &paintings(&self.samples)?;
        main += &speed::section(&self.latency);
        main += &incidents::section(&self.stages);
        main += &self.configuration();
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{main}</main>\n\
             <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
        ))
    }

    /// Writes the page; a reader sees the old file or the new one, never half of it.
    ///
    /// # Errors
    /// Those of [`html`](Self::html); [`crate::Error::Io`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::files::write_atomically(path.as_ref(), self.html()?.as_bytes())
    }

    /// A page has a title, whatever it is given.
    pub(super) fn title(&self) -> &str {
        match self.title.trim() {
            "" => "A run",
            title => title,
        }
    }

    fn configuration(&self) -> String {
        if self.config.trim().is_empty() {
            return String::new();
        }
        let text = html::escape(&self.config);
        let body =
            format!("<details><summary>resolved options</summary><pre>{text}</pre></details>");
        html::section("Configuration", "As the run resolved it.", &body)
    }
}
