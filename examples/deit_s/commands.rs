//! What each command does.

use crate::cli::{Command, CommandLine, ExportOptions, Format, RunOptions};
use crate::config::Config;
use crate::folder::{write_report, write_whole, SUMMARY};
use crate::layers::{self, CONFIG, METRICS};
use crate::networks::{self, DENSE, FINETUNED, SUBNET};
use crate::pipeline::{Pipeline, Trained};
use crate::stage::INTERRUPTED;
use crate::summary::{Measured, Summary};
use crate::AnyError;
use once_for_both::cost::Metric;
use once_for_both::device;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::subnet::{verify_against, Description, Export, Provenance, Subnet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};
use tch::{Kind, Tensor};

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
    if let Some(Command::Report { run }) = &command {
        saved(&write_report(run)?);
        return Ok(Outcome::Finished);
    }
    let config = layers::resolve(&run, command.as_ref())?;
    match &command {
        Some(Command::Eval) => return evaluate(&config),
        Some(Command::Export(options)) => return export(&config, &run, options),
        _ => {}
    }
    let out = folder(&run)?;
    let pipeline = Pipeline::open(&config, &out, run.resume)?;
    check(&pipeline)?;
    prepare(&config, &out, run.resume)?;
    ctrlc::set_handler(interrupt)?;
    greet(&pipeline)?;
    let outcome = stages(&pipeline)?;
    saved(&write_report(&out)?);
    Ok(outcome)
}

/// The first Ctrl-C lets the step end, and saves; a second one does not wait.
fn interrupt() {
    if INTERRUPTED.swap(true, Ordering::Relaxed) {
        std::process::exit(130);
    }
    eprintln!("stopping after this step, with a checkpoint; once more to stop at once");
}

fn stages(pipeline: &Pipeline) -> Result<Outcome, AnyError> {
    let out = pipeline.out;
    match pipeline.config.command.as_deref() {
        Some("train") => {
            or_interrupted!(pipeline.train(), out);
            saved(&out.join(DENSE));
        }
        Some("finetune") => {
            let (subnet, provenance) = subnet_of(pipeline)?;
            let finetuned = or_interrupted!(pipeline.finetune(&subnet, provenance), out);
            Summary::replace_subnet(&out.join(SUMMARY), &finetuned)?;
            println!(
                "top-1 {:.2}% of {} images",
                100.0 * finetuned.stage.top1,
                pipeline.feed.test_images()
            );
            saved(&out.join(FINETUNED));
        }
        Some("search") => {
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
        Some(_) => {
            let before = Description::<VitConfig>::read(&out.join(SUBNET))?.provenance;
            Some(or_interrupted!(pipeline.finetune(&search.network, before), out))
        }
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
fn check(pipeline: &Pipeline) -> Result<(), AnyError> {
    let command = pipeline.config.command.as_deref();
    pipeline.check(layers::stages_of(command))?;
    if command == Some("finetune") {
        return subnet_of(pipeline).map(drop);
    }
    let start = pipeline.start()?;
    if command == Some("search") && start.is_none() {
        return Err("no network to search: give --weights, or train one into --out first".into());
    }
    let dense = start.as_ref().map_or(&pipeline.dense, Subnet::architecture);
    pipeline.config.budgets(dense).map(drop)
}

/// What fine-tuning begins with: what the run's search left, else --weights; and where it is from.
fn subnet_of(pipeline: &Pipeline) -> Result<(Subnet<VitConfig>, Provenance), AnyError> {
    let own = pipeline.out.join(SUBNET);
    let (path, whose) = match &pipeline.config.weights {
        _ if own.is_dir() => (&own, "the run's subnet"),
        Some(path) => (path, "--weights"),
        None => {
            return Err(
                "no network to train on: search one into --out first, or give --weights".into()
            )
        }
    };
    let subnet = pipeline.load(path, whose)?;
    let provenance = match networks::folder_of(path) {
        Some(folder) => Description::<VitConfig>::read(&folder)?.provenance,
        None => pipeline.provenance(0, subnet.architecture())?,
    };
    Ok((subnet, provenance))
}

fn greet(pipeline: &Pipeline) -> Result<(), AnyError> {
    let threads = match tch::get_num_threads() {
        1 => "one thread".into(),
        threads => format!("{threads} threads"),
    };
    let start = pipeline.start()?;
    let dense = start.as_ref().map_or(&pipeline.dense, Subnet::architecture);
    eprintln!(
        "{:.1} MMACs dense; {} training and {} test images; {threads} on {:?}; {}",
        dense.cost_model().dense_cost(Metric::Macs)? / 1e6,
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
    write_whole(&out.join(SUMMARY), &serde_json::to_vec_pretty(&summary)?)?;
    summary.print();
    for name in [if finetuned.is_some() { FINETUNED } else { SUBNET }, SUMMARY] {
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
fn prepare(config: &Config, out: &Path, resume: bool) -> Result<(), AnyError> {
    let stage = match config.command.as_deref() {
        Some("train") => out.join("dense").join(METRICS),
        Some("finetune") => out.join("finetune").join(METRICS),
        Some("search") => out.join(METRICS),
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
    write_whole(&out.join(CONFIG), toml::to_string_pretty(config)?.as_bytes())
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
    if out.exists() {
        return Err(format!("{} is there already: choose another --out", out.display()).into());
    }
    let (network, images, provenance) = to_export(config, path)?;
    let mut export = Export::default().precision(options.precision.into());
    export.torchscript = options.format.contains(&Format::Torchscript);
    export.onnx = options.format.contains(&Format::Onnx);
    export.provenance = provenance;
    let verification = verify_against(&network, &network, &images)?;
    let differences = network.save(out, &images, &verification, &export)?;
    saved(out);
    println!("{}", serde_json::to_string_pretty(&differences)?);
    Ok(Outcome::Finished)
}

/// A network with images to verify it on. One that was written here needs no data for that: any
/// images do. A checkpoint of others is fitted to the data.
fn to_export(
    config: &Config,
    path: &Path,
) -> Result<(Subnet<VitConfig>, Tensor, Provenance), AnyError> {
    let Some(folder) = networks::folder_of(path) else {
        let pipeline = Pipeline::open(config, Path::new("."), false)?;
        let network = pipeline.load(path, "--weights")?;
        let provenance = pipeline.provenance(0, network.architecture())?;
        return Ok((network, pipeline.feed.probe(8)?, provenance));
    };
    let device = device::parse(&config.device)?;
    let network = Subnet::<VitConfig>::load(&folder, device)?;
    let VitConfig { in_channels, image_size, .. } = *network.architecture();
    let shape = [8, in_channels, image_size, image_size];
    let images = Tensor::f_randn(shape, (Kind::Float, device))?;
    Ok((network, images, Description::<VitConfig>::read(&folder)?.provenance))
}
