//! Runs of a network that this crate does not know, in a run folder.

use super::recipe_network::{Recipe, CLASSES};
use crate::assert_refused;
use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use once_for_both::cost::Budget;
use once_for_both::data::ImageSet;
use once_for_both::error::PipelineError;
use once_for_both::import::Pretrained;
use once_for_both::models::VitConfig;
use once_for_both::pipeline::{
    inspect, inspect_family, stored_family, write_report, Config, Feed, ImageClassifier,
    InspectOptions, Inspection, Pipeline, PipelineOutcome, Progress, Request, RunFolder,
    TeacherConfig,
};
use once_for_both::search::Checkpoints;
use once_for_both::subnet::{Differences, Subnet};
use once_for_both::Error;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Kind, Tensor};

/// Options of a run; section `[network]` has the fields of [`Recipe`].
const OPTIONS: &str = r#"
seed = 3
device = "cpu"
compare = false
budget = { macs = "0.6" }
data = { augmentation = "none" }
train = { steps = 2, batch = 8, lr = 1e-3 }
search = { steps = 6, batch = 8, lr = 1e-3 }
finetune = { steps = 2, batch = 8, lr = 1e-3 }
every = { log = 1, checkpoint = 2, evaluation = 100 }

[network]
width = 32
heads = 4
pairs = 4
hidden = 24
head_dim = 8
attention = "Separate"
mlp = "SwiGlu"
"#;

impl Pretrained for Recipe {
    const HEADS: &'static [&'static str] = &["head"];
}

impl ImageClassifier for Recipe {
    fn image_shape(&self) -> [i64; 3] {
        [3, 16, 16]
    }

    fn class_count(&self) -> i64 {
        CLASSES
    }
}

fn images(count: i64, seed: u64) -> TestResult<ImageSet> {
    once_for_both::randomness::seed(seed);
    let images = Tensor::f_randint(256, [count, 3, 16, 16], (Kind::Uint8, test_device()))?;
    let classes = Tensor::f_randint(CLASSES, [count], (Kind::Int64, test_device()))?;
    Ok(ImageSet::new(images, classes, CLASSES)?.normalised(0.5, 0.25)?)
}

pub fn feed(config: &Config) -> TestResult<Feed> {
    Ok(Feed::in_memory(images(32, 1)?, images(16, 2)?, &config.data)?)
}

pub fn config(run: &Path, resume: bool, settings: &[&str]) -> once_for_both::Result<Config> {
    Request {
        default_preset: OPTIONS.into(),
        settings: settings.iter().map(|own| own.to_string()).collect(),
        run: Some(run.into()),
        resume,
        ..Request::default()
    }
    .resolve()
}

/// The run of the network in section `[network]`.
fn pipeline(config: Config, run: &Path) -> TestResult<Pipeline<'static, Recipe>> {
    let (feed, dense) = (feed(&config)?, config.network_as()?);
    Ok(Pipeline::new(config, run, feed, dense)?)
}

/// Runs all stages in a folder, and returns the path of the subnet.
fn finished(run: &Path) -> TestResult<PathBuf> {
    match pipeline(config(run, false, &[])?, run)?.run()? {
        PipelineOutcome::Finished { network, .. } => Ok(network),
        PipelineOutcome::Stopped => Err("stopped".into()),
    }
}

/// Stops the run in its search.
fn stopped(run: &Path) -> TestResult {
    let stop = AtomicBool::new(false);
    let outcome = pipeline(config(run, false, &[])?, run)?
        .stop_when(&stop)
        // The training has two steps.
        .on_progress(|progress| {
            stop.fetch_or(matches!(progress, Progress::Step(3)), Ordering::Relaxed);
        })
        .run()?;
    assert!(matches!(outcome, PipelineOutcome::Stopped), "{outcome:?}");
    Ok(())
}

