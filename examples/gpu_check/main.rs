//! Measures on a CUDA card what cannot be measured without one, and writes one Markdown file:
//! `make gpu-check`. docs/benchmarks.md, section "On a card", says what is in it.
//!
//! ```sh
//! scripts/with-libtorch cargo run --release --features pipeline --example gpu_check -- --device cpu --quick --out report.md
//! ```
//!
//! does the same with a tiny network, to try the program without a card. Every row is measured in a process
//! of its own (`--task`), so that one that fails, or takes too long, leaves the others and the file as
//! they are. The exit status is 0 only if nothing failed.

mod children;
mod commands;
mod latency;
mod machine;
mod memory;
mod network;
mod operators;
mod options;
mod report;
mod steps;
mod task;

use clap::Parser;
use options::{Options, Part};
use report::{Report, Section};
use std::process::ExitCode;

/// Any error.
pub type AnyError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = Options::parse();
    let failed = match &options.task {
        Some(task) => task::work(&options, task).map(|()| 0),
        None => check(&options),
    };
    match failed {
        Ok(0) => ExitCode::SUCCESS,
        Ok(parts) => {
            eprintln!("{parts} of the parts failed: see {}", options.out.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures every part and returns how many failed. The file is written anew after each.
fn check(options: &Options) -> Result<usize, AnyError> {
    let mut report = Report::new(&options.out, machine::describe(options))?;
    for part in &options.parts {
        let (title, measure): (_, fn(&Options) -> Section) = match part {
            Part::Tests => ("Tests", commands::tests),
            Part::Gates => ("Search step beside a plain step", commands::gates),
            Part::Steps => ("Images per second, and the parts of a step", steps::section),
            Part::Latency => ("Latency", latency::section),
            Part::Operators => ("Slowest operators", operators::section),
            Part::Loader => ("Training that waits for the loader", commands::loader),
        };
        eprintln!("{title} …");
        report.add(title, || measure(options))?;
    }
    println!("{}", options.out.display());
    report.finish()
}
