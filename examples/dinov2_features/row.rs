//! Results of one run: a row of the table.

use crate::distance::{Distance, Images};
use crate::judge::{Judgement, Recognition};
use crate::paired::Paired;
use crate::AnyError;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Judgement so many steps after the sizes were decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    pub after: u64,
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// Results of one method and seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub method: String,
    pub budget: f64,
    pub seed: u64,
    /// Share of the dense MACs reached.
    pub macs: f64,
    /// Top-1 of the dense network.
    pub dense: Option<Recognition>,
    /// When the sizes were decided, and at the end.
    pub curve: Vec<Point>,
    pub embed_dim: i64,
    /// Heads, channels of a head, hidden width of every block.
    pub blocks: Vec<[i64; 3]>,
    /// Processor seconds of a step of search and of fine-tuning, over all threads.
    pub step_seconds: [f64; 2],
    /// Processor time of the row, with the time to judge.
    pub cpu_seconds: f64,
    /// Options of the search, and of this program.
    pub options: Value,
    pub images: Value,
}

impl Row {
    pub const HEADER: &'static str = "method      seed  MACs    after   class 1-cos (error)   \
        patch 1-cos (error)    kNN  probe  cpu s a step  sizes";
}

/// The file of `--json`.
pub struct RowFile {
    path: PathBuf,
    file: File,
}

impl RowFile {
    /// Opens the file, which is created if it is not there.
    pub fn open(path: &Path) -> Result<Self, AnyError> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Ok(Self { path: path.into(), file: file.map_err(|error| unwritable(path, error))? })
    }

    /// Appends a row.
    pub fn append(&mut self, row: &Row) -> Result<(), AnyError> {
        let line = serde_json::to_string(row)? + "\n";
        self.file.write_all(line.as_bytes()).map_err(|error| unwritable(&self.path, error))
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> AnyError {
    format!("--json {}: cannot be written: {error}", path.display()).into()
}

/// Returns a line for every method but the first: how much farther from the dense features it ends than the
/// first, with the standard error paired over images; seeds of both are averaged.
pub fn differences(rows: &[Row]) -> Vec<String> {
    let Some(first) = rows.first() else { return Vec::new() };
    let mut others: Vec<&str> = rows.iter().map(|row| row.method.as_str()).collect();
    others.dedup();
    let line = |method: &&str| {
        let ends = |name: &str| -> Vec<&Images> {
            let own = rows.iter().filter(|row| row.method == name);
            own.filter_map(|row| Some(&row.curve.last()?.judgement.images)).collect()
        };
        let paired = |cosines: fn(&Images) -> &Vec<f64>| {
            let pairs = ends(method).into_iter().zip(ends(&first.method));
            let pairs: Vec<_> =
                pairs.map(|(own, first)| (cosines(own).clone(), cosines(first).clone())).collect();
            let Paired { mean, error } = Paired::of(&pairs)?;
            Some(format!("{mean:+.4} ({:.4})", error?))
        };
        let class = paired(|own| &own.class_cosines).unwrap_or_else(|| "-".into());
        let patches = paired(|own| &own.patch_cosines).unwrap_or_else(|| "-".into());
        format!("{method} - {}: 1-cos of class {class}, of patches {patches}", first.method)
    };
    others.iter().skip(1).map(line).collect()
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { method, seed, macs, embed_dim, blocks, step_seconds, .. } = self;
        for (at, Point { after, judgement }) in self.curve.iter().enumerate() {
            let newline = if at > 0 { "\n" } else { "" };
            let seconds = step_seconds.get(at).copied().unwrap_or_default();
            write!(
                formatter,
                "{newline}{method:11} {seed:4}  {macs:.4} {after:6}   {judgement}  {seconds:12.2}"
            )?;
        }
        write!(formatter, "  {embed_dim} {blocks:?}")
    }
}

/// The columns of a judgement.
impl fmt::Display for Judgement {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Distance { class_cosine, class_error, patch_cosine, patch_error, .. } = self.distance;
        write!(
            formatter,
            "{class_cosine:.4} ({class_error:.4})       {patch_cosine:.4} ({patch_error:.4})    "
        )?;
        match self.recognition {
            Some(Recognition { knn, probe }) => write!(formatter, "  {knn:.3}  {probe:.3}"),
            None => write!(formatter, "      -      -"),
        }
    }
}
