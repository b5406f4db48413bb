//! How much of its time a training waits for the loader.

use super::{AnyError, BATCH};
use once_for_both::components::task_loss;
use once_for_both::data::{ImageFolder, Loader, LoaderOptions};
use once_for_both::models::{Architecture, Network, VitConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::nn::{self, OptimizerConfig};
use tch::Device;

const SIZE: usize = 224;

/// Trains DeiT-S by DeiT's recipe on the CPU, beside one worker; prints the share of waiting.
pub fn real_training(folder: &Path) -> Result<(), AnyError> {
    const SMALL_BATCH: usize = 8;
    let mut loader = loader(folder, LoaderOptions::deit(SIZE, SMALL_BATCH))?;
    let store = nn::VarStore::new(Device::Cpu);
    let model = VitConfig::deit_small().classes(loader.classes() as i64).build(&store.root())?;
    let mut optimizer = nn::AdamW::default().build(&store, 1e-4)?;
    let spent = train(&mut loader, 5, |loader, step| {
        let (batch, waited) = timed(|| loader.at(step))?;
        let logits = model.forward(&batch.images, true)?;
        let loss = task_loss(&logits.class, &batch.targets, 0.0)?;
        optimizer.backward_step(&loss);
        Ok(waited)
    })?;
    print(&format!("DeiT-S on this core, batch {SMALL_BATCH}"), SMALL_BATCH, &spent);
    Ok(())
}

/// The same with a device that takes no processor time, as a GPU: the step is a sleep, as long as a
/// batch would take a device that trains so many images/s. Mixing is left out, because such a device
/// would do it itself: on the CPU, it is work of the caller.
pub fn sleeping_device(folder: &Path, images_per_second: f64) -> Result<(), AnyError> {
    let options = LoaderOptions { mixing: None, ..LoaderOptions::deit(SIZE, BATCH) };
    let mut loader = loader(folder, options)?;
    let step_time = Duration::from_secs_f64(BATCH as f64 / images_per_second);
    let spent = train(&mut loader, 100, |loader, step| {
        let (_batch, waited) = timed(|| loader.at(step))?;
        std::thread::sleep(step_time);
        Ok(waited)
    })?;
    print(&format!("a device of {images_per_second:.0} images/s, batch {BATCH}"), BATCH, &spent);
    Ok(())
}

fn loader(folder: &Path, options: LoaderOptions) -> Result<Loader, AnyError> {
    let dataset = Arc::new(ImageFolder::open(folder)?);
    Ok(Loader::new(dataset, options.workers(1), Device::Cpu)?)
}

/// Where the time of some steps went.
struct Spent {
    steps: u32,
    waiting: Duration,
    all: Duration,
}

/// Time by the clock, since that is what waiting costs. A first step, which nothing can have been
/// prepared for, is left out.
fn train(
    loader: &mut Loader,
    steps: u32,
    mut step: impl FnMut(&mut Loader, u64) -> Result<Duration, AnyError>,
) -> Result<Spent, AnyError> {
    step(loader, 0)?;
    let (started, mut waiting) = (Instant::now(), Duration::ZERO);
    for number in 1..=steps {
        waiting += step(loader, u64::from(number))?;
    }
    Ok(Spent { steps, waiting, all: started.elapsed() })
}

fn timed<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let started = Instant::now();
    Ok((call()?, started.elapsed()))
}

fn print(name: &str, batch: usize, Spent { steps, waiting, all }: &Spent) {
    let share = 100.0 * waiting.as_secs_f64() / all.as_secs_f64();
    let rate = batch as f64 * f64::from(*steps) / all.as_secs_f64();
    let step = *all / *steps;
    println!("{name}: {rate:.1} images/s, a step of {step:.1?} waits {share:.2} % of it");
}