#[test]
fn run_of_a_wrapped_network_that_was_stopped_is_resumed_to_the_same_subnet() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let [run, whole] = ["run", "whole"].map(|name| folder.path().join(name));
    stopped(&run)?;
    let stages = RefCell::new(Vec::new());
    let resumed = pipeline(config(&run, true, &[])?, &run)?.resume(true).on_progress(|progress| {
        if let Progress::StageStarted(stage) = progress {
            stages.borrow_mut().push((stage.name, stage.done));
        }
    });
    let outcome = resumed.run()?;
    assert_eq!(stages.take(), [("train", 2), ("search", 4), ("finetune", 0)]);
    let PipelineOutcome::Finished { network, top1, summary: Some(summary) } = outcome else {
        return Err(format!("{outcome:?}").into());
    };
    assert!((0.0..=1.0).contains(&top1));
    assert!(summary.subnet.macs <= summary.budgets[0].limit);
    assert!(summary.subnet.macs < summary.dense.macs);
    let attention = summary.sizes.iter().find(|own| own.dimension == "attn");
    assert_eq!(attention.map(|own| own.dense.to_string()).as_deref(), Some("4 × 8"), "in channels");

    let searched = Differences::read(RunFolder::new(&run).subnet())?.extraction;
    assert_eq!(Differences::read(&network)?.extraction, searched, "fine-tuning extracts nothing");
    assert_eq!(summary.verification.logit_scale, searched.logit_scale);
    let subnet = Subnet::<Recipe>::load(&network, test_device())?;
    assert_eq!(subnet.macs()?, summary.subnet.macs);
    let expected = Subnet::<Recipe>::load(finished(&whole)?, test_device())?;
    assert!(subnet.weights().iter().all(|(name, own)| own.equal(&expected.weights()[name])));
    let report = fs::read_to_string(run.join("report.html"))?;
    assert!(report.contains("run: recipe on built-in images") && report.contains("attn"));
    Ok(())
}

#[test]
fn trained_wrapped_network_is_loaded_from_run_and_file_and_forecast() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    finished(&run)?;
    let pipeline = pipeline(config(&run, true, &[])?, &run)?;
    let dense = RunFolder::new(&run).dense();
    let network = pipeline.load(&dense, "dense network")?;
    // As a checkpoint, whose names are those of the variables.
    let file = folder.path().join("weights.safetensors");
    fs::copy(dense.join("model.safetensors"), &file)?;
    let imported = pipeline.load_trained(&file, "weights", "it is compared")?;
    assert!(network.weights().iter().all(|(name, own)| own.equal(&imported.weights()[name])));
    assert_eq!(pipeline.top1(&network)?, pipeline.top1(&imported)?);

    let budgets = [Budget::macs_share(0.5)];
    let (sensitivity, forecast) = pipeline.forecast(&network, 16, &budgets, |_| Ok(()))?;
    assert_eq!(sensitivity.dimensions.len(), 3);
    assert!(forecast.points[0].measured.is_some());
    Ok(())
}

#[test]
fn inspection_of_a_run_of_another_family_names_the_family_and_reads_it_with_its_architecture(
) -> TestResult {
    let _alone = alone();
    let (folder, options) = (tempfile::tempdir()?, InspectOptions::default());
    let run = folder.path().join("run");
    let artifact = finished(&run)?;
    let checkpoint = Checkpoints::new(run.join("checkpoints"), 2).newest()?.ok_or("none")?;
    assert_eq!(stored_family(&run)?.as_deref(), Some("recipe"));
    for path in [&artifact, &checkpoint] {
        assert_refused!(
            inspect(path, &options),
            Error::Pipeline(PipelineError::UnknownFamily { ref family, ref known, .. })
                if family == "recipe" && known[..] == ["vit", "swin"]
        );
    }
    let refused = inspect(&run, &options)?;
    assert!(!refused.is_accepted());
    let told = refused.to_string();
    let expected = "REFUSED       subnet: ";
    let line = told.lines().find(|line| line.starts_with(expected)).ok_or(told.clone())?;
    assert!(line.ends_with(
        "family: got recipe, expected vit or swin; inspect it with its Architecture, by \
         pipeline::inspect_family"
    ));

    let found = inspect_family::<Recipe>(&run, &options)?;
    assert!(found.is_accepted(), "{found}");
    let Inspection::Run(parts) = &found else { return Err(found.to_string().into()) };
    assert_eq!((parts.networks.len(), parts.checkpoints.len()), (3, 4));
    let told = inspect_family::<Recipe>(&RunFolder::new(&run).dense(), &options)?.to_string();
    for part in ["family        recipe\n", "attn 4 × 8, embed 32, mlp 24\n", "\"hidden\":24"] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    inspect_family::<Recipe>(&checkpoint, &options)?;
    Ok(())
}

