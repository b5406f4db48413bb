//! DeiT-S, or any other ViT, trained, searched, shrunk, verified and evaluated:
//! `cargo run --release --example deit_s` does it all on built-in images. See `--help`.

mod amount;
mod cli;
mod commands;
mod config;
mod feed;
mod folder;
mod layers;
mod library_options;
mod networks;
mod pipeline;
mod progress;
mod stage;
mod stage_config;
mod summary;

use clap::Parser;
use std::process::ExitCode;

/// Whatever goes wrong, in words.
pub type AnyError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match commands::execute(cli::CommandLine::parse()) {
        Ok(commands::Outcome::Finished) => ExitCode::SUCCESS,
        Ok(commands::Outcome::Interrupted(out)) => {
            eprintln!("interrupted; it goes on with: deit_s --resume --out {}", out.display());
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
