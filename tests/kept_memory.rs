//! Memory of forward passes whose latency is measured stays with the process: its pages are not taken again and
//! again. A process of its own, because any other thread could take pages, too.

use once_for_both::error::LatencyError;
use once_for_both::latency::{DeviceMeter, Meter};
use once_for_both::models::BlockConfig;
use once_for_both::prelude::*;
use once_for_both::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Tokens of all images × hidden channels: 52 MB, 12,800 pages, more than glibc ever keeps by default.
const HIDDEN: [i64; 2] = [64 * 50, 4096];

fn main() -> Result<()> {
    let [_, hidden] = HIDDEN;
    let block = BlockConfig::new(1, 8, hidden);
    let vit = VitConfig { blocks: vec![block], ..VitConfig::uniform(8, 1, 1) };
    let vit = vit.input(28, 1, 4).classes(2);
    let meter = DeviceMeter::new(Device::Cpu, Precision::F32, [64, 1, 28, 28])?;
    keeps_memory(&meter, &vit)?;
    refuses_another_number_of_threads(&meter, &vit);
    Ok(())
}

fn keeps_memory(meter: &DeviceMeter, vit: &VitConfig) -> Result<()> {
    if pages_taken().is_none() {
        println!("no count of pages on this system");
        return Ok(());
    }
    let allocated = pages_of(&|| {
        for _ in 0..4 {
            drop(Tensor::f_ones(HIDDEN, (Kind::Float, Device::Cpu))?);
        }
        Ok(())
    })?;
    if allocated < 45_000 {
        println!("{allocated} pages: this system has large ones, or keeps them by default");
        return Ok(());
    }

    let visit = meter.prepare(vit)?;
    visit()?;
    // Each visit is several forward passes with two such tensors. The heap may grow by one more.
    let taken = pages_of(&|| (0..4).try_for_each(|_| visit().map(drop)))?;
    assert!(taken < 15_000, "{taken} pages were taken again");
    Ok(())
}

fn refuses_another_number_of_threads(meter: &DeviceMeter, vit: &VitConfig) {
    let threads = tch::get_num_threads();
    tch::set_num_threads(threads + 1);
    let refused = meter.prepare(vit).map(drop).map_err(|error| error.to_string());
    let expected = LatencyError::Differs {
        what: "threads",
        measured: threads.to_string(),
        present: (threads + 1).to_string(),
    };
    assert_eq!(refused, Err(Error::Latency(expected).to_string()));
}

/// Pages that this process takes during a call.
fn pages_of(call: &dyn Fn() -> Result<()>) -> Result<u64> {
    let before = pages_taken();
    call()?;
    Ok(pages_taken().zip(before).map_or(0, |(after, before)| after - before))
}

/// Pages that this process took so far (`minflt` of `/proc/self/stat`); `None` where the allocator is not glibc's, or
/// without `/proc`.
fn pages_taken() -> Option<u64> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return None;
    }
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may have spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(7)?.parse().ok()
}