#[test]
fn size_of_another_type_in_section_network_is_refused_by_its_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    let config = config(folder.path(), false, &["network.width=32.5"])?;
    assert_refused!(
        config.network_as::<Recipe>(),
        Error::Pipeline(PipelineError::Options { ref origin, .. }) if origin == "network.width"
    );
    Ok(())
}

#[test]
fn run_of_a_wrapped_network_with_another_architecture_is_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    stopped(&run)?;
    let is_width = |error: &PipelineError| {
        matches!(error, PipelineError::Changed { name, given, saved, .. }
            if (&name[..], &given[..], &saved[..]) == ("network.width", "40", "32"))
    };
    assert_refused!(config(&run, true, &["network.width=40"]),
        Error::Pipeline(ref error) if is_width(error));
    // Options that do not describe the network.
    let config = config(&run, true, &[])?;
    let mut other = config.clone();
    other.network.insert("width".into(), 40.into());
    let other = other.network_as::<Recipe>()?;
    let resumed = Pipeline::new(config.clone(), &run, feed(&config)?, other)?.resume(true);
    assert_refused!(resumed.run(), Error::Pipeline(ref error) if is_width(error));
    assert_refused!(
        write_report::<VitConfig>(&RunFolder::new(&run)),
        Error::Pipeline(PipelineError::UnknownFamily { ref family, ref known, .. })
            if family == "recipe" && known[..] == ["vit"]
    );
    Ok(())
}

#[test]
fn teacher_of_a_wrapped_family_is_loaded_for_that_family_alone() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let [run, taught] = ["run", "taught"].map(|name| folder.path().join(name));
    finished(&run)?;
    let config = Config { teacher: Some(TeacherConfig::new(&run)), ..config(&taught, false, &[])? };
    pipeline(config.clone(), &taught)?.check()?;
    let vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(CLASSES);
    assert_refused!(
        Pipeline::new(config.clone(), &taught, feed(&config)?, vit),
        Error::Pipeline(PipelineError::UnknownFamily { ref family, ref known, .. })
            if family == "recipe" && known[..] == ["vit", "swin"]
    );
    Ok(())
}

/// The checkpoint of a long run is replaced or moved before fine-tuning begins.
#[test]
fn run_whose_weights_are_moved_while_it_goes_on_ends_with_all_stages() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    finished(&first)?;
    let weights = RunFolder::new(&first).dense();
    let setting = format!("weights={:?}", weights.display().to_string());
    let config = config(&run, false, &[&setting])?;
    let moved = folder.path().join("moved");
    let outcome = pipeline(config, &run)?
        .on_progress(|progress| {
            if matches!(progress, Progress::StageStarted(stage) if stage.name == "finetune") {
                assert!(fs::rename(&weights, &moved).is_ok());
            }
        })
        .run()?;
    let PipelineOutcome::Finished { summary: Some(summary), .. } = outcome else {
        return Err(format!("{outcome:?}").into());
    };
    assert!(moved.is_dir() && !summary.dense.latency_ms.is_empty());
    Ok(())
}

#[test]
fn report_that_cannot_be_written_is_shown_and_the_run_ends_with_its_results() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let failed = RefCell::new(Vec::new());
    let outcome = pipeline(config(&run, false, &[])?, &run)?
        .on_progress(|progress| match progress {
            Progress::StageStarted(stage) if stage.name == "finetune" => {
                assert!(fs::write(RunFolder::new(&run).sensitivity(), "{}").is_ok());
            }
            Progress::ReportFailed { .. } => failed.borrow_mut().push(progress.to_string()),
            _ => {}
        })
        .run()?;
    assert!(matches!(outcome, PipelineOutcome::Finished { .. }));
    let failed = failed.take();
    assert!(failed.len() == 1 && failed[0].contains("sensitivity.json"), "{failed:?}");
    assert!(!run.join("report.html").exists() && run.join("summary.json").is_file());
    Ok(())
}
