//! Options of a run that the other commands take; the rest is refused by name.

use crate::cli::{Command, CommandLine};
use crate::AnyError;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

/// Options that say which network is read, and for which images.
const NETWORK: [&str; 8] = ["preset", "config", "set", "data", "val", "weights", "device", "seed"];

/// Options of a run that a command takes; `None` for one that runs stages, which takes all.
fn accepted(command: &Command) -> Option<Vec<&'static str>> {
    let and = |more: &[&'static str]| Some([&NETWORK, more].concat());
    match command {
        Command::Train | Command::Search | Command::Finetune => None,
        Command::Eval => and(&["time_limit"]),
        Command::Forecast(_) | Command::Latency => and(&["out", "depth", "qk_v_apart"]),
        Command::Export(_) => and(&["out"]),
        // Whatever a script gives to every command: nothing is computed that depends on it.
        Command::Inspect(_) | Command::Report { .. } => Some(vec!["device"]),
    }
}

/// Refuses an option of a run that has no effect on a command.
pub fn expect_accepted(command: &Command, matches: &ArgMatches) -> Result<(), AnyError> {
    let (Some(accepted), Some((name, own))) = (accepted(command), matches.subcommand()) else {
        return Ok(());
    };
    let line = CommandLine::command();
    let of_run = line.get_arguments().filter(|argument| argument.is_global_set());
    let given = |id: &str| {
        [matches, own].iter().any(|own| own.value_source(id) == Some(ValueSource::CommandLine))
    };
    let mut refused = of_run.filter(|own| !accepted.contains(&own.get_id().as_str()));
    let Some(refused) = refused.find(|argument| given(argument.get_id().as_str())) else {
        return Ok(());
    };
    let own = line.find_subcommand(name).into_iter().flat_map(|own| own.get_arguments());
    let own = own.filter_map(|argument| argument.get_long()).map(str::to_string);
    let accepted = own.chain(accepted.iter().map(|id| id.replace('_', "-")));
    let accepted: Vec<String> = accepted.map(|name| format!("--{name}")).collect();
    let given = refused.get_long().unwrap_or_default();
    Err(format!("{name}: got --{given}, expected one of {}", accepted.join(", ")).into())
}
