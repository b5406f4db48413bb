//! The latency model of a run: measured before the first step where a latency is limited.

use super::run_folder::is_saved;
use super::{Command, ImageClassifier, Pipeline, Progress};
use crate::device;
use crate::latency::{DeviceMeter, LatencyModel, MeasureOptions, Meter};
use crate::precision::Precision;
use crate::range::Range;
use crate::search::{Event, LatencyCheck};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Section `[latency]`: how latency is measured where `budget.latency` limits it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyConfig {
    /// Device: `cpu`, `cuda`, `cuda:N` or `auto`. Default: that of the run.
    pub device: Option<String>,
    /// Images of a batch.
    pub batch: i64,
    /// Type of weights and images.
    pub precision: Precision,
    /// Networks to measure.
    pub networks: usize,
    /// Wall time of the measurement, in seconds; at least 24 networks, or all, are measured however long it takes.
    pub seconds: f64,
    /// Largest median error of the model's predictions, a share; one that is worse is refused, measured or given.
    pub most_error: f64,
    /// Latency model that was measured before (`deit_s latency`), in place of a measurement.
    pub model: Option<PathBuf>,
    /// Whether `model`, or the model in the run folder, may be of another device, number of threads, precision, batch
    /// or libtorch; the subnet is then not measured. May differ when a run is resumed.
    pub elsewhere: bool,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        let MeasureOptions { networks, seconds, most_error, .. } = MeasureOptions::default();
        Self {
            device: None,
            batch: 1,
            precision: Precision::F32,
            networks,
            seconds,
            most_error,
            model: None,
            elsewhere: false,
        }
    }
}

impl LatencyConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses options out of range.
    pub(super) fn check(&self) -> Result<()> {
        Range::closed(1, 1 << 20).check("latency.batch", self.batch)?;
        self.options().check().map_err(|error| error.of_section("latency"))
    }

    fn options(&self) -> MeasureOptions {
        let Self { networks, seconds, most_error, .. } = *self;
        MeasureOptions { networks, seconds, most_error, ..MeasureOptions::default() }
    }
}

/// Latency of the subnet against its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Conditions, in words.
    pub setting: String,
    /// Latency of the dense network, in milliseconds of a batch.
    pub dense_ms: f64,
    /// The last choice of sizes: what was asked, predicted and measured, and the outcome.
    #[serde(flatten)]
    pub check: LatencyCheck,
    /// Median and 95th percentile of the model's own error estimate.
    pub error: [f64; 2],
}

impl LatencySummary {
    /// Returns the last check of the latency among the events of a search.
    pub(super) fn of(model: Option<&LatencyModel>, events: &[Event]) -> Option<Self> {
        let model = model?;
        let check = events.iter().rev().find_map(|event| match event {
            Event::Latency(check) => Some(*check),
            _ => None,
        })?;
        let (setting, dense_ms) = (model.setting.to_string(), model.dense_ms);
        Some(Self { setting, dense_ms, check, error: [model.error.median, model.error.p95] })
    }
}

