//! The commands.

use crate::cli::{
    Command, CommandLine, ExportOptions, ForecastOptions, Format, InspectCommand, RunOptions,
};
use crate::progress::ProgressBar;
use crate::ranks;
use crate::AnyError;
use once_for_both::cost::Budget;
use once_for_both::device;
use once_for_both::distributed::Collective;
use once_for_both::import::ImportOptions;
use once_for_both::models::{Architecture, SwinConfig, VitConfig};
use once_for_both::pipeline::{
    self, expect_writable, stored_family, write_report, Config, Family, Feed, ImageClassifier,
    InspectOptions, NetworkConfig, Pipeline, PipelineOutcome, RunFolder,
};
use once_for_both::sensitivity::Progress;
use once_for_both::subnet::{verify_against, Description, Export, Extracted, Provenance, Subnet};
use once_for_both::Result;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tch::{Kind, Tensor};

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Images that an exported network is verified on.
const CALIBRATION: i64 = 8;

pub enum Outcome {
    Finished,
    /// Stopped by a signal; with the run folder on the rank that says so.
    Interrupted(Option<PathBuf>),
    /// An inspection found something that the library refuses.
    Refused,
}

/// Builds the dense network for images with so many channels and classes.
type Build<A> = fn(&NetworkConfig, i64, i64) -> Result<A>;

pub fn execute(line: CommandLine) -> Result<Outcome, AnyError> {
    let Some(group) = ranks::join(line.command.as_ref(), line.run.time_limit)? else {
        return Ok(Outcome::Finished);
    };
    let done = execute_in(line, &group);
    if let Err(error) = &done {
        ranks::tell(&*group, error);
    }
    done
}

fn execute_in(line: CommandLine, group: &Arc<dyn Collective>) -> Result<Outcome, AnyError> {
    let CommandLine { command, mut run } = line;
    if let Some(Command::Inspect(options)) = command {
        return inspect(options);
    }
    let stage = command.as_ref().and_then(Command::stage);
    ranks::resume_after_restart(&mut run, stage, &**group)?;
    let (options, request) = (run.clone(), run.request(stage));
    let config = match &command {
        Some(Command::Report { run }) => return report(run),
        Some(Command::Eval | Command::Forecast(_) | Command::Export(_)) => {
            request.resolve_for(options.weights.as_deref())?
        }
        _ => request.resolve()?,
    };
    match family(&config, command.as_ref())? {
        Family::Vit => dispatch(config, &options, command, NetworkConfig::vit, group),
        Family::Swin => dispatch(config, &options, command, NetworkConfig::swin, group),
    }
}

/// The family of the network: of the artifact that is evaluated or exported, else of the options.
fn family(config: &Config, command: Option<&Command>) -> Result<Family, AnyError> {
    let stored = match (command, &config.weights) {
        (Some(Command::Eval | Command::Forecast(_) | Command::Export(_)), Some(path)) => {
            stored_family(path)?
        }
        _ => None,
    };
    Ok(match stored.as_deref() {
        Some(SwinConfig::FAMILY) => Family::Swin,
        Some(VitConfig::FAMILY) => Family::Vit,
        Some(other) => {
            return Err(format!("family of --weights: got {other}, expected vit or swin").into());
        }
        None => NetworkConfig::of(config)?.family,
    })
}

fn dispatch<A: ImageClassifier>(
    config: Config,
    options: &RunOptions,
    command: Option<Command>,
    build: Build<A>,
    group: &Arc<dyn Collective>,
) -> Result<Outcome, AnyError> {
    match command {
        Some(Command::Eval) => evaluate(config, build, group),
        Some(Command::Forecast(own)) => forecast(config, options, &own, build),
        Some(Command::Export(export)) => self::export(config, options, &export, build),
        Some(Command::Latency) => latency(config, options, build),
        _ => run(config, options, build, group),
    }
}

fn run<A: ImageClassifier>(
    config: Config,
    options: &RunOptions,
    build: Build<A>,
    group: &Arc<dyn Collective>,
) -> Result<Outcome, AnyError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let out = match &options.out {
        Some(out) => out.clone(),
        None if group.world_size() == 1 => PathBuf::from(format!("runs/{now}")),
        None => return Err("--out: got none, expected a folder that all processes share".into()),
    };
    // Before the images are opened, which may take long.
    RunFolder::new(&out).check()?;
    let bar = ProgressBar::default();
    let pipeline = open(config, &out, build)?
        .distributed(Arc::clone(group))
        .resume(options.resume)
        .stop_when(&INTERRUPTED)
        .on_progress(|progress| bar.show(progress));
    ctrlc::set_handler(interrupt)?;
    let outcome = pipeline.run()?;
    if !group.is_main() {
        return Ok(match outcome {
            PipelineOutcome::Finished { .. } => Outcome::Finished,
            PipelineOutcome::Stopped => Outcome::Interrupted(None),
        });
    }
    let run = RunFolder::new(&out);
    if let PipelineOutcome::Finished { network, top1, summary } = &outcome {
        match summary {
            Some(summary) => print!("{summary}"),
            None => println!("top-1 {:.2}% of {} images", 100.0 * top1, images(&pipeline)),
        }
        saved(network);
        summary.iter().for_each(|_| saved(&run.summary()));
    }
    let report = out.join("report.html");
    // None where a measurement of the latency was stopped.
    if report.is_file() {
        saved(&report);
    }
    Ok(match outcome {
        PipelineOutcome::Finished { .. } => Outcome::Finished,
        PipelineOutcome::Stopped => Outcome::Interrupted(Some(out)),
    })
}

