//! Training steps: images per second, memory, and the parts of a step.

use crate::memory::Peak;
use crate::network::Plan;
use crate::options::Options;
use crate::report::{number, Section, Table};
use crate::task::Task;
use crate::AnyError;
use once_for_both::batch::Batch;
use once_for_both::cost::Budget;
use once_for_both::latency::compare_latency;
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchOptions};
use once_for_both::supernet::Weights;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tch::Device;

/// Steps of a run: enough that no prune step falls into the measurement.
const STEPS: u64 = 1_000_000;

/// What a step trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The dense network, without a search.
    Plain,
    /// The search with its default options: the dense network teaches.
    Search,
    /// The search without a teacher.
    Untaught,
    /// A subnet, without a search, as fine-tuning does.
    Subnet,
}

const ROWS: [(Kind, &str); 4] = [
    (Kind::Plain, "plain training step of the dense network"),
    (Kind::Untaught, "search step without teacher"),
    (Kind::Search, "search step (default)"),
    (Kind::Subnet, "plain training step of a subnet of half the MACs"),
];

/// Milliseconds of a step and of its parts.
#[derive(Debug, Serialize, Deserialize)]
pub struct StepTimes {
    /// Images of the step.
    batch: i64,
    whole: f64,
    /// Forward and backward passes, losses, gates and their gradients.
    gradients: f64,
    /// Forward pass of the network, in training mode, with what the backward pass needs.
    forward: f64,
}

/// Measures a kind of step.
pub fn measure(
    options: &Options,
    kind: Kind,
    precision: Precision,
    device: Device,
) -> Result<StepTimes, AnyError> {
    let plan = Plan::of(options);
    let network = match kind {
        Kind::Subnet => plan.subnet(0.5)?.0,
        _ => plan.dense.clone(),
    };
    let search = RefCell::new(build(&network, kind, precision, device)?);
    let batches = [plan.training_batch(device)?];
    // The first step is logged and creates the optimiser's moments.
    search.borrow_mut().step(&batches, &mut ())?;
    let burst =
        |call: &dyn Fn() -> once_for_both::Result<()>| (0..plan.burst).try_for_each(|_| call());
    let times = compare_latency(
        &[
            &|| burst(&|| search.borrow_mut().step(&batches, &mut ())),
            &|| burst(&|| search.borrow().gradients(&batches).map(drop)),
            &|| burst(&|| forward(&search.borrow(), &batches)),
        ],
        plan.rounds,
        device,
    )?;
    let ms = |at: usize| times[at].median_ms / plan.burst as f64;
    Ok(StepTimes { batch: plan.batch, whole: ms(0), gradients: ms(1), forward: ms(2) })
}

fn forward(search: &Search<VitConfig>, batches: &[Batch]) -> once_for_both::Result<()> {
    search.supernet().forward(&batches[0].images, None, true).map(drop)
}

fn build(
    network: &VitConfig,
    kind: Kind,
    precision: Precision,
    device: Device,
) -> once_for_both::Result<Search<VitConfig>> {
    let with = |options: SearchOptions, weights: Option<&Weights>| {
        let options = options.with(|options| {
            options.log_interval = STEPS;
            options.training.precision = precision;
            if kind == Kind::Untaught {
                options.training.distillation = None;
            }
        });
        let builder = Search::of(network.clone()).options(options).device(device);
        let builder = match kind {
            Kind::Search | Kind::Untaught => builder.budget(Budget::macs_share(0.5)),
            Kind::Plain | Kind::Subnet => builder,
        };
        weights.into_iter().fold(builder, |builder, weights| builder.weights(weights)).build()
    };
    match kind {
        Kind::Plain | Kind::Subnet => with(SearchOptions::training(STEPS), None),
        Kind::Untaught => with(SearchOptions::new(STEPS, STEPS), None),
        Kind::Search => {
            let dense = Search::training(network.clone(), 1).device(device).build()?;
            with(SearchOptions::new(STEPS, STEPS), Some(&dense.supernet().raw_weights()))
        }
    }
}

/// Measures all kinds of steps in every precision.
pub fn section(options: &Options) -> Section {
    let mut section = Section::default();
    section.text(
        "Bursts of steps on random images, the device synchronised at their ends; median. Memory is what \
         `nvidia-smi` says of the whole device: libtorch's cache, the CUDA context, and what other processes hold \
         (in brackets: before the row's process began), read about ten times a second. tch offers no other number.",
    );
    let mut rates = Table::new(&[
        "step",
        "precision",
        "batch",
        "ms",
        "images/s",
        "relative to plain",
        "peak memory, MiB",
    ]);
    let mut parts = Table::new(&[
        "step",
        "precision",
        "forward, ms",
        "rest of the gradients, ms",
        "update, ms",
    ]);
    for precision in Plan::of(options).precisions {
        let mut plain = None;
        for (kind, name) in ROWS {
            let row = Task::Step { kind, precision }.run::<StepTimes>(options);
            let name = [name.to_owned(), precision.name().into()];
            let Some((times, peak)) = section.measured(&name.join(", "), row) else { continue };
            if kind == Kind::Plain {
                plain = Some(times.whole);
            }
            rates.row(name.iter().cloned().chain(rate_cells(&times, plain, peak)));
            let rest =
                [times.forward, times.gradients - times.forward, times.whole - times.gradients];
            parts.row(name.into_iter().chain(rest.map(number)));
        }
    }
    section.table(rates);
    section.text(
        "Parts of the same steps. Rest of the gradients: backward pass, losses, teacher, gates and their gradients. \
         Update: clipping, AdamW, materialised weights. Each part is timed alone, and the others are differences.",
    );
    section.table(parts);
    section
}

fn rate_cells(times: &StepTimes, plain: Option<f64>, peak: Option<Peak>) -> [String; 5] {
    [
        times.batch.to_string(),
        number(times.whole),
        number(times.batch as f64 / times.whole * 1e3),
        plain.map_or("–".into(), |plain| format!("{:.3}", times.whole / plain)),
        peak.map_or("–".into(), |peak| format!("{} ({})", peak.most, peak.before)),
    ]
}
