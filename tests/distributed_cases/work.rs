//! What a rank does in each case.

use super::ranks::say;
use super::TestResult;
use once_for_both::distributed::Collective;
use tch::{Device, Kind, Tensor};

/// Runs a case as one rank.
pub fn run(case: &str, group: &dyn Collective) -> TestResult {
    match case {
        "exact" => exact(group),
        "ready" => {
            group.barrier()?;
            say("ready");
            loop {
                group.all_reduce(&Tensor::ones([1000], (Kind::Float, Device::Cpu)))?;
            }
        }
        _ => match case.strip_prefix("abort ") {
            Some(rank) => abort(group, rank.parse()?),
            None => Err(format!("unknown case {case}").into()),
        },
    }
}

fn abort(group: &dyn Collective, rank: usize) -> TestResult {
    group.barrier()?;
    if group.rank() == rank {
        group.abort("disk full");
        return Err("disk full".into());
    }
    Ok(group.barrier()?)
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
    // Rank 0 has none.
    let bytes = |rank: i64| vec![rank as u8 + 1; 3 * rank as usize];
    let all: Vec<Vec<u8>> = (0..ranks).map(bytes).collect();
    assert_eq!(group.all_gather(&bytes(rank))?, all);
    assert_eq!(group.all_gather(&[])?, vec![Vec::<u8>::new(); ranks as usize]);
    group.barrier()?;
    say(&format!("{} of {}", group.rank(), group.world_size()));
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
