//! What a rank does in each case.

use super::ranks::say;
use super::{buffered, faulty, restarts, searches, TestResult};
use once_for_both::distributed::Collective;
use once_for_both::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Runs a case as one rank.
pub fn run(case: &str, group: &Arc<dyn Collective>) -> TestResult {
    if let Some((name, file)) = case.strip_prefix("search ").and_then(|own| own.split_once(' ')) {
        return searches::run(name, Path::new(file), group);
    }
    if let Some((fault, folder)) = case.strip_prefix("faulty ").and_then(|own| own.split_once(' '))
    {
        return faulty::run(fault, Path::new(folder), group);
    }
    if let Some((name, folder)) = case.strip_prefix("buffered ").and_then(|own| own.split_once(' '))
    {
        return buffered::run(name, Path::new(folder), group);
    }
    if let Some(own) = case.strip_prefix("run ") {
        let (name, rest) = own.split_once(' ').ok_or("no step")?;
        let (step, folder) = rest.split_once(' ').ok_or("no folder")?;
        return restarts::run(name, step.parse()?, Path::new(folder), group);
    }
    let group = &**group;
    match case {
        "exact" => exact(group),
        "ready" => {
            group.barrier()?;
            say("ready");
            loop {
                group.all_reduce(&Tensor::ones([1000], (Kind::Float, Device::Cpu)))?;
            }
        }
        "long" => {
            let begin = Instant::now();
            let done = group.on_main_for_long(|goes_on| {
                while begin.elapsed() < Duration::from_millis(1800) {
                    goes_on()?;
                }
                Ok(())
            });
            assert_eq!(done?.is_some(), group.is_main());
            Ok(())
        }
        "restarted" => {
            exact(group)?;
            let first = std::env::var("TORCHELASTIC_RESTART_COUNT")? == "0";
            match first && group.rank() == 1 {
                true => Err("the first attempt fails".into()),
                false => Ok(group.barrier()?),
            }
        }
        _ => match case.split_once(' ') {
            Some(("abort", rank)) => abort(group, rank.parse()?, false),
            Some(("abort_and_stay", rank)) => abort(group, rank.parse()?, true),
            _ => Err(format!("unknown case {case}").into()),
        },
    }
}

/// One rank fails while the others are in an operation.
fn abort(group: &dyn Collective, rank: usize, stay: bool) -> TestResult {
    group.barrier()?;
    if group.rank() != rank {
        return Ok(group.barrier()?);
    }
    group.abort("disk full");
    if !stay {
        return Err("disk full".into());
    }
    loop {
        std::thread::park();
    }
}

fn exact(group: &dyn Collective) -> TestResult {
    let (rank, ranks) = (group.rank() as i64, group.world_size() as i64);
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double, Kind::Int64, Kind::Int] {
        // Every sum is an integer below 256, which bf16 holds exactly.
        let own = Tensor::arange(60, (Kind::Int64, Device::Cpu)) + rank;
        let sums = own.shallow_clone() * ranks + (ranks * (ranks - 1) / 2 - rank * ranks);
        let tensor = own.to_kind(kind).view([3, 20]);
        group.all_reduce(&tensor)?;
        assert_eq!(tensor, sums.to_kind(kind).view([3, 20]), "{kind:?}");
    }
    sums_of_large_tensors_and_dropped_handles(group)?;
    for root in 0..ranks {
        let tensor = Tensor::full([7], rank, (Kind::Float, Device::Cpu));
        group.broadcast(&tensor, root as usize)?;
        assert_eq!(tensor, Tensor::full([7], root, (Kind::Float, Device::Cpu)));
    }
    refused_tensors(group)?;
    // Rank 0 has none.
    let bytes = |rank: i64| vec![rank as u8 + 1; 3 * rank as usize];
    let all: Vec<Vec<u8>> = (0..ranks).map(bytes).collect();
    assert_eq!(group.all_gather(&bytes(rank))?, all);
    assert_eq!(group.all_gather(&[])?, vec![Vec::<u8>::new(); ranks as usize]);
    group.barrier()?;
    say(&format!("{} of {}", group.rank(), group.world_size()));
    Ok(())
}

/// Errors of one rank before anything is sent: the group goes on.
fn refused_tensors(group: &dyn Collective) -> TestResult {
    if group.world_size() == 1 {
        return Ok(());
    }
    let cpu = (Kind::Float, Device::Cpu);
    let transposed = group.all_reduce(&Tensor::ones([2, 3], cpu).tr());
    let flags = group.all_reduce(&Tensor::ones([2], (Kind::Bool, Device::Cpu)));
    let root = group.broadcast(&Tensor::ones([2], cpu), group.world_size());
    for (refused, named) in [(transposed, "contiguous"), (flags, "Bool"), (root, "root")] {
        let error = refused.err().ok_or(named)?;
        assert!(
            matches!(error, Error::Invalid { .. }) && error.to_string().contains(named),
            "{error}"
        );
    }
    Ok(())
}

fn sums_of_large_tensors_and_dropped_handles(group: &dyn Collective) -> TestResult {
    let floats = |length| Tensor::ones([length], (Kind::Float, Device::Cpu));
    let (first, second) = (floats(22_000_000), floats(5));
    let started = [group.start_all_reduce(&first)?, group.start_all_reduce(&second)?];
    // Neither waited for nor kept: c10d keeps the tensor.
    drop(group.start_all_reduce(&floats(1_000_000))?);
    for operation in started {
        operation.wait()?;
    }
    let ranks = group.world_size() as f64;
    for sums in [first, second] {
        assert_eq!((sums.min().double_value(&[]), sums.max().double_value(&[])), (ranks, ranks));
    }
    Ok(())
}
