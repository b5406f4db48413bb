//! The machine, and the versions of what runs on it.

use crate::memory::{index, query};
use crate::options::Options;
use crate::report::Table;
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::process::Command;
use std::time::SystemTime;
use tch::Device;

/// Versions that libtorch reports of itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Versions {
    cuda: String,
    cudnn: String,
}

/// Asks libtorch. Without CUDA it has no answer.
pub fn versions(device: Device) -> Versions {
    match device {
        // 13000 is 13.0; 91400 is 9.14.0.
        Device::Cuda(_) => Versions {
            cuda: dotted(tch::utils::version_cudart(), [1000, 10]),
            cudnn: dotted(tch::utils::version_cudnn(), [10_000, 100]),
        },
        _ => Versions { cuda: "none".into(), cudnn: "none".into() },
    }
}

fn dotted(number: i64, [major, minor]: [i64; 2]) -> String {
    format!("{}.{}", number / major, number % major / minor)
}

/// Returns the table of the machine.
pub fn describe(options: &Options) -> Table {
    // In a process of its own: a libtorch without CUDA ends it.
    let versions = Task::Versions.run::<Versions>(options).map(|(versions, _)| versions);
    let versions = versions.unwrap_or_else(|error| {
        eprintln!("versions: {error}");
        Versions { cuda: "unknown".into(), cudnn: "unknown".into() }
    });
    let card = index(&options.device)
        .and_then(|index| query(&index, "name,memory.total,compute_cap,driver_version"));
    let field = |at: usize| card.as_ref().and_then(|card| card.get(at)).cloned();
    let unknown = || "unknown (no answer of nvidia-smi)".to_owned();
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("device", options.device.clone());
    row("card", field(0).unwrap_or_else(unknown));
    row("memory, MiB", field(1).unwrap_or_else(unknown));
    row("compute capability", field(2).unwrap_or_else(unknown));
    row("driver", field(3).unwrap_or_else(unknown));
    row("CUDA, cuDNN", format!("{}, {}", versions.cuda, versions.cudnn));
    row("libtorch", libtorch());
    row("TF32", tf32());
    row("once-for-both", format!("{}, commit {}", env!("CARGO_PKG_VERSION"), commit()));
    row("date", humantime::format_rfc3339_seconds(SystemTime::now()).to_string());
    row("host", host());
    row("command", std::env::args().collect::<Vec<_>>().join(" "));
    table
}

/// Version of the libtorch at `LIBTORCH`, or of the PyTorch of `python3`.
fn libtorch() -> String {
    let folder = std::env::var("LIBTORCH").unwrap_or_default();
    let written = std::fs::read_to_string(format!("{folder}/build-version")).ok();
    let asked = || first_line("python3", &["-c", "import torch; print(torch.__version__)"]);
    written.map(|text| text.trim().to_owned()).or_else(asked).unwrap_or("unknown".into())
}

fn tf32() -> String {
    let names = ["NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"];
    let set = names.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let set: Vec<String> = set.collect();
    match set.is_empty() {
        true => "libtorch's default: convolutions yes, matrix products no".into(),
        false => set.join(" "),
    }
}

fn commit() -> String {
    let Some(commit) = first_line("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown (no git repository)".into();
    };
    match first_line("git", &["status", "--porcelain"]) {
        Some(_) => format!("{commit} with changes"),
        None => commit,
    }
}

fn host() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    format!("{} cores, {}", cores, name.unwrap_or("unknown processor").trim())
}

/// First line of a command's output, if there is one and the command succeeds.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty())?;
    output.status.success().then(|| line.to_owned())
}
