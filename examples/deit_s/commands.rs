//! What each command does.

use crate::cli::{Command, CommandLine, ExportOptions, Format, RunOptions};
use crate::config::Config;
use crate::folder::write_report;
use crate::layers::{self, CONFIG};
use crate::networks::OF_A_RUN;
use crate::pipeline::{Pipeline, Trained};
use crate::stage::INTERRUPTED;
use crate::summary::{Measured, Summary};
use crate::AnyError;
use once_for_both::cost::Metric;
use once_for_both::extract::{verify_against, Export, Provenance, Subnet};
use once_for_both::models::{Architecture, VitConfig};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

pub enum Outcome {
    Finished,
    Interrupted(PathBuf),
}

/// A stage, or `return` with the outcome "interrupted".
macro_rules! or_interrupted {
    ($stage:expr, $out:expr) => {
        match $stage? {
            Some(done) => done,
            None => return Ok(Outcome::Interrupted($out.to_path_buf())),
        }
    };
}

pub fn execute(line: CommandLine) -> Result<Outcome, AnyError> {
    let CommandLine { command, run } = line;
    let config = layers::resolve(&run, command.as_ref())?;
    match &command {
        Some(Command::Eval) => return evaluate(&config),
        Some(Command::Export(options)) => return export(&config, &run, options),
        Some(Command::Report { run }) => {
            saved(&write_report(run)?);
            return Ok(Outcome::Finished);
        }
        None | Some(Command::Train | Command::Search | Command::Finetune) => {}
    }
    let out = folder(&run)?;
    let pipeline = Pipeline::open(&config, &out, run.resume)?;
    check(&pipeline, command.as_ref())?;
    prepare(&config, &out, run.resume, command.as_ref())?;
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    greet(&pipeline)?;
    let outcome = stages(&pipeline, command.as_ref())?;
    saved(&write_report(&out)?);
    Ok(outcome)
}

fn stages(pipeline: &Pipeline, command: Option<&Command>) -> Result<Outcome, AnyError> {
    let out = pipeline.out;
    match command {
        Some(Command::Train) => {
            or_interrupted!(pipeline.train(), out);
            saved(&out.join(OF_A_RUN[2]));
        }
        Some(Command::Finetune) => {
            let subnet = subnet_of(pipeline)?;
            or_interrupted!(pipeline.finetune(&subnet), out);
            saved(&out.join(OF_A_RUN[0]));
        }
        Some(Command::Search) => {
            let start = pipeline.start()?.ok_or("no network to search: give --weights")?;
            let search = or_interrupted!(pipeline.search(&start), out);
            conclude(pipeline, &start, &search, None, None)?;
        }
        _ => return whole(pipeline),
    }
    Ok(Outcome::Finished)
}

/// All stages that the options name.
fn whole(pipeline: &Pipeline) -> Result<Outcome, AnyError> {
    let (config, out) = (pipeline.config, pipeline.out);
    let start = match &config.weights {
        Some(path) => pipeline.load(path, "--weights")?,
        None => or_interrupted!(pipeline.train(), out).network,
    };
    let search = or_interrupted!(pipeline.search(&start), out);
    let finetuned = match config.finetune {
        Some(_) => Some(or_interrupted!(pipeline.finetune(&search.network), out)),
        None => None,
    };
    let reference = match config.compare {
        true => Some(or_interrupted!(pipeline.compare(&start), out)),
        false => None,
    };
    conclude(pipeline, &start, &search, finetuned.as_ref(), reference.as_ref())?;
    Ok(Outcome::Finished)
}

/// Everything that can be refused before a step is done.
fn check(pipeline: &Pipeline, command: Option<&Command>) -> Result<(), AnyError> {
    pipeline.check(layers::stages_of(command))?;
    let start = pipeline.config.weights.is_some() || pipeline.start()?.is_some();
    match command {
        Some(Command::Search) if !start => {
            Err("no network to search: give --weights, or train one into --out first".into())
        }
        Some(Command::Train) => Ok(()),
        Some(Command::Finetune) => subnet_of(pipeline).map(drop),
        _ => {
            let dense = pipeline.start()?.map(|start| start.architecture().clone());
            pipeline.config.budgets(dense.as_ref().unwrap_or(&pipeline.dense)).map(drop)
        }
    }
}

