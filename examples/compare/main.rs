//! Compares methods on the same dense network, data, order of batches, schedule and teacher.
//!
//! ```sh
//! scripts/with-libtorch cargo run --release --features pipeline --example compare -- \
//!         --methods ours,two-stage,paper --budgets 0.5 --seeds 3
//! ```
//!
//! One command makes the whole table of a protocol; two rows at a time here:
//!
//! ```sh
//! compare --data FOLDER --weights examples/pretrained/fashion-mnist --images 20000 --batch 256 --lr 1e-3 \
//!         --steps 250 --search 0.4 --curve 0,50 --plain-interval 0 --distil 0.9 --budgets 0.5,0.3,0.2 --seeds 3 \
//!         --methods ours,paper,no-pmim,no-teacher,two-stage,sensitivity,magnitude,taylor,random-sizes,even \
//!         --draws 5 --jobs 2 --json rows.jsonl
//! ```
//!
//! and one the table of what the result depends on, each option changed alone:
//!
//! ```sh
//! compare … --budgets 0.3 --methods ours --jobs 2 --json rows.jsonl \
//!         --ablate pruning.interval=5,20 --ablate pruning.fade_out_steps=5,20 --ablate loss_scale=0.2,5 \
//!         --ablate search_steps=60,100,200,300 --ablate order=1,2 --ablate teacher=off
//! ```
//!
//! Processes that torchrun or Slurm has started share the rows of the table, each a row at a time
//! (docs/scaling.md): `scripts/ranks.py 2 compare …`.
//!
//! `--latency FILE` measures the latency of every subnet beside the dense network, with a model that is measured first where
//! there is no such file; budgets are then shares of the dense latency, or with `--limit macs` of the dense MACs:
//!
//! ```sh
//! compare … --latency b32.json --latency-batch 32 --budgets 0.6,0.4
//! compare … --latency b32.json --latency-batch 32 --limit macs --budgets 0.5,0.23
//! ```
//!
//! `--images 30000 --validate 10000` judges on held-out training images instead of the test images:
//! what is tuned is tuned there.
//!
//! Rows are printed as they finish, then the tables: NLL and top-1 (mean and standard deviation over
//! seeds), and the difference of the NLL to the first method, paired over images and seeds, with its
//! standard error over images in brackets. A row that fails is named, and the others go on.
//!
//! `--json FILE` appends one object per row, as soon as it is measured; a row that the file has on the
//! same terms (options, components, data and dense network) is not repeated, so that the same command
//! continues what was interrupted. The file knows nothing of the library's code: begin a new one where
//! the code has changed. Fields: `method`, `budget`, `seed`, `draw`, `macs` (share of the dense ones),
//! `sizes` (heads and channels of every dimension), `curve` (`after` so many steps from the decision of
//! the sizes: `nll`, `top1`; the last is the end), `latency` (shares of the dense one, where measured), `seconds`, `terms`, `nll` (of every image at the end;
//! how to read it: images.rs).

mod bench;
mod change;
mod children;
mod data;
mod dense;
#[path = "../support/failure.rs"]
mod failure;
mod family;
mod file;
mod images;
mod latency;
mod methods;
mod options;
#[path = "../support/paired.rs"]
mod paired;
mod plan;
mod protocol;
mod ranks;
mod row;
mod scaled;
mod scratch;
#[path = "../support/settings.rs"]
mod settings;
mod start;
mod tables;
mod terms;
mod trial;
#[path = "../support/unsearched.rs"]
mod unsearched;

use bench::Bench;
use clap::Parser;
use failure::with_causes;
use family::{Compared, Network};
use file::RowFile;
use once_for_both::device;
use once_for_both::distributed::Collective;
use once_for_both::models::{SwinConfig, VitConfig};
use options::Options;
use plan::{Line, Run};
use row::Row;
use serde_json::Value;
use std::error::Error;
use std::process::ExitCode;
use tables::Summary;

/// Any error.
pub type AnyError = Box<dyn Error>;

