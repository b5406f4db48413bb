//! Inspection of a path.

use super::Outcome;
use crate::cli::InspectCommand;
use crate::AnyError;
use once_for_both::import::ImportOptions;
use once_for_both::pipeline::{self, InspectOptions};
use std::num::NonZeroUsize;

pub fn inspect(command: InspectCommand) -> Result<Outcome, AnyError> {
    let InspectCommand { path, json, heads, entry, prefix, max_pixels } = command;
    let import = ImportOptions { entry, prefix, ..ImportOptions::default() };
    let mut options = InspectOptions { import, heads, ..InspectOptions::default() };
    options.max_pixels = max_pixels.map_or(options.max_pixels, NonZeroUsize::get);
    let found = pipeline::inspect(&path, &options)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print!("{found}"),
    }
    Ok(if found.is_accepted() { Outcome::Finished } else { Outcome::Refused })
}
