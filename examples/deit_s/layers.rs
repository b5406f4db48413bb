//! Where the options of a run come from: preset, file, --set, flags, each over the ones before.

use crate::cli::{Command, RunOptions};
use crate::config::{Config, Preset};
use crate::AnyError;
use serde_json::{Map, Value};
use std::path::Path;
use toml::Table;

/// Name of the file in a run's folder.
pub const CONFIG: &str = "config.toml";

/// The options of a run. A resumed one keeps those it began with: giving others is an error.
pub fn resolve(run: &RunOptions, command: Option<&Command>) -> Result<Config, AnyError> {
    let kept = match (&run.out, run.resume) {
        (Some(out), true) => Some(read(&out.join(CONFIG))?),
        _ => None,
    };
    let resumed = kept.is_some();
    let mut table = match (kept, run.preset) {
        (Some(kept), None) => kept,
        (_, preset) => toml::from_str(preset.unwrap_or(Preset::Demo).text())?,
    };
    let before = table.clone();
    if let (false, Some(_), None) = (resumed, &run.params, &run.budget) {
        // A budget of parameters takes the place of the preset's, which is one of MACs.
        table.insert("budget".into(), Table::new().into());
    }
    if let Some(file) = &run.config {
        merge(&mut table, read(file)?);
    }
    for setting in &run.set {
        merge(&mut table, parse_setting(setting)?);
    }
    let flags = flags(run, command, &table)?;
    merge(&mut table, flags);
    if resumed {
        expect_same(&before, &table, "")?;
    }
    Config::try_from_table(table)
}

impl Config {
    fn try_from_table(table: Table) -> Result<Self, AnyError> {
        // Once through text: the message then quotes the line that is wrong.
        let text = toml::to_string(&table)?;
        toml::from_str(&text).map_err(|error| format!("options of the run: {error}").into())
    }
}

fn read(path: &Path) -> Result<Table, AnyError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("cannot read {}: {error}; without --resume a run begins anew", path.display())
    })?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Tables are merged, everything else replaced. Epochs replace steps, and the other way round.
fn merge(below: &mut Table, above: Table) {
    for [one, other] in [["epochs", "steps"], ["steps", "epochs"]] {
        if above.contains_key(one) && !above.contains_key(other) {
            below.remove(other);
        }
    }
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => drop(below.insert(name, value)),
        }
    }
}

/// "search.share=0.7" as a table.
fn parse_setting(text: &str) -> Result<Table, AnyError> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        format!("--set {text}: expected NAME=VALUE, such as --set search.share=0.7")
    })?;
    // What is no TOML value is a word: cpu needs no quotes.
    let quoted = || toml::from_str(&format!("{name} = {}", Value::from(value.trim())));
    toml::from_str(&format!("{name} = {value}"))
        .or_else(|_| quoted())
        .map_err(|error| format!("--set {text}: {error}").into())
}

/// What the flags say, as a table over `config`.
fn flags(run: &RunOptions, command: Option<&Command>, config: &Table) -> Result<Table, AnyError> {
    let mut table = Table::new();
    let mut set = |name: &str, value: Option<toml::Value>| -> Result<(), AnyError> {
        let Some(value) = value else { return Ok(()) };
        let nested = name.split('.').rev().fold(value, |inner, part| {
            toml::Value::Table(Table::from_iter([(part.to_string(), inner)]))
        });
        if let toml::Value::Table(nested) = nested {
            merge(&mut table, nested);
        }
        Ok(())
    };
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| toml::Value::from(path.display().to_string()))
    };
    set("data.folder", path(&run.data))?;
    set("weights", path(&run.weights))?;
    set("teacher.weights", path(&run.teacher))?;
    set("budget.macs", run.budget.clone().map(Into::into))?;
    set("budget.params", run.params.clone().map(Into::into))?;
    set("device", run.device.clone().map(Into::into))?;
    set("seed", run.seed.map(i64::try_from).transpose()?.map(Into::into))?;
    for &stage in stages_of(command) {
        if !config.contains_key(stage) {
            continue;
        }
        set(&format!("{stage}.epochs"), run.epochs.map(Into::into))?;
        set(&format!("{stage}.steps"), run.steps.map(i64::try_from).transpose()?.map(Into::into))?;
        set(&format!("{stage}.batch"), run.batch.map(Into::into))?;
        set(&format!("{stage}.lr"), run.lr.map(Into::into))?;
    }
    Ok(table)
}

/// The stages that --epochs, --steps, --batch and --lr are about.
pub fn stages_of(command: Option<&Command>) -> &'static [&'static str] {
    match command {
        Some(Command::Train) => &["train"],
        Some(Command::Search) => &["search"],
        Some(Command::Finetune) => &["finetune"],
        _ => &["train", "search", "finetune"],
    }
}

/// A run goes on as it began: what differs is named.
fn expect_same(before: &Table, now: &Table, under: &str) -> Result<(), AnyError> {
    let null = toml::Value::from("nothing");
    for name in before.keys().chain(now.keys()) {
        let (was, is) = (before.get(name).unwrap_or(&null), now.get(name).unwrap_or(&null));
        match (was, is) {
            (toml::Value::Table(was), toml::Value::Table(is)) => {
                expect_same(was, is, &format!("{under}{name}."))?;
            }
            // A run may move to another device.
            _ if was == is || (under.is_empty() && name == "device") => {}
            _ => {
                return Err(format!(
                    "the run began with {under}{name} = {was}, not {is}: give the same, or another --out"
                )
                .into())
            }
        }
    }
    Ok(())
}

/// Sets fields of a JSON object, each of which has to be there.
pub fn overlay(below: &mut Value, above: Value, under: &str) -> Result<(), AnyError> {
    let Value::Object(above) = above else {
        *below = above;
        return Ok(());
    };
    // A choice with values of its own, {"ramp": {…}}, is taken whole; so is what was null or a word.
    let choice = |of: &Map<String, Value>| of.len() == 1 && above.len() == 1;
    let other = |of: &Map<String, Value>| above.keys().all(|name| !of.contains_key(name));
    if below.as_object().is_none_or(|below| choice(below) && other(below)) {
        *below = Value::Object(above);
        return Ok(());
    }
    for (name, value) in above {
        let empty = Map::new();
        let known = below.as_object().unwrap_or(&empty);
        if !known.contains_key(&name) {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(format!(
                "{under}.{name}: there is no such option; there are {}",
                names.join(", ")
            )
            .into());
        }
        overlay(&mut below[&name], value, &format!("{under}.{name}"))?;
    }
    Ok(())
}
