//! Trains, searches, fine-tunes, verifies and evaluates a ViT or Swin in a run folder:
//! `cargo run --release --features pipeline --example deit_s` does it all on built-in images, see
//! `--help`. It is the command line of `once_for_both::pipeline`.

mod accepted;
mod cli;
mod commands;
#[path = "../support/failure.rs"]
mod failure;
mod preset;
mod progress;
mod ranks;

use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;

/// Any error.
pub type AnyError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let matches = cli::CommandLine::command().get_matches();
    let line = cli::CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match commands::execute(line, &matches) {
        Ok(commands::Outcome::Finished) => ExitCode::SUCCESS,
        Ok(commands::Outcome::Refused) => ExitCode::FAILURE,
        Ok(commands::Outcome::Interrupted(out)) => {
            if let Some(out) = out {
                eprintln!("interrupted; resume with: deit_s --resume --out {}", out.display());
            }
            ExitCode::from(130)
        }
        Err(error) => {
            failure::tell(&*error);
            ExitCode::FAILURE
        }
    }
}