fn main() -> ExitCode {
    let mut options = Options::parse();
    options.source.weights = options.source.weights.map(dense::in_run);
    let done = match &options.task {
        Some(task) => children::work(task),
        None => together(&options),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    failure::tell(&*error);
    ExitCode::FAILURE
}

/// Compares, in the processes that were started together: one's error is that of all.
fn together(options: &Options) -> Result<(), AnyError> {
    let group = ranks::join()?;
    let done = ranks::expect_alike(&*group).and_then(|()| {
        let own = options.source.weights.as_deref().map(Network::stored).transpose()?;
        match own.unwrap_or(options.network) {
            Network::Vit => compare::<VitConfig>(options, &*group),
            Network::Swin => compare::<SwinConfig>(options, &*group),
        }
    });
    if let Err(error) = &done {
        group.abort(&with_causes(&**error));
    }
    done
}

/// Measures the rows that the file of `--json` does not have, and prints the tables.
fn compare<A: Compared>(options: &Options, group: &dyn Collective) -> Result<(), AnyError> {
    if group.world_size() > 1 && (options.jobs.is_some() || options.source.weights.is_none()) {
        return Err(
            "several processes: got --jobs or no --weights, expected --weights alone".into()
        );
    }
    let json = options.json.as_deref().filter(|_| group.is_main());
    let opened = json.map(RowFile::open).transpose()?;
    let (file, mut rows) = opened.map_or((None, Vec::new()), |(file, rows)| (Some(file), rows));
    let source = &options.source;
    let feed = data::open(source, device::parse(&source.device)?)?;
    let protocol = options.protocol(&feed)?;
    let lines = plan::lines(options, &protocol)?;
    let trained;
    let weights = match &source.weights {
        Some(folder) => folder,
        None => {
            trained = dense::train::<A>(options, &protocol, &feed)?;
            trained.path()
        }
    };
    if group.world_size() > 1 && source.latency.as_deref().is_some_and(|file| !file.exists()) {
        return Err(
            "several processes: got no file of --latency, expected one; measure it in one process"
                .into(),
        );
    }
    latency::prepare::<A>(source, &feed, weights, options.jobs.map(|_| 1))?;
    let bench = Bench::<A>::new(feed, source, weights)?;
    let dense = bench.judge_dense()?;
    if group.is_main() {
        println!("dense: NLL {:.4}, top-1 {:.2} %", dense.mean_nll(), 100.0 * dense.top1());
    }

    let missing = missing(&bench, &lines, &rows)?;
    let mut failed = Vec::new();
    let mut done = 0;
    let finished = |run: &Run, result: Result<Row, AnyError>| -> Result<(), AnyError> {
        done += 1;
        let progress = format!("row {done} of {}: {run}", missing.len());
        match result {
            Ok(row) => {
                file.as_ref().map_or(Ok(()), |file| file.append(&row))?;
                eprintln!("{progress}: {}", row.result());
                rows.push(row);
            }
            Err(error) => {
                eprintln!("{progress}: failed: {}", with_causes(&*error));
                failed.push(run.to_string());
            }
        }
        Ok(())
    };
    match options.jobs {
        Some(jobs) => children::measure(jobs, source, weights, &missing, finished)?,
        None => ranks::measure(group, &bench, &missing, finished)?,
    }
    if !group.is_main() {
        return Ok(());
    }
    print_tables(&bench, &lines, &rows)?;
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("{} of the rows failed: {}", failed.len(), failed.join("; ")).into()),
    }
}

/// Returns the runs that no row is of, each once: a changed option may have its default value.
fn missing<A: Compared>(
    bench: &Bench<A>,
    lines: &[Line],
    rows: &[Row],
) -> Result<Vec<Run>, AnyError> {
    let mut missing: Vec<(Run, Value)> = Vec::new();
    for run in lines.iter().flat_map(|line| &line.runs) {
        bench.check(run)?;
        let terms = bench.terms(run)?;
        let same = |(other, its): &(Run, Value)| other.is_same(run) && *its == terms;
        if !rows.iter().any(|row| row.is(run, &terms)) && !missing.iter().any(same) {
            missing.push((run.clone(), terms));
        }
    }
    Ok(missing.into_iter().map(|(run, _)| run).collect())
}

/// Prints the rows of all lines in order, and the tables of what could be measured.
fn print_tables<A: Compared>(
    bench: &Bench<A>,
    lines: &[Line],
    rows: &[Row],
) -> Result<(), AnyError> {
    println!("{}", Row::HEADER);
    let mut summaries = Vec::new();
    for line in lines {
        let mut own = Vec::new();
        for run in &line.runs {
            let terms = bench.terms(run)?;
            own.extend(rows.iter().find(|row| row.is(run, &terms)));
        }
        for row in &own {
            match &line.change {
                Some(change) => println!("{row}  {change}"),
                None => println!("{row}"),
            }
        }
        summaries.extend(Summary::of(line, &own));
    }
    tables::print_methods(lines, &summaries, &bench.network.space()?.full_sizes());
    tables::print_ablations(lines, &summaries);
    Ok(())
}
