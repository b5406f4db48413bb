//! What budgets will cost.

use super::open::{open, untaught};
use super::{saved, Build, Outcome};
use crate::cli::{ForecastOptions, RunOptions};
use crate::AnyError;
use once_for_both::cost::Budget;
use once_for_both::pipeline::{expect_writable, Config, ImageClassifier, RunFolder};
use once_for_both::sensitivity::Progress;
use std::path::{Path, PathBuf};

pub fn forecast<A: ImageClassifier>(
    config: Config,
    run: &RunOptions,
    options: &ForecastOptions,
    build: Build<A>,
) -> Result<Outcome, AnyError> {
    let given = config.weights.clone().ok_or("forecast: give the network by --weights")?;
    let path = dense_network(&given, run.out.as_deref())?;
    if let Some(out) = &run.out {
        expect_writable(out)?;
    }
    let budgets: Vec<Budget> =
        options.shares.iter().map(|share| Budget::macs_share(*share)).collect();
    let pipeline =
        open(untaught(config), Path::new("."), build)?.on_progress(|own| eprintln!("{own}"));
    let because = "a forecast is measured on it; train it first (deit_s train)";
    eprintln!("network {}", path.display());
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

/// The network that is measured: of a run folder, the dense network that the run searches. The report of the run in
/// `out` shows the measurement as that of its dense network.
fn dense_network(given: &Path, out: Option<&Path>) -> Result<PathBuf, AnyError> {
    let subnet = out.is_some_and(|out| RunFolder::new(out).has_subnet_at(given));
    if subnet {
        let expected = "expected its dense network; give the run folder by --weights";
        return Err(format!(
            "--weights {}: got the subnet of the run in --out, {expected}",
            given.display()
        )
        .into());
    }
    Ok(RunFolder::new(given).searched_network()?.unwrap_or_else(|| given.into()))
}
