//! Weak scaling of data parallel training: steps of DeiT-S at 224² by one process alone, by all apart (at
//! the same time, without communication), and by all together; every process has one thread. Memory and
//! caches that processes share slow down all apart; communication, together.
//!
//! `cargo bench --features distributed,report --bench scaling -- 5 8`; the arguments are the number of
//! rounds (default 5) and of images a process has (default 8, at least 4). The bench starts itself as two
//! processes. Where `RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` are set, it is a rank of that group.

mod counted;
mod table;

use counted::{bytes_of, milliseconds, Counted, Counts};
use once_for_both::batch::Batch;
use once_for_both::cost::Budget;
use once_for_both::distributed::{from_env, Collective, SingleProcess};
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::search::{Search, SearchOptions};
use once_for_both::supernet::Weights;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

type BenchResult<T = ()> = Result<T, Box<dyn Error>>;

const DEVICE: Device = Device::Cpu;

/// Steps of a run: enough that no prune step falls into the measurement.
const STEPS: u64 = 1_000_000;

/// A kind of step: the same search in a group of one and in that of all processes.
struct Kinds {
    name: &'static str,
    alone: Search<VitConfig>,
    together: Search<VitConfig>,
}

/// Who steps.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    /// One process; the others wait.
    One,
    /// All, each in a group of one.
    AllAlone,
    /// All, in one group.
    Group,
}

/// What one process measured of one kind of step in one round: ms of its steps (0 where it waited), in
/// the order of [`Who`], and the calls of the step together.
#[derive(Serialize, Deserialize, Clone, Copy)]
struct Round {
    ms: [f64; 3],
    counts: Counts,
}

fn main() -> BenchResult {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let rounds = numbers.first().copied().unwrap_or(5);
    let batch = numbers.get(1).copied().unwrap_or(8);
    let group = from_env()?;
    match group.world_size() {
        1 => start(2),
        _ => measure(&group, rounds, batch),
    }
}

/// Starts this program as ranks on this machine, and waits for their end.
fn start(ranks: usize) -> BenchResult {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let start = |rank: usize| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args().skip(1));
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", ranks.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string()).spawn()
    };
    // A rank whose peer has ended ends with an error by itself.
    let mut started = (0..ranks).map(start).collect::<Result<Vec<Child>, _>>()?;
    for (rank, child) in started.iter_mut().enumerate() {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("rank {rank}: {status}").into());
        }
    }
    Ok(())
}

/// Measures as one rank; rank 0 prints.
fn measure(group: &Arc<dyn Collective>, rounds: usize, images: usize) -> BenchResult {
    tch::set_num_threads(1);
    tch::set_num_interop_threads(1);
    let counted = Arc::new(Counted::of(group));
    let mut kinds = kinds(&counted)?;
    let batch = [batch(images as i64)?];
    // The first step is logged and creates AdamW's moments, so it is not measured.
    for kind in &mut kinds {
        kind.alone.step(&batch, &mut ())?;
        kind.together.step(&batch, &mut ())?;
    }
    let mut measured = vec![Vec::new(); kinds.len()];
    for round in 0..rounds {
        for (kind, measured) in kinds.iter_mut().zip(&mut measured) {
            measured.push(one_round(kind, &counted, &batch, round)?);
        }
    }
    let all = group.all_gather(&serde_json::to_vec(&measured)?)?;
    let ranks: Vec<Vec<Vec<Round>>> =
        all.iter().map(|own| serde_json::from_slice(own)).collect::<Result<_, _>>()?;
    let calls = single_calls(&**group, bytes_of(kinds[0].together.supernet().theta().data()))?;
    if group.is_main() {
        let processes = group.world_size();
        println!("DeiT-S, 224², f32, {processes} processes, {images} images each, {rounds} rounds");
        table::print(&kinds, &ranks);
        println!("\n{calls}");
    }
    Ok(())
}

fn batch(images: i64) -> BenchResult<Batch> {
    let pixels = Tensor::f_randn([images, 3, 224, 224], (Kind::Float, DEVICE))?;
    let classes = Tensor::f_randint(1000, [images], (Kind::Int64, DEVICE))?;
    Ok(Batch::classes(pixels, classes))
}

fn kinds(counted: &Arc<Counted>) -> BenchResult<[Kinds; 4]> {
    let plain = SearchOptions::training(STEPS);
    let dense = build(&plain, None, Arc::new(SingleProcess))?.supernet().raw_weights();
    let kind = |name, options: SearchOptions| {
        let group: Arc<dyn Collective> = counted.clone();
        let alone = build(&options, Some(&dense), Arc::new(SingleProcess))?;
        BenchResult::Ok(Kinds { name, alone, together: build(&options, Some(&dense), group)? })
    };
    let half = plain.clone().with(|options| options.training.exchange = Precision::Bf16);
    Ok([
        kind("plain training", plain)?,
        kind("plain training, gradients exchanged in bf16", half)?,
        kind("search (default)", SearchOptions::new(STEPS, STEPS))?,
        kind("learned α, PMIM", SearchOptions::learned(STEPS, STEPS))?,
    ])
}

fn build(
    options: &SearchOptions,
    weights: Option<&Weights>,
    group: Arc<dyn Collective>,
) -> BenchResult<Search<VitConfig>> {
    let options = options.clone().with(|options| options.log_interval = STEPS);
    let searches = options.search_steps > 0;
    let mut builder = Search::of(VitConfig::deit_small()).options(options).distributed(group);
    if let Some(weights) = weights {
        builder = builder.weights(weights);
    }
    let builder = if searches { builder.budget(Budget::macs_share(0.5)) } else { builder };
    Ok(builder.build()?)
}

/// Makes a step of each [`Who`], all ranks from a barrier on. The order changes from round to round, and so
/// does the rank that steps alone.
fn one_round(
    kind: &mut Kinds,
    counted: &Counted,
    batch: &[Batch],
    round: usize,
) -> BenchResult<Round> {
    let mut measured = Round { ms: [0.0; 3], counts: Counts::default() };
    let turn = round % counted.world_size();
    for place in 0..3 {
        let at = (round + place) % 3;
        let who = [Who::One, Who::AllAlone, Who::Group][at];
        counted.barrier()?;
        if who == Who::One && counted.rank() != turn {
            continue;
        }
        let search = if who == Who::Group { &mut kind.together } else { &mut kind.alone };
        counted.take();
        let begin = Instant::now();
        search.step(batch, &mut ())?;
        measured.ms[at] = milliseconds(begin);
        if who == Who::Group {
            measured.counts = counted.take();
        }
    }
    Ok(measured)
}

/// Returns how long one all-reduce of one number takes, and one of a buffer of this many bytes.
fn single_calls(group: &dyn Collective, bytes: usize) -> BenchResult<String> {
    let time = |bytes: usize, repeats: usize| -> BenchResult<f64> {
        let tensor = Tensor::f_zeros([bytes as i64 / 4], (Kind::Float, DEVICE))?;
        group.all_reduce(&tensor)?;
        group.barrier()?;
        let begin = Instant::now();
        (0..repeats).try_for_each(|_| group.all_reduce(&tensor))?;
        Ok(milliseconds(begin) / repeats as f64)
    };
    let (small, large) = (time(4, 500)?, time(bytes, 10)?);
    let megabytes = bytes as f64 / 1e6;
    Ok(format!("one all-reduce: {small:.3} ms of 4 bytes, {large:.1} ms of {megabytes:.1} MB"))
}
