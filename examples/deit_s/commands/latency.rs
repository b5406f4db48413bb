//! The latency model of the dense network.

use super::open::{open, untaught};
use super::{saved, Build, Outcome};
use crate::cli::RunOptions;
use crate::progress::ProgressBar;
use crate::AnyError;
use once_for_both::pipeline::{self, expect_writable, Config, ImageClassifier, RunFolder};
use std::path::Path;

/// Measures the latency model of the dense network.
pub fn latency<A: ImageClassifier>(
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
