//! What a process for one row measures.

use crate::children::Child;
use crate::memory::Peak;
use crate::options::Options;
use crate::{latency, machine, operators, steps, AnyError};
use once_for_both::precision::Precision;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::process::Command;

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Versions that libtorch reports.
    Versions,
    /// Steps of one kind.
    Step { kind: steps::Kind, precision: Precision },
    /// Forward passes of dense network and subnets.
    Latency { precision: Precision },
    /// Operators of a training step.
    Operators { precision: Precision },
}

/// Measures the task of this process and prints the result as JSON.
pub fn work(options: &Options, task: &str) -> Result<(), AnyError> {
    let device = once_for_both::device::parse(&options.device)?;
    let text = match serde_json::from_str(task)? {
        Task::Versions => serde_json::to_string(&machine::versions(device))?,
        Task::Step { kind, precision } => {
            serde_json::to_string(&steps::measure(options, kind, precision, device)?)?
        }
        Task::Latency { precision } => {
            serde_json::to_string(&latency::measure(options, precision, device)?)?
        }
        Task::Operators { precision } => {
            serde_json::to_string(&operators::measure(options, precision, device)?)?
        }
    };
    println!("{text}");
    Ok(())
}

impl Task {
    /// Measures the task in a process of its own, and the memory that the device has in use meanwhile.
    pub fn run<T: DeserializeOwned>(
        self,
        options: &Options,
    ) -> Result<(T, Option<Peak>), AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--task", &serde_json::to_string(&self)?, "--device", &options.device]);
        command.args(["--batch", &options.batch.to_string()]);
        if options.quick {
            command.arg("--quick");
        }
        let child = Child::run(command, options)?.succeeded()?;
        let line = child.output.lines().last().unwrap_or_default();
        let result = serde_json::from_str(line)
            .map_err(|error| format!("output of its process: {error}, in: {line}"))?;
        Ok((result, child.peak))
    }
}
