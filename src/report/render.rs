//! The page that comes out of a report.

use super::page::Report;
use super::sample::paintings;
use super::{
    accuracy, architecture, budget, head, html, incidents, losses, schedules, speed, uncertainty,
};
use crate::Result;
use std::path::Path;

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
