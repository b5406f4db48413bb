//! The commands.

mod evaluate;
mod export;
mod forecast;
mod inspect;
mod latency;
mod open;
mod report;
mod run;

use crate::accepted::expect_accepted;
use crate::cli::{Command, CommandLine, RunOptions};
use crate::ranks;
use crate::AnyError;
use clap::ArgMatches;
use once_for_both::distributed::Collective;
use once_for_both::pipeline::{
    classifier_family, Config, Family, ImageClassifier, NetworkConfig, Pipeline,
};
use once_for_both::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub enum Outcome {
    Finished,
    /// Stopped by a signal; with the run folder on the rank that says so.
    Interrupted(Option<PathBuf>),
    /// An inspection found something that the library refuses.
    Refused,
}

/// Builds the dense network for images with so many channels and classes.
type Build<A> = fn(&NetworkConfig, i64, i64) -> Result<A>;

/// Executes a command line, whose arguments `matches` has as they were given.
pub fn execute(line: CommandLine, matches: &ArgMatches) -> Result<Outcome, AnyError> {
    if let Some(command) = &line.command {
        expect_accepted(command, matches)?;
    }
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
        return inspect::inspect(options);
    }
    let stage = command.as_ref().and_then(Command::stage);
    ranks::resume_after_restart(&mut run, stage, &**group)?;
    let (options, request) = (run.clone(), run.request(stage));
    let config = match &command {
        Some(Command::Report { run }) => return report::report(run),
        Some(Command::Eval | Command::Forecast(_) | Command::Export(_)) => {
            request.resolve_for(options.weights.as_deref())?
        }
        _ => request.resolve()?,
    };
    match family(&config, command.as_ref(), options.out.as_deref())? {
        Family::Vit => dispatch(config, &options, command, NetworkConfig::vit, group),
        Family::Swin => dispatch(config, &options, command, NetworkConfig::swin, group),
    }
}

/// The family of the network: of the artifact that is evaluated or exported, or of the run that goes on, else of the
/// options.
fn family(
    config: &Config,
    command: Option<&Command>,
    out: Option<&Path>,
) -> Result<Family, AnyError> {
    let on_disk = match command {
        Some(Command::Eval | Command::Forecast(_) | Command::Export(_)) => {
            config.weights.as_deref()
        }
        _ => out,
    };
    match on_disk.map(classifier_family).transpose()?.flatten() {
        Some(family) => Ok(family),
        None => Ok(NetworkConfig::of(config)?.family),
    }
}

fn dispatch<A: ImageClassifier>(
    config: Config,
    options: &RunOptions,
    command: Option<Command>,
    build: Build<A>,
    group: &Arc<dyn Collective>,
) -> Result<Outcome, AnyError> {
    match command {
        Some(Command::Eval) => evaluate::evaluate(config, build, group),
        Some(Command::Forecast(own)) => forecast::forecast(config, options, &own, build),
        Some(Command::Export(own)) => export::export(config, options, &own, build),
        Some(Command::Latency) => latency::latency(config, options, build),
        _ => run::run(config, options, build, group),
    }
}

fn images<A: ImageClassifier>(pipeline: &Pipeline<A>) -> i64 {
    pipeline.feed().test_images()
}

fn saved(path: &Path) {
    println!("saved: {}", path.display());
}
