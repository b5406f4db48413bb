//! Where the options of a run come from: preset, file, --set, flags, each over the ones before.

use crate::cli::{Command, RunOptions};
use crate::config::{Config, Preset};
use crate::AnyError;
use serde_json::{Map, Value};
use std::path::Path;
use toml::Table;

/// Name of the file in a run's folder.
pub const CONFIG: &str = "config.toml";
/// Name of the events of a stage in its folder.
pub const METRICS: &str = "metrics.jsonl";
/// What all stages of a run have in common.
const SHARED: [&str; 3] = ["seed", "data", "network"];

/// The options of a run: those it began with, if there are some and no preset is named; over them
/// what the command line says. A resumed run keeps its own: giving others is an error.
pub fn resolve(run: &RunOptions, command: Option<&Command>) -> Result<Config, AnyError> {
    let begun = begun(run, command)?;
    if run.resume && begun.is_none() {
        let out = run.out.as_deref().unwrap_or(Path::new("")).display();
        return Err(format!("{out} holds no run to go on with: leave out --resume").into());
    }
    let mut table = match (&begun, run.preset) {
        (Some(begun), None) => begun.clone(),
        (_, preset) => toml::from_str(preset.unwrap_or(Preset::Demo).text())?,
    };
    if let (None, Some(_), None) = (&begun, &run.params, &run.budget) {
        // A budget of parameters takes the place of the preset's, which is one of MACs.
        table.insert("budget".into(), Table::new().into());
    }
    if let Some(file) = &run.config {
        merge(&mut table, read(file)?);
    }
    for setting in &run.set {
        merge(&mut table, parse_setting(setting)?);
    }
    if let Some(Command::Finetune) = command {
        finetune_like_search(&mut table);
    }
    let flags = flags(run, command, &table)?;
    merge(&mut table, flags);
    let Some(begun) = begun.filter(|_| writes(command)) else {
        return Ok(Config { command: name_of(command), ..Config::try_from_table(table)? });
    };
    go_on(begun, table, run, command)
}

/// The options of a folder that holds a run: that of --out, or whose network is evaluated.
fn begun(run: &RunOptions, command: Option<&Command>) -> Result<Option<Table>, AnyError> {
    let folders: Vec<&Path> = match command {
        Some(Command::Eval | Command::Export(_)) => {
            run.weights.iter().flat_map(|path| path.ancestors().take(3)).collect()
        }
        _ => run.out.iter().map(|out| out.as_path()).collect(),
    };
    let there = folders.into_iter().map(|folder| folder.join(CONFIG)).find(|path| path.is_file());
    there.map(|path| read(&path)).transpose()
}

/// Whether a command adds to a run.
fn writes(command: Option<&Command>) -> bool {
    matches!(command, None | Some(Command::Train | Command::Search | Command::Finetune))
}

/// A further stage of a run, or one that is resumed, on the same images.
fn go_on(
    begun: Table,
    mut table: Table,
    run: &RunOptions,
    command: Option<&Command>,
) -> Result<Config, AnyError> {
    let kept = Config::try_from_table(begun.clone())?;
    let out = run.out.as_deref().unwrap_or(Path::new("."));
    if !run.resume {
        // What has run stays told as it was run.
        let ran = [("train", "dense"), ("search", "."), ("budget", "."), ("finetune", "finetune")];
        for (section, folder) in ran {
            let told = begun.get(section).filter(|_| out.join(folder).join(METRICS).is_file());
            if let Some(told) = told {
                table.insert(section.into(), told.clone());
            }
        }
    }
    let mut config = Config::try_from_table(table)?;
    // The network a run began with, for comparison.
    config.weights = config.weights.or_else(|| kept.weights.clone());
    config.command = match (command, run.resume) {
        (None, true) => kept.command.clone(),
        _ => name_of(command),
    };
    let table = |config: &Config| Table::try_from(config);
    let (before, now) = (table(&kept)?, table(&config)?);
    match run.resume {
        true => expect_same(&before, &now, "")?,
        false => {
            let shared = |table: &Table| -> Table {
                let own = table.iter().filter(|(name, _)| SHARED.contains(&name.as_str()));
                own.map(|(name, value)| (name.clone(), value.clone())).collect()
            };
            expect_same(&shared(&before), &shared(&now), "")?;
        }
    }
    Ok(config)
}

/// Without a [finetune] of its own, fine-tuning is trained like the search.
fn finetune_like_search(table: &mut Table) {
    let Some(toml::Value::Table(search)) =
        table.get("search").filter(|_| !table.contains_key("finetune"))
    else {
        return;
    };
    let mut stage = search.clone();
    ["share", "looks", "method", "options"].into_iter().for_each(|name| drop(stage.remove(name)));
    table.insert("finetune".into(), stage.into());
}

fn name_of(command: Option<&Command>) -> Option<String> {
    let name = match command? {
        Command::Train => "train",
        Command::Search => "search",
        Command::Finetune => "finetune",
        Command::Eval | Command::Export(_) | Command::Report { .. } => return None,
    };
    Some(name.into())
}

impl Config {
    fn try_from_table(table: Table) -> Result<Self, AnyError> {
        // Once through text: the message then quotes the line that is wrong.
        let text = toml::to_string(&table)?;
        toml::from_str(&text).map_err(|error| format!("options of the run: {error}").into())
    }
}

fn read(path: &Path) -> Result<Table, AnyError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
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
    for &stage in stages_of(name_of(command).as_deref()) {
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

/// The stages of a command: what --epochs, --steps, --batch and --lr are about.
pub fn stages_of(command: Option<&str>) -> &'static [&'static str] {
    match command {
        Some("train") => &["train"],
        Some("search") => &["search"],
        Some("finetune") => &["finetune"],
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
            // A run may move to another device, and be gone on with in parts.
            _ if was == is || (under.is_empty() && ["device", "command"].contains(&name.as_str())) => {}
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

/// Sets fields of a JSON object, each of which has to be there. TOML has no null: `none` is it.
pub fn overlay(below: &mut Value, above: Value, under: &str) -> Result<(), AnyError> {
    if above == "none" {
        *below = Value::Null;
        return Ok(());
    }
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
