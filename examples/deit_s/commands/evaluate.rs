//! The top-1 of a network.

use super::open::{open, untaught};
use super::{images, Build, Outcome};
use crate::AnyError;
use once_for_both::distributed::Collective;
use once_for_both::pipeline::{Config, ImageClassifier};
use std::path::Path;
use std::sync::Arc;

pub fn evaluate<A: ImageClassifier>(
    config: Config,
    build: Build<A>,
    group: &Arc<dyn Collective>,
) -> Result<Outcome, AnyError> {
    let path = config.weights.clone().ok_or("eval: give the network by --weights")?;
    let pipeline = open(untaught(config), Path::new("."), build)?
        .distributed(Arc::clone(group))
        .on_progress(|progress| eprintln!("{progress}"));
    let because = "random weights would count in its top-1; train it first (deit_s train)";
    let network = pipeline.load_trained(&path, "--weights", because)?;
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
