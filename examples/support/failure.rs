//! What a program says that fails.

use once_for_both::distributed::Rendezvous;
use std::error::Error;
use std::io::Write;

/// An error with its causes, a line each.
pub fn with_causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        told += &format!("\n  because: {inner}");
        cause = inner.source();
    }
    told
}

/// Writes an error with its causes to standard error, after the rank of this process if there are several.
pub fn tell(error: &dyn Error) {
    let rank = match Rendezvous::from_env() {
        Ok(Some(place)) if place.world_size > 1 => format!("rank {}: ", place.rank),
        _ => String::new(),
    };
    // At once: several ranks write to one terminal.
    let text = format!("{rank}error: {}\n", with_causes(error));
    let _ = std::io::stderr().write_all(text.as_bytes());
}
