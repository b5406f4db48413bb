//! Memory that a device has in use, by `nvidia-smi`: tch does not bind libtorch's own statistics.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{sleep, spawn, JoinHandle};
use std::time::Duration;

/// Pause between two readings. A reading itself takes about as long.
const PAUSE: Duration = Duration::from_millis(50);

/// Memory in use on the whole device, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Before the process began.
    pub before: u64,
    /// The largest reading.
    pub most: u64,
}

/// Readings while a process runs.
pub struct Watch {
    stop: Arc<AtomicBool>,
    readings: Option<JoinHandle<Option<Peak>>>,
}

impl Watch {
    /// Starts to read; does nothing for the CPU.
    pub fn start(device: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let index = index(device);
        let readings = index.map(|index| {
            let before = read(&index);
            let stopped = Arc::clone(&stop);
            spawn(move || {
                let mut peak = before.map(|before| Peak { before, most: before })?;
                while !stopped.load(Ordering::Relaxed) {
                    peak.most = peak.most.max(read(&index).unwrap_or(0));
                    sleep(PAUSE);
                }
                Some(peak)
            })
        });
        Self { stop, readings }
    }

    /// Ends the readings; `None` for the CPU, and where there is no `nvidia-smi`.
    pub fn end(self) -> Option<Peak> {
        self.stop.store(true, Ordering::Relaxed);
        self.readings?.join().ok()?
    }
}

/// Index of a CUDA device as `nvidia-smi` counts them.
pub fn index(device: &str) -> Option<String> {
    let index = device.strip_prefix("cuda")?.trim_start_matches(':');
    let index = if index.is_empty() { "0" } else { index };
    // A program sees the devices of this list alone, counted from 0.
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let named = index.parse().ok().and_then(|place: usize| visible.split(',').nth(place));
    Some(named.map(str::trim).filter(|name| !name.is_empty()).unwrap_or(index).to_owned())
}

/// Answers of `nvidia-smi` to a query for one device; `None` without it.
pub fn query(index: &str, fields: &str) -> Option<Vec<String>> {
    let output = Command::new("nvidia-smi")
        .args([&format!("--query-gpu={fields}"), "--format=csv,noheader,nounits", "-i", index])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?;
    output.status.success().then(|| line.split(',').map(|field| field.trim().to_owned()).collect())
}

fn read(index: &str) -> Option<u64> {
    query(index, "memory.used")?.first()?.parse().ok()
}