/// The first Ctrl-C stops after the current step, with a checkpoint; one some seconds later stops at once. A
/// launcher passes on a signal that its ranks have had already: that is the same one.
fn interrupt() {
    const SAME: Duration = Duration::from_secs(2);
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = FIRST.get_or_init(Instant::now);
    if INTERRUPTED.swap(true, Ordering::Relaxed) {
        if first.elapsed() > SAME {
            std::process::exit(130);
        }
    } else if ranks::is_main() {
        eprintln!("stopping after this step, with a checkpoint; press again after two seconds to stop at once");
    }
}

/// The configuration of a command that trains nothing: a run's teacher may be elsewhere by now.
fn untaught(config: Config) -> Config {
    Config { teacher: None, ..config }
}

/// Opens the images, and builds the dense network for them.
fn open<A: ImageClassifier>(
    config: Config,
    out: &Path,
    build: Build<A>,
) -> Result<Pipeline<'static, A>, AnyError> {
    let network = NetworkConfig::of(&config)?;
    let folder = match &config.data.folder {
        Some(folder) => folder.clone(),
        None if config.data.built_in => {
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data")
        }
        None => return Err("images: got no folder, expected one: give --data FOLDER".into()),
    };
    let device = device::parse(&config.device)?;
    let feed = Feed::open(&folder, &config.data, network.image_size, device)?;
    let dense = build(&network, feed.image_shape()[0], feed.classes())?;
    Ok(Pipeline::new(config, out, feed, dense)?)
}

fn images<A: ImageClassifier>(pipeline: &Pipeline<A>) -> i64 {
    pipeline.feed().test_images()
}

fn saved(path: &Path) {
    println!("saved: {}", path.display());
}

fn inspect(command: InspectCommand) -> Result<Outcome, AnyError> {
    let InspectCommand { path, json, heads, entry, prefix, max_pixels } = command;
    let import = ImportOptions { entry, prefix, ..ImportOptions::default() };
    let mut options = InspectOptions { import, heads, ..InspectOptions::default() };
    options.max_pixels = max_pixels.map_or(options.max_pixels, NonZeroUsize::get);
    let found = pipeline::inspect(&path, &options)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print!("{found}"),
    }
    Ok(if found.is_accepted() { Outcome::Finished } else { Outcome::Refused })
}

fn report(run: &Path) -> Result<Outcome, AnyError> {
    let folder = RunFolder::new(run);
    let swin = || -> Result<bool> {
        Ok(NetworkConfig::of(&Config::read(&folder.config())?)?.family == Family::Swin)
    };
    // A folder without options is named by `write_report`.
    let path = match folder.config().is_file() && swin()? {
        true => write_report::<SwinConfig>(&folder)?,
        false => write_report::<VitConfig>(&folder)?,
    };
    saved(&path);
    Ok(Outcome::Finished)
}

fn evaluate<A: ImageClassifier>(
    config: Config,
    build: Build<A>,
    group: &Arc<dyn Collective>,
) -> Result<Outcome, AnyError> {
    let path = config.weights.clone().ok_or("eval: give the network by --weights")?;
    let pipeline = open(untaught(config), Path::new("."), build)?
        .distributed(Arc::clone(group))
        .on_progress(|progress| eprintln!("{progress}"));
    let network = pipeline.load(&path, "--weights")?;
    let top1 = pipeline.top1(&network)?;
    if !group.is_main() {
        return Ok(Outcome::Finished);
    }
    println!(
        "top-1 {:.2}% of {} images; {:.2} MMACs, {:.3} M parameters",
        100.0 * top1,
        images(&pipeline),
        network.macs()? / 1e6,
        network.params()? / 1e6
    );
    Ok(Outcome::Finished)
}

