//! DeiT-S, trained, searched, shrunk, verified and evaluated on Fashion-MNIST images:
//! `cargo run --release --example deit_s` does it all. See `--help`.

mod cli;
mod pipeline;
mod progress;
mod stage;
mod summary;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match pipeline::run(cli::Options::parse()) {
        Ok(pipeline::Outcome::Finished) => ExitCode::SUCCESS,
        Ok(pipeline::Outcome::Interrupted(out)) => {
            eprintln!("interrupted; go on with --resume --out {}", out.display());
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}
