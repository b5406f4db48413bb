//! Options of a run that a command line has flags for.

use super::overlay::{merge, nested};
use super::Command;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Options that a command line has flags for.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `data.folder`.
    pub data: Option<PathBuf>,
    /// `data.shards.val`.
    pub val: Option<PathBuf>,
    /// `weights`.
    pub weights: Option<PathBuf>,
    /// `teacher.weights`.
    pub teacher: Option<PathBuf>,
    /// `budget.macs`.
    pub macs: Option<String>,
    /// `budget.params`.
    pub params: Option<String>,
    /// `budget.latency`.
    pub latency: Option<String>,
    /// Sets `space.depth`.
    pub depth: bool,
    /// Sets `space.qk_v_apart`.
    pub qk_v_apart: bool,
    /// `device`.
    pub device: Option<String>,
    /// `seed`.
    pub seed: Option<u64>,
    /// `epochs` of every stage of the command.
    pub epochs: Option<f64>,
    /// `steps` of every stage of the command.
    pub steps: Option<u64>,
    /// `batch` of every stage of the command.
    pub batch: Option<i64>,
    /// `lr` of every stage of the command.
    pub lr: Option<f64>,
}

impl Flags {
    /// The flags as a table over `config`.
    pub(super) fn table(&self, command: Option<Command>, config: &Table) -> Result<Table> {
        let path = |name: &str, path: &Option<PathBuf>| {
            path.as_deref().map(|path| path_value(name, path)).transpose()
        };
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let mut table = Table::new();
        let mut set = |name: &str, value: Option<Value>| {
            value.into_iter().for_each(|value| merge(&mut table, nested(name, value)));
        };
        set("data.folder", path("data.folder", &self.data)?);
        set("data.shards.val", path("data.shards.val", &self.val)?);
        set("weights", path("weights", &self.weights)?);
        set("teacher.weights", path("teacher.weights", &self.teacher)?);
        set("budget.macs", text(&self.macs));
        set("budget.params", text(&self.params));
        set("budget.latency", text(&self.latency));
        set("space.depth", self.depth.then_some(Value::from(true)));
        set("space.qk_v_apart", self.qk_v_apart.then_some(Value::from(true)));
        set("device", text(&self.device));
        set("seed", integer("seed", self.seed)?);
        let steps = integer("steps", self.steps)?;
        for &stage in Command::sections(command) {
            if !config.contains_key(stage) {
                continue;
            }
            set(&format!("{stage}.epochs"), self.epochs.map(Value::from));
            set(&format!("{stage}.steps"), steps.clone());
            set(&format!("{stage}.batch"), self.batch.map(Value::from));
            set(&format!("{stage}.lr"), self.lr.map(Value::from));
        }
        Ok(table)
    }
}

/// TOML has text in UTF-8 only.
pub(super) fn path_value(name: &str, path: &Path) -> Result<Value> {
    let expected = "a path in UTF-8; rename the folder or file, or link to it";
    let refused = || Error::invalid(name, expected, path.display());
    path.to_str().map(Value::from).ok_or_else(refused)
}

/// TOML has signed integers only.
fn integer(name: &str, value: Option<u64>) -> Result<Option<Value>> {
    let signed = |value| {
        i64::try_from(value)
            .map_err(|_| Error::invalid(name, format!("at most {}", i64::MAX), value))
    };
    Ok(value.map(signed).transpose()?.map(Value::from))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn path_that_is_not_in_utf_8_is_refused_by_its_option() {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(std::ffi::OsString::from_vec(b"/data/caf\xe9".into()));
        let own = || Some(path.clone());
        for (name, flags) in [
            ("data.folder", Flags { data: own(), ..Flags::default() }),
            ("data.shards.val", Flags { val: own(), ..Flags::default() }),
            ("weights", Flags { weights: own(), ..Flags::default() }),
            ("teacher.weights", Flags { teacher: own(), ..Flags::default() }),
        ] {
            let refused = flags.table(None, &Table::new()).map_err(|error| error.to_string());
            let expected = "a path in UTF-8; rename the folder or file, or link to it";
            assert_eq!(
                refused,
                Err(format!("{name}: got {}, expected {expected}", path.display()))
            );
        }
    }
}
