//! Conditions of a latency measurement.

use crate::error::LatencyError;
use crate::precision::Precision;
use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    /// The name of a graphics card is that of `nvidia-smi`; of a CPU, the one in `/proc/cpuinfo`: on Arm, which has no
    /// names there, the board, and the implementer and part of its cores.
    ///
    /// # Errors
    /// [`LatencyError::Unnamed`] for a graphics card that `nvidia-smi` does not name.
    pub fn here(device: Device, precision: Precision, images: [i64; 4]) -> Result<Self> {
        let (device, threads) = match device {
            Device::Cuda(index) => (card(index)?, None),
            Device::Cpu => (processor(), Some(tch::get_num_threads().max(1) as usize)),
            other => (format!("{other:?}"), None),
        };
        let (libtorch, crate_version) = (LIBTORCH.into(), env!("CARGO_PKG_VERSION").into());
        Ok(Self { device, threads, precision, images, libtorch, crate_version })
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
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let name = named(&read("/proc/cpuinfo"), &read("/proc/device-tree/model"));
    let asked = || first_line("sysctl", &["-n", "machdep.cpu.brand_string"]);
    name.or_else(asked).unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH))
}

/// Name of the processor in the text of `/proc/cpuinfo`. On Arm: the board, if it has a name, and the kinds of cores.
fn named(cpuinfo: &str, board: &str) -> Option<String> {
    let values = |name: &'static str| {
        let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.filter(move |(own, _)| own.trim() == name).map(|(_, value)| value.trim())
    };
    if let Some(name) = values("model name").find(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let cores: BTreeSet<String> = values("CPU implementer")
        .zip(values("CPU part"))
        .map(|(implementer, part)| format!("implementer {implementer} part {part}"))
        .collect();
    // The text of a device tree ends with a zero byte.
    let board = board.trim_matches(['\0', '\n', ' ']);
    let board = Some(board.to_owned()).filter(|board| !board.is_empty());
    let parts: Vec<String> = board.into_iter().chain(cores).collect();
    (!parts.is_empty()).then(|| format!("{} CPU, {}", std::env::consts::ARCH, parts.join(", ")))
}

fn card(index: usize) -> Result<String> {
    const NAMES: [&str; 2] = ["--query-gpu=name", "--format=csv,noheader"];
    let variable = |name| std::env::var(name).unwrap_or_default();
    let all = lines("nvidia-smi", &NAMES).unwrap_or_default();
    let [visible, order] = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"].map(variable);
    let id = format!("--id={}", card_id(index, &visible, &order, &all)?);
    let name = first_line("nvidia-smi", &[&id, NAMES[0], NAMES[1]]);
    name.ok_or_else(|| LatencyError::Unnamed { index }.into())
}

/// Returns by which number or UUID nvidia-smi knows a card of this process. It numbers cards by their place on the bus; CUDA
/// the faster ones first, unless the variable of its `order` says otherwise.
fn card_id(
    index: usize,
    visible: &str,
    order: &str,
    names: &[String],
) -> Result<String, LatencyError> {
    // A process that sees some cards only counts these from 0.
    let own = visible.split(',').map(str::trim).nth(index).filter(|own| !own.is_empty());
    let own = own.map_or(index.to_string(), str::to_owned);
    let differ = names.windows(2).any(|pair| pair[0] != pair[1]);
    if differ && order != "PCI_BUS_ID" && own.parse::<usize>().is_ok() {
        return Err(LatencyError::CardOrder { index, names: names.join(", ") });
    }
    Ok(own)
}

fn first_line(program: &str, options: &[&str]) -> Option<String> {
    lines(program, options)?.into_iter().next().filter(|line| !line.is_empty())
}

/// Lines that a program prints; `None` if it fails.
fn lines(program: &str, options: &[&str]) -> Option<Vec<String>> {
    let output = Command::new(program).args(options).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(|line| line.trim().to_owned()).collect();
    output.status.success().then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::{card_id, named};

    #[test]
    fn card_among_cards_of_several_names_is_known_by_its_number_in_the_order_of_the_bus_alone() {
        let names = ["Card A", "Card B"].map(String::from);
        let id = |index, visible, order, names: &[String]| {
            card_id(index, visible, order, names).map_err(|error| error.to_string())
        };
        assert_eq!(id(1, "3, 1", "", &names[..1]).as_deref(), Ok("1"));
        assert_eq!(id(1, "", "PCI_BUS_ID", &names).as_deref(), Ok("1"));
        assert_eq!(id(0, "GPU-5a, GPU-6b", "", &names).as_deref(), Ok("GPU-5a"));
        assert_eq!(id(0, "", "", &[]).as_deref(), Ok("0"), "without nvidia-smi");
        for visible in ["", "1"] {
            let refused = id(0, visible, "FASTEST_FIRST", &names).err().unwrap_or_default();
            assert!(refused.contains("Card A, Card B") && refused.contains("CUDA_DEVICE_ORDER"));
        }
    }

    #[test]
    fn processor_without_a_model_name_is_named_by_board_and_kinds_of_cores() {
        let arm =
            |part: &str| format!("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n");
        let [little, big] = ["0xd03", "0xd08"].map(arm);
        let [one, both] = [named(&little, ""), named(&format!("{little}{little}{big}"), "")];
        assert!(
            one.as_ref().is_some_and(|one| one.ends_with("CPU, implementer 0x41 part 0xd03")),
            "{one:?}"
        );
        assert!(
            both.as_ref().is_some_and(|both| both.ends_with("0xd03, implementer 0x41 part 0xd08")),
            "{both:?}"
        );
        let board = named(&little, "Board 4\0");
        assert!(
            board.as_ref().is_some_and(|own| own.contains("CPU, Board 4, implementer")),
            "{board:?}"
        );
        assert_eq!(named("model name\t: Processor 7\n", "Board").as_deref(), Some("Processor 7"));
        assert_eq!(named("processor\t: 0\n", ""), None);
    }
}
