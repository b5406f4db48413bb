//! Conditions of a latency measurement.

use crate::error::LatencyError;
use crate::precision::Precision;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::process::Command;
use tch::Device;

/// Version of libtorch, as its folder states it at compile time.
const LIBTORCH: &str = env!("OFB_LIBTORCH_VERSION");

/// Conditions of a latency measurement: a model holds under the same conditions only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Name of the processor or of the graphics card.
    pub device: String,
    /// Threads of libtorch's operators on a CPU; `None` on a graphics card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Type of weights and images.
    pub precision: Precision,
    /// Shape of a batch, `[B, C, H, W]`.
    pub images: [i64; 4],
    /// Version of libtorch.
    pub libtorch: String,
    /// Version of this crate. Another one is accepted.
    pub crate_version: String,
}

impl Setting {
    /// Returns the conditions on a device of this machine, with libtorch's present number of threads.
    ///
    /// The name of a graphics card is that of `nvidia-smi`; without it, "CUDA device" and its index.
    pub fn here(device: Device, precision: Precision, images: [i64; 4]) -> Self {
        let (device, threads) = match device {
            Device::Cuda(index) => (card(index), None),
            Device::Cpu => (processor(), Some(tch::get_num_threads().max(1) as usize)),
            other => (format!("{other:?}"), None),
        };
        let (libtorch, crate_version) = (LIBTORCH.into(), env!("CARGO_PKG_VERSION").into());
        Self { device, threads, precision, images, libtorch, crate_version }
    }

    /// Checks that a model measured under these conditions holds under the `present` ones.
    ///
    /// # Errors
    /// [`LatencyError::Differs`] with the first condition that differs, and both its values.
    pub fn expect(&self, present: &Self) -> Result<()> {
        let threads = |own: &Self| own.threads.map_or("none".into(), |threads| threads.to_string());
        let images = |own: &Self| own.images.map(|length| length.to_string()).join(" × ");
        let conditions = [
            ("device", self.device.clone(), present.device.clone()),
            ("threads", threads(self), threads(present)),
            ("precision", self.precision.name().into(), present.precision.name().into()),
            ("images", images(self), images(present)),
            ("version of libtorch", self.libtorch.clone(), present.libtorch.clone()),
        ];
        match conditions.into_iter().find(|(_, measured, present)| measured != present) {
            None => Ok(()),
            Some((what, measured, present)) => {
                Err(LatencyError::Differs { what, measured, present }.into())
            }
        }
    }
}

/// "Intel(R) Xeon(R) Processor, CPU, batch of 1, f32, 2 threads".
impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, batch of {}, {}", self.device, self.images[0], self.precision.name())?;
        match self.threads {
            Some(1) => write!(f, ", 1 thread"),
            Some(threads) => write!(f, ", {threads} threads"),
            None => Ok(()),
        }
    }
}

/// Name of the processor; the instruction set where the operating system does not tell it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut names =
        text.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = names.next().map(|(_, name)| name.trim().to_owned());
    let asked = || first_line("sysctl", &["-n", "machdep.cpu.brand_string"]);
    name.or_else(asked).unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH))
}

fn card(index: usize) -> String {
    // A process that sees some cards only counts these from 0.
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let own = visible.split(',').nth(index).filter(|own| !own.is_empty());
    let own = own.map_or(index.to_string(), str::to_owned);
    let options = [&format!("--id={own}"), "--query-gpu=name", "--format=csv,noheader"];
    first_line("nvidia-smi", &options).unwrap_or_else(|| format!("CUDA device {index}"))
}

fn first_line(program: &str, options: &[&str]) -> Option<String> {
    let output = Command::new(program).args(options).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
