//! The Markdown file.

use crate::memory::Peak;
use crate::AnyError;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A table of the file.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns a table without rows.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect());
    }
}

/// What a part has measured, and what went wrong.
#[derive(Default)]
pub struct Section {
    text: String,
    failures: Vec<String>,
}

impl Section {
    /// Adds a paragraph.
    pub fn text(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{text}\n");
    }

    /// Adds text as it is.
    pub fn verbatim(&mut self, text: &str) {
        self.text(&format!("```\n{}\n```", text.trim_end()));
    }

    /// Adds a table, if it has rows.
    pub fn table(&mut self, table: Table) {
        if table.rows.is_empty() {
            return;
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = vec!["---".into(); table.head.len()];
        let rows: String = table.rows.iter().map(|row| line(row)).collect();
        self.text(format!("{}{}{rows}", line(&table.head), line(&rule)).trim_end());
    }

    /// Notes a failure.
    pub fn fail(&mut self, what: &str, error: &AnyError) {
        eprintln!("{what}: {error}");
        self.failures.push(format!("{what}: {error}"));
    }

    /// Returns what was measured; notes the failure otherwise.
    pub fn measured<T>(
        &mut self,
        what: &str,
        result: Result<(T, Option<Peak>), AnyError>,
    ) -> Option<(T, Option<Peak>)> {
        result.map_err(|error| self.fail(what, &error)).ok()
    }
}

/// The file, written anew after every part.
pub struct Report {
    path: PathBuf,
    head: String,
    parts: String,
    failed: Vec<String>,
}

impl Report {
    /// Begins the file with the machine.
    pub fn new(path: &Path, machine: Table) -> Result<Self, AnyError> {
        let mut head = Section::default();
        head.table(machine);
        let report =
            Self { path: path.into(), head: head.text, parts: String::new(), failed: Vec::new() };
        report.write(false)?;
        Ok(report)
    }

    /// Measures a part and adds it to the file.
    pub fn add(&mut self, title: &str, measure: impl FnOnce() -> Section) -> Result<(), AnyError> {
        let started = Instant::now();
        let Section { text, failures } = measure();
        let seconds = started.elapsed().as_secs_f64();
        let _ = write!(self.parts, "## {title}\n\n{text}");
        for failure in &failures {
            let mut lines = Section::default();
            lines.verbatim(failure);
            let _ = write!(self.parts, "FAILED:\n\n{}", lines.text);
        }
        let _ = writeln!(self.parts, "Took {seconds:.0} s.\n");
        if !failures.is_empty() {
            self.failed.push(title.to_owned());
        }
        self.write(false)
    }

    /// Completes the file, and returns the number of parts that failed.
    pub fn finish(self) -> Result<usize, AnyError> {
        self.write(true)?;
        Ok(self.failed.len())
    }

    fn write(&self, complete: bool) -> Result<(), AnyError> {
        let verdict = match (complete, self.failed.is_empty()) {
            (_, false) => format!("**Failed: {}.**", self.failed.join("; ")),
            (true, true) => "Every part was measured.".into(),
            (false, true) => "Not complete: the program was stopped, or is still running.".into(),
        };
        let text = format!("# GPU check\n\n{verdict}\n\n{}{}", self.head, self.parts);
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.map_or(Ok(()), std::fs::create_dir_all)?;
        // An interrupted write leaves the former file.
        let partial = self.path.with_extension("md.partial");
        std::fs::write(&partial, text)
            .and_then(|()| std::fs::rename(&partial, &self.path))
            .map_err(|error| format!("--out {}: {error}", self.path.display()).into())
    }
}

/// A number with about four digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