fn subnet_of(pipeline: &Pipeline) -> Result<Subnet<VitConfig>, AnyError> {
    let subnet = pipeline.out.join(OF_A_RUN[1]);
    match &pipeline.config.weights {
        Some(path) => pipeline.load(path, "--weights"),
        None if subnet.is_dir() => pipeline.load(&subnet, "the run's subnet"),
        None => {
            Err("no network to train on: give --weights, or search one into --out first".into())
        }
    }
}

fn greet(pipeline: &Pipeline) -> Result<(), AnyError> {
    let threads = match tch::get_num_threads() {
        1 => "one thread".into(),
        threads => format!("{threads} threads"),
    };
    eprintln!(
        "{:.1} MMACs dense; {} training and {} test images; {threads} on {:?}; {}",
        pipeline.dense.cost_model().dense_cost(Metric::Macs)? / 1e6,
        pipeline.feed.train_images(),
        pipeline.feed.test_images(),
        pipeline.feed.device,
        pipeline.out.display()
    );
    Ok(())
}

fn saved(folder: &Path) {
    println!("saved: {}", folder.display());
}

/// summary.json, report.html, and the table.
fn conclude(
    pipeline: &Pipeline,
    dense: &Subnet<VitConfig>,
    search: &Trained,
    finetuned: Option<&Trained>,
    reference: Option<&Trained>,
) -> Result<(), AnyError> {
    let out = pipeline.out;
    let budgets = pipeline.config.budgets(dense.architecture())?;
    let (seed, feed) = (pipeline.config.seed, &pipeline.feed);
    let summary = Summary::measure(Measured {
        seed,
        feed,
        budgets: &budgets,
        dense,
        search,
        finetuned,
        reference,
    })?;
    std::fs::write(out.join("summary.json"), serde_json::to_vec_pretty(&summary)?)?;
    summary.print();
    for name in [OF_A_RUN[1], "summary.json"] {
        saved(&out.join(name));
    }
    Ok(())
}

/// The folder of a run.
fn folder(run: &RunOptions) -> Result<PathBuf, AnyError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(run.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{now}"))))
}

/// Creates the folder with its config.toml. A stage that is there already is not written over.
fn prepare(
    config: &Config,
    out: &Path,
    resume: bool,
    command: Option<&Command>,
) -> Result<(), AnyError> {
    let stage = match command {
        Some(Command::Train) => out.join("dense/metrics.jsonl"),
        Some(Command::Finetune) => out.join("finetune/metrics.jsonl"),
        Some(Command::Search) => out.join("metrics.jsonl"),
        _ => out.join(CONFIG),
    };
    if !resume && stage.exists() {
        let (stage, out) = (stage.display(), out.display());
        return Err(format!(
            "{stage} is there: go on with --resume --out {out}, or choose another --out"
        )
        .into());
    }
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join(CONFIG), toml::to_string_pretty(config)?)?;
    Ok(())
}

fn evaluate(config: &Config) -> Result<Outcome, AnyError> {
    let path = config.weights.as_ref().ok_or("eval: give --weights")?;
    let pipeline = Pipeline::open(config, Path::new("."), false)?;
    let network = pipeline.load(path, "--weights")?;
    let top1 = pipeline.feed.top1(|images| network.predict(images))?;
    println!(
        "top-1 {:.2}% of {} images; {:.2} MMACs, {:.3} M parameters",
        100.0 * top1,
        pipeline.feed.test_images(),
        network.macs()? / 1e6,
        network.params()? / 1e6
    );
    Ok(Outcome::Finished)
}

fn export(config: &Config, run: &RunOptions, options: &ExportOptions) -> Result<Outcome, AnyError> {
    let path = config.weights.as_ref().ok_or("export: give --weights")?;
    let out = run.out.as_ref().ok_or("export: give --out, the folder to write")?;
    let pipeline = Pipeline::open(config, out, false)?;
    let network = pipeline.load(path, "--weights")?;
    if out.exists() {
        return Err(format!("{} is there already: choose another --out", out.display()).into());
    }
    let mut export = Export::default().precision(options.precision.into());
    export.torchscript = options.format.contains(&Format::Torchscript);
    export.onnx = options.format.contains(&Format::Onnx);
    export.provenance = Provenance {
        crate_version: env!("CARGO_PKG_VERSION").into(),
        seed: config.seed,
        ..Provenance::default()
    };
    let images = pipeline.feed.probe(8)?;
    let verification = verify_against(&network, &network, &images)?;
    let differences = network.save(out, &images, &verification, &export)?;
    saved(out);
    println!("{}", serde_json::to_string_pretty(&differences)?);
    Ok(Outcome::Finished)
}