fn forecast<A: ImageClassifier>(
    config: Config,
    run: &RunOptions,
    options: &ForecastOptions,
    build: Build<A>,
) -> Result<Outcome, AnyError> {
    let path = config.weights.clone().ok_or("forecast: give the network by --weights")?;
    if let Some(out) = &run.out {
        expect_writable(out)?;
    }
    let budgets: Vec<Budget> =
        options.shares.iter().map(|share| Budget::macs_share(*share)).collect();
    let pipeline =
        open(untaught(config), Path::new("."), build)?.on_progress(|own| eprintln!("{own}"));
    let because = "a forecast is measured on it; train it first (deit_s train)";
    let network = pipeline.load_trained(&path, "--weights", because)?;
    let show = |progress: Progress| {
        eprint!("\r{} of {} passes, {:<30}", progress.done, progress.passes, progress.dimension);
        Ok(())
    };
    let (sensitivity, forecast) = pipeline.forecast(&network, options.images, &budgets, show)?;
    eprintln!();
    println!("{forecast}");
    if let Some(out) = &run.out {
        std::fs::create_dir_all(out)?;
        let file = RunFolder::new(out).sensitivity();
        sensitivity.write(&file)?;
        saved(&file);
    }
    Ok(Outcome::Finished)
}

/// Measures the latency model of the dense network.
fn latency<A: ImageClassifier>(
    config: Config,
    run: &RunOptions,
    build: Build<A>,
) -> Result<Outcome, AnyError> {
    let out = run.out.as_ref().ok_or("latency: give the folder to write by --out")?;
    expect_writable(out)?;
    expect_no_model_in_use(&RunFolder::new(out))?;
    let bar = ProgressBar::default();
    let pipeline =
        open(untaught(config), Path::new("."), build)?.on_progress(|progress| bar.show(progress));
    let network = match &pipeline.config().weights {
        Some(path) => pipeline.load(path, "--weights")?.architecture().clone(),
        None => pipeline.dense().clone(),
    };
    let model = pipeline.measure_latency(&network, &|| Ok(()))?;
    println!("{model}");
    std::fs::create_dir_all(out)?;
    let file = RunFolder::new(out).latency();
    model.write(&file)?;
    saved(&file);
    Ok(Outcome::Finished)
}

/// Refuses a run that could not be resumed with another latency model.
fn expect_no_model_in_use(run: &RunFolder) -> Result<(), AnyError> {
    if !run.config().is_file() {
        return Ok(());
    }
    run.check()?;
    let config = Config::read(&run.config())?;
    let goes_on = config.command.is_none() && config.budget.latency.is_some();
    let found = match run.has_begun(Some(pipeline::Command::Search)) {
        true => "whose search has begun",
        false if goes_on && run.latency().is_file() => "that is limited by the latency.json in it",
        false => return Ok(()),
    };
    let expected = format!("got a run {found}, expected another folder as --out");
    Err(format!("latency: {}: {expected}", run.path().display()).into())
}

fn export<A: ImageClassifier>(
    config: Config,
    run: &RunOptions,
    options: &ExportOptions,
    build: Build<A>,
) -> Result<Outcome, AnyError> {
    let path = config.weights.clone().ok_or("export: give the network by --weights")?;
    let out = run.out.as_ref().ok_or("export: give the folder to write by --out")?;
    if out.exists() {
        return Err(format!("{}: exists, expected a new folder as --out", out.display()).into());
    }
    expect_writable(out)?;
    let extracted = to_export(config, &path, build)?;
    let mut export = Export::in_precision(options.precision.into());
    export.torchscript = options.format.contains(&Format::Torchscript);
    export.onnx = options.format.contains(&Format::Onnx);
    let differences = extracted.save(out, &export)?;
    saved(out);
    println!("{}", serde_json::to_string_pretty(&differences)?);
    Ok(Outcome::Finished)
}

/// A network with images to verify its files on: random ones for an artifact, whose data may be
/// elsewhere; those of the data for a checkpoint, which is fitted to them.
fn to_export<A: ImageClassifier>(
    config: Config,
    path: &Path,
    build: Build<A>,
) -> Result<Extracted<A>, AnyError> {
    let (subnet, images, provenance) = match RunFolder::new(path).artifact() {
        Some(folder) => {
            let device = device::parse(&config.device)?;
            let subnet = Subnet::<A>::load(&folder, device)?;
            let [channels, height, width] = subnet.architecture().image_shape();
            let shape = [CALIBRATION, channels, height, width];
            let images = Tensor::f_randn(shape, (Kind::Float, device))?;
            (subnet, images, Description::<A>::read(&folder)?.provenance)
        }
        None => {
            let pipeline = open(untaught(config), Path::new("."), build)?
                .on_progress(|progress| eprintln!("{progress}"));
            let because = "it is exported as it is; train it first (deit_s train)";
            let subnet = pipeline.load_trained(path, "--weights", because)?;
            // This crate has not trained it.
            let provenance = Provenance::of(subnet.architecture())?;
            (subnet, pipeline.feed().calibration_batch(CALIBRATION)?, provenance)
        }
    };
    let verification = verify_against(&subnet, &subnet, &images)?;
    Ok(Extracted { subnet, verification, provenance, images })
}
