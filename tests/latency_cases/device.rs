//! A device whose latency is a function of the sizes, with steps, noise and drift.

use crate::support::TestResult;
use once_for_both::latency::{LatencyModel, MeasureOptions, Meter, Setting, Timer};
use once_for_both::models::BlockConfig;
use once_for_both::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// Times are those of [`milliseconds`], disturbed.
#[derive(Debug)]
pub struct SyntheticDevice {
    pub name: &'static str,
    /// Largest share of the machine's slow change of speed.
    pub drift: f64,
    /// Largest share of the noise of a visit; one in seventeen visits takes half as long again.
    pub noise: f64,
    /// Factor on the latency of every network smaller than the dense one.
    pub slower: f64,
    pub visits: AtomicU64,
}

impl SyntheticDevice {
    pub fn quiet() -> Self {
        let visits = AtomicU64::new(0);
        Self { name: "synthetic", drift: 0.0, noise: 0.0, slower: 1.0, visits }
    }

    pub fn noisy() -> Self {
        Self { drift: 0.2, noise: 0.02, ..Self::quiet() }
    }

    fn disturbed(&self, milliseconds: f64) -> f64 {
        let visit = self.visits.fetch_add(1, Ordering::Relaxed);
        let random: f64 = ChaCha8Rng::seed_from_u64(visit).random();
        let drift = 1.0 + self.drift * (visit as f64 / 150.0).sin();
        let outlier = if self.noise > 0.0 && visit % 17 == 3 { 1.5 } else { 1.0 };
        milliseconds * drift * outlier * (1.0 + self.noise * (2.0 * random - 1.0))
    }
}

impl Meter<VitConfig> for SyntheticDevice {
    fn setting(&self) -> Setting {
        Setting {
            device: self.name.into(),
            threads: Some(2),
            precision: Precision::F32,
            images: [1, 3, 32, 32],
            libtorch: "2".into(),
            crate_version: "0".into(),
        }
    }

    fn prepare(&self, network: &VitConfig) -> once_for_both::Result<Timer<'_>> {
        let slower = if *network == vit() { 1.0 } else { self.slower };
        let own = slower * milliseconds(network);
        Ok(Box::new(move || Ok(self.disturbed(own))))
    }
}

/// The dense network.
pub fn vit() -> VitConfig {
    VitConfig::uniform(64, 4, 4).input(32, 3, 8).classes(10)
}

/// Latency of a network on the undisturbed device: widths count in multiples of 8 and 32, and a branch costs something
/// however small it is.
pub fn milliseconds(network: &VitConfig) -> f64 {
    let padded = |width: i64, of: i64| ((width + of - 1) / of * of) as f64;
    let embed = padded(network.embed_dim, 8);
    let block = |own: &BlockConfig| {
        // Queries and keys, and values and output projection.
        let widths = [own.qk_dim.unwrap_or(own.head_dim), own.head_dim].map(|own| padded(own, 8));
        let attention = embed * own.heads as f64 * (widths[0] + widths[1]) * 5e-4;
        let present = f64::from(u8::from(own.has_attention()) + u8::from(own.has_mlp()));
        let mlp = embed * padded(own.hidden_dim, 32) * 2e-4;
        0.15 * present + attention + 0.2 * own.heads as f64 + mlp
    };
    2.0 + 0.01 * embed + network.blocks.iter().map(block).sum::<f64>()
}

/// The model of a device.
pub fn measured(device: &SyntheticDevice) -> TestResult<LatencyModel> {
    let options = MeasureOptions { networks: 60, ..MeasureOptions::default() };
    let vit = vit();
    Ok(LatencyModel::measure(&vit, &vit.space()?, device, &options, &mut |_| Ok(()))?)
}

/// The model of the quiet device, measured once.
pub fn quiet() -> TestResult<LatencyModel> {
    static MODEL: OnceLock<Result<LatencyModel, String>> = OnceLock::new();
    let measure = || measured(&SyntheticDevice::quiet()).map_err(|error| error.to_string());
    Ok(MODEL.get_or_init(measure).clone()?)
}

/// The model of the device with noise and drift, measured once.
pub fn noisy() -> TestResult<LatencyModel> {
    static MODEL: OnceLock<Result<LatencyModel, String>> = OnceLock::new();
    let measure = || measured(&SyntheticDevice::noisy()).map_err(|error| error.to_string());
    Ok(MODEL.get_or_init(measure).clone()?)
}
