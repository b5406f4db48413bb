//! Throughput of the loader on one core, relative to torchvision's `DataLoader` on the same files.
//!
//!     scripts/with-libtorch cargo bench --features data --bench loader
//!
//! Reads generated JPEGs on one core: random resized crop to 224 (bicubic), horizontal flip,
//! normalisation. Rates are images per second of processor time (Linux only). `OFB_PYTHON` is a
//! Python with torch, torchvision and Pillow (default `python3`); without one, only this crate's
//! loader is measured.
//!
//! Then measures, in wall-clock time, the share of a training step that is spent waiting for the
//! batch, with one worker and DeiT's options: DeiT-S on the same core, and a simulated device that
//! uses no processor time.
//!
//! `… --bench loader -- waiting` only trains DeiT-S, on the device in `OFB_TEST_DEVICE` (default `cpu`): on a card
//! with a worker on every core. `… --bench loader -- shards` only opens tar shards.

mod images;
mod shards;
mod waiting;

use once_for_both::data::transform::{TrainTransform, Transform};
use once_for_both::data::{ImageFolder, Loader, LoaderOptions, OnCorrupt, Order};
use once_for_both::device;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tch::Device;

type AnyError = Box<dyn std::error::Error>;

const IMAGES: usize = 320;
const BATCH: usize = 32;
const ROUNDS: usize = 5;
/// Environment variable that marks the process bound to one core.
const BOUND: &str = "OFB_BENCH_BOUND";

fn main() -> Result<(), AnyError> {
    if std::env::args().any(|word| word == "shards") {
        return shards::opening();
    }
    if std::env::args().any(|word| word == "waiting") {
        let device = device::parse(&std::env::var("OFB_TEST_DEVICE").unwrap_or("cpu".into()))?;
        let folder = tempfile::tempdir()?;
        images::generate(folder.path(), IMAGES)?;
        return waiting::real_training(folder.path(), device);
    }
    if std::env::var_os(BOUND).is_none() && on_one_core(&std::env::current_exe()?)? {
        return Ok(());
    }
    tch::set_num_threads(1);
    let folder = tempfile::tempdir()?;
    let bytes = images::generate(folder.path(), IMAGES)?;
    println!(
        "data: {IMAGES} JPEGs of {} × {}, mean size {} KB",
        images::WIDTH,
        images::HEIGHT,
        bytes / IMAGES / 1000
    );
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    // Alternating rounds, so that a change of the machine's speed affects both.
    for _ in 0..ROUNDS {
        ours.push(measure(folder.path(), plain())?);
        theirs.extend(torchvision(folder.path())?);
    }
    let deit = measure(folder.path(), LoaderOptions::deit(224, BATCH).workers(1))?;
    let ours = report("this crate, one worker", ours);
    println!("{:<28} {deit:7.0} images/s", "this crate, DeiT's options");
    if theirs.is_empty() {
        println!(
            "torchvision: not measured; set OFB_PYTHON to a Python with torch, torchvision and Pillow"
        );
    } else {
        println!(
            "this crate relative to torchvision: {:.2} times",
            ours / report("torchvision, best of 0 and 1 worker", theirs)
        );
    }
    waiting::real_training(folder.path(), Device::Cpu)?;
    for share in [0.8, 0.5] {
        waiting::sleeping_device(folder.path(), share * deit)?;
    }
    Ok(())
}

/// Runs a program bound to one core. Returns false if the system has no `taskset`.
fn on_one_core(program: &Path) -> Result<bool, AnyError> {
    let mut bound = Command::new("taskset");
    bound.args(["-c", "0"]).arg(program).env(BOUND, "1");
    match bound.status() {
        Ok(status) if status.success() => Ok(true),
        Ok(status) => Err(format!("benchmark process: got {status}, expected success").into()),
        Err(_) => {
            println!("taskset not found: the benchmark is not bound to one core");
            Ok(false)
        }
    }
}

fn plain() -> LoaderOptions {
    LoaderOptions {
        order: Order::Shuffled { repeats: 1 },
        transform: Transform::Train(TrainTransform::plain(224)),
        mixing: None,
        on_corrupt: OnCorrupt::Fail,
        ..LoaderOptions::evaluation(224, BATCH).workers(1)
    }
}

/// Images per second of processor time over two epochs, after a warm-up epoch.
fn measure(folder: &Path, options: LoaderOptions) -> Result<f64, AnyError> {
    let dataset = Arc::new(ImageFolder::open(folder)?);
    let mut loader = Loader::new(dataset, options, Device::Cpu)?;
    let steps = loader.steps_per_epoch();
    // About as many batches are prefetched at the start of the measurement as at its end.
    for step in 0..steps {
        loader.at(step)?;
    }
    let started = seconds()?;
    for step in steps..3 * steps {
        loader.at(step)?;
    }
    Ok((2 * steps) as f64 * BATCH as f64 / (seconds()? - started))
}

/// Processor time of this process in seconds, including ended threads. Unlike wall-clock time, it
/// does not depend on the load of the machine.
fn seconds() -> Result<f64, AnyError> {
    /// Linux counts for programs in hundredths of a second.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold spaces: fields 14 and 15 of the whole are user and system.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// Prints and returns the median rate.
fn report(name: &str, mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    let (least, most) = (rates[0], rates[rates.len() - 1]);
    let median = rates[rates.len() / 2];
    println!("{name:<28} {median:7.0} images/s ({least:.0} to {most:.0})");
    median
}

/// Rate of torchvision's loader; `None` if there is no Python with torchvision.
fn torchvision(folder: &Path) -> Result<Option<f64>, AnyError> {
    let (named, default) = (std::env::var("OFB_PYTHON").ok(), "python3".to_string());
    let python = named.clone().unwrap_or(default);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/loader/torchvision_loader.py");
    let Ok(output) = Command::new(python).arg(script).arg(folder).arg(BATCH.to_string()).output()
    else {
        return Ok(None);
    };
    if !output.status.success() {
        // A failure is an error only if the user set OFB_PYTHON.
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        return named.map_or(Ok(None), |python| Err(format!("{python}: {message}").into()));
    }
    Ok(Some(String::from_utf8(output.stdout)?.trim().parse()?))
}