/// One line: what was asked, predicted and measured, and the outcome.
impl Display for LatencySummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LatencyCheck { asked_ms, predicted_ms, measured, outcome, .. } = self.check;
        write!(
            f,
            "latency asked {asked_ms:.3} ms, subnet predicted {predicted_ms:.3} ms, measured "
        )?;
        match measured {
            Some(own) => write!(f, "{:.3} ± {:.3} ms", own.ms, own.standard_error)?,
            None => write!(f, "not on this device")?,
        }
        write!(f, "; {outcome}; dense network {:.3} ms ({})", self.dense_ms, self.setting)
    }
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Measures a latency model of a network under the conditions of section `[latency]`. `goes_on` is called
    /// while it is measured.
    ///
    /// # Errors
    /// Those of [`LatencyModel::measure`], of the device's name, and of `goes_on`.
    pub fn measure_latency(
        &self,
        network: &A,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<LatencyModel> {
        let options = self.config.latency.options();
        let space = self.config.space.measured(network)?;
        let network = &self.config.space.searched(network)?;
        LatencyModel::measure(network, &space, &self.meter()?, &options, &mut |progress| {
            self.show(&Progress::Latency(progress));
            goes_on()
        })
    }

    /// Makes sure, on rank 0, that the run folder has the latency model of the dense network, where a latency is
    /// limited: as given, or else measured now. Refuses a limit that no choice of sizes meets. Returns whether the run
    /// goes on: the stop flag ends a measurement.
    pub(super) fn ensure_latency(&self, dense: &A) -> Result<bool> {
        let searches = matches!(self.config.command, None | Some(Command::Search));
        if self.config.budget.latency.is_none() || !searches {
            return Ok(true);
        }
        let stopped = || self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
        let ensured = self.group.on_main_for_long(|goes_on| {
            if let Some(known) = self.latency_model()? {
                return self.expect_latency_model(&known, dense).map(|()| true);
            }
            let or_stopped = || match stopped() {
                true => Err(Error::invalid("latency", "measured to the end", "the stop flag")),
                false => goes_on(),
            };
            let model = match &self.config.latency.model {
                Some(given) => LatencyModel::read(given)?,
                None => match self.measure_latency(dense, &or_stopped) {
                    Err(_) if stopped() => return Ok(false),
                    measured => measured?,
                },
            };
            self.expect_latency_model(&model, dense)?;
            model.write(self.run.latency())?;
            Ok(true)
        });
        if !self.group.main_says(ensured?.unwrap_or_default())? {
            return Ok(false);
        }
        // Now that the latency is known, the budget can be refused before the first step.
        let checked =
            self.search_options().and_then(|own| self.search_of(dense)?.options(own).check());
        self.group.agree(checked)?;
        Ok(true)
    }

    /// Checks that a model is of this network, is as accurate as section `[latency]` asks, and was measured under its
    /// conditions, unless it may be of another device.
    fn expect_latency_model(&self, model: &LatencyModel, dense: &A) -> Result<()> {
        model.expect_architecture(&self.config.space.searched(dense)?)?;
        // A subnet that is written was chosen and measured; nothing is measured after it.
        if is_saved(&self.run.subnet()) {
            return Ok(());
        }
        model.expect_accurate(self.config.latency.most_error)?;
        let Some(meter) = self.meter_here()? else { return Ok(()) };
        model.setting.expect(&Meter::<A>::setting(&meter))
    }

    /// Checks, before anything is written, that a latency that is limited can be measured.
    pub(super) fn expect_measurable(&self) -> Result<()> {
        let LatencyConfig { model, elsewhere, .. } = &self.config.latency;
        let known = self.latency_model()?.is_some() || model.is_some() && *elsewhere;
        if self.config.budget.latency.is_none() || known || !self.group.is_main() {
            return Ok(());
        }
        self.meter().map(drop)
    }

    /// The meter of rank 0, which measures what is chosen; `None` where the model may be of another device, or a subnet
    /// is written already.
    pub(super) fn meter_here(&self) -> Result<Option<DeviceMeter>> {
        let elsewhere = self.config.latency.elsewhere || is_saved(&self.run.subnet());
        match elsewhere || !self.group.is_main() {
            true => Ok(None),
            false => self.meter().map(Some),
        }
    }

    /// The latency model in the run folder; `None` if there is none, or no latency is limited.
    pub(super) fn latency_model(&self) -> Result<Option<LatencyModel>> {
        match (&self.config.budget.latency, self.run.latency()) {
            (Some(_), path) if path.is_file() => LatencyModel::read(&path).map(Some),
            _ => Ok(None),
        }
    }

    /// The meter of section `[latency]`.
    fn meter(&self) -> Result<DeviceMeter> {
        let own = &self.config.latency;
        let device = match &own.device {
            Some(name) => device::parse(name).map_err(|error| error.of_section("latency"))?,
            None => self.feed.device(),
        };
        let [channels, height, width] = self.feed.image_shape();
        DeviceMeter::new(device, own.precision, [own.batch, channels, height, width])
    }
}
