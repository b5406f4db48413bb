//! Share of a training step that is spent waiting for the loader.

use super::{AnyError, BATCH};
use once_for_both::components::cross_entropy;
use once_for_both::data::{ImageFolder, Loader, LoaderOptions};
use once_for_both::models::{Architecture, Network, VitConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::nn::{self, OptimizerConfig};
use tch::{Cuda, Device, Reduction};

const SIZE: usize = 224;

/// Trains DeiT-S with DeiT's options and prints the share of waiting: on the CPU with one worker, on another device
/// with one on every core.
pub fn real_training(folder: &Path, device: Device) -> Result<(), AnyError> {
    let cores = std::thread::available_parallelism()?.get();
    let (batch_size, workers, steps) = match device {
        Device::Cpu => (8, 1, 5),
        _ => (128, cores, 30),
    };
    let mut loader =
        loader(folder, LoaderOptions::deit(SIZE, batch_size).workers(workers), device)?;
    let store = nn::VarStore::new(device);
    let model = VitConfig::deit_small().classes(loader.classes() as i64).build(&store.root())?;
    let mut optimizer = nn::AdamW::default().build(&store, 1e-4)?;
    let spent = train(&mut loader, steps, |loader, step| {
        let (batch, waited) = timed(|| loader.at(step))?;
        let logits = model.forward(&batch.images, true)?;
        let loss = cross_entropy(&logits.class, &batch.targets, 0.0, Reduction::Mean)?;
        optimizer.backward_step(&loss);
        Ok(waited)
    })?;
    let name = format!("DeiT-S on {device:?}, {workers} of {cores} cores load, batch {batch_size}");
    print(&name, batch_size, &spent);
    Ok(())
}

/// Simulates training on a GPU and prints the share of waiting: the step is a sleep of the time
/// that a batch takes at this rate. Without mixing, which a GPU would compute.
pub fn sleeping_device(folder: &Path, images_per_second: f64) -> Result<(), AnyError> {
    let options = LoaderOptions { mixing: None, ..LoaderOptions::deit(SIZE, BATCH) };
    let mut loader = loader(folder, options.workers(1), Device::Cpu)?;
    let step_time = Duration::from_secs_f64(BATCH as f64 / images_per_second);
    let spent = train(&mut loader, 100, |loader, step| {
        let (_batch, waited) = timed(|| loader.at(step))?;
        std::thread::sleep(step_time);
        Ok(waited)
    })?;
    print(
        &format!("simulated device, {images_per_second:.0} images/s, batch {BATCH}"),
        BATCH,
        &spent,
    );
    Ok(())
}

fn loader(folder: &Path, options: LoaderOptions, device: Device) -> Result<Loader, AnyError> {
    let dataset = Arc::new(ImageFolder::open(folder)?);
    Ok(Loader::new(dataset, options, device)?)
}

/// Wall-clock time of some steps.
struct Spent {
    steps: u32,
    waiting: Duration,
    all: Duration,
}

/// Measures `steps` steps. A warm-up step, whose batch cannot be prefetched, is not measured.
/// `step` returns the time it waited.
fn train(
    loader: &mut Loader,
    steps: u32,
    mut step: impl FnMut(&mut Loader, u64) -> Result<Duration, AnyError>,
) -> Result<Spent, AnyError> {
    step(loader, 0)?;
    synchronise(loader.device());
    let (started, mut waiting) = (Instant::now(), Duration::ZERO);
    for number in 1..=steps {
        waiting += step(loader, u64::from(number))?;
    }
    synchronise(loader.device());
    Ok(Spent { steps, waiting, all: started.elapsed() })
}

fn synchronise(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

fn timed<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let started = Instant::now();
    Ok((call()?, started.elapsed()))
}

fn print(name: &str, batch: usize, Spent { steps, waiting, all }: &Spent) {
    let share = 100.0 * waiting.as_secs_f64() / all.as_secs_f64();
    let rate = batch as f64 * f64::from(*steps) / all.as_secs_f64();
    let step = *all / *steps;
    println!("{name}: {rate:.1} images/s, step {step:.1?}, waiting {share:.2} % of it");
}
