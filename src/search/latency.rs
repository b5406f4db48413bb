//! Decision under a latency budget: the chosen network is measured before its weights are cut.

use super::builder::SearchBuilder;
use super::consistency;
use super::events::{Event, Listener};
use super::latency_check::{LatencyCheck, LatencyOutcome};
use super::readout::DimensionReadout;
use super::step::Search;
use crate::cost::{CostLimit, CostModel, Metric, Projection};
use crate::latency::{DeviceMeter, LatencyModel, MeasuredLatency, Meter, Setting};
use crate::models::Architecture;
use crate::space::SearchSpace;
use crate::{typed, Error, Result};
use std::sync::Arc;
use tch::Device;

/// Projections that are repeated with a corrected limit.
const CORRECTIONS: usize = 4;
/// Standard errors by which a measured latency may exceed the limit.
const NOISE: f64 = 2.0;

/// Latency of the networks of a search.
#[derive(Debug)]
pub(super) struct SearchLatency<A: Architecture> {
    pub(super) model: LatencyModel,
    /// Meter given by the caller.
    pub(super) meter: Option<Arc<dyn Meter<A>>>,
}

impl<A: Architecture> SearchBuilder<A> {
    /// Latency of the networks, measured with [`LatencyModel::measure`]; a latency budget needs it.
    pub fn latency(mut self, model: LatencyModel) -> Self {
        self.latency = Some(model);
        self
    }

    /// Meter that measures the network that is chosen under a latency budget, before its weights are cut. Default:
    /// the CPU of this machine or the device of the search, whichever the model was measured on; if
    /// neither, nothing is measured.
    pub fn latency_meter(mut self, meter: Arc<dyn Meter<A>>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// The cost model with the latency, checked against the space and the meter.
    pub(super) fn cost_model(&self, space: &SearchSpace) -> Result<CostModel> {
        let Some(latency) = &self.latency else { return Ok(self.architecture.cost_model()) };
        latency.expect_space(space)?;
        if let Some(meter) = &self.meter {
            latency.setting.expect(&meter.setting())?;
        }
        latency.cost_model(&self.architecture)
    }

    /// The latency model, and the meter.
    pub(super) fn latency_parts(&self) -> (Option<&LatencyModel>, Option<&Arc<dyn Meter<A>>>) {
        (self.latency.as_ref(), self.meter.as_ref())
    }
}

impl<A: Architecture> Search<A> {
    /// Returns the latency model, if the search was given one.
    pub fn latency_model(&self) -> Option<&LatencyModel> {
        self.latency.as_ref().map(|own| &own.model)
    }

    /// Takes over the meter of another search, because checkpoints and snapshots have none.
    pub(super) fn measure_with_meter_of(&mut self, other: &Self) {
        if let (Some(own), Some(others)) = (&mut self.latency, &other.latency) {
            own.meter.clone_from(&others.meter);
        }
    }

    /// Projects onto the limits. Where one is a latency, the chosen network is built and measured; if it is slower
    /// than the limit by more than noise, the projection is repeated under what was predicted times asked / measured.
    pub(super) fn project_measured(
        &self,
        readout: &[DimensionReadout],
        listener: &mut dyn Listener,
    ) -> Result<Projection> {
        let mut limits = self.limits.clone();
        let mut projection = self.project_from(readout, &limits)?;
        let Some(at) = lowest_latency(&limits) else { return Ok(projection) };
        let asked_ms = limits[at].limit;
        for correction in 0..=CORRECTIONS {
            let predicted_ms = projection.costs[at];
            let measured = self.measured(&projection)?;
            let outcome = match measured {
                Some(_) => LatencyOutcome::Met,
                None => LatencyOutcome::NotMeasured,
            };
            let mut check =
                LatencyCheck { step: self.step, asked_ms, predicted_ms, measured, outcome };
            let mut smaller = None;
            if let Some(slower) = check.slower(NOISE) {
                limits[at].limit = limits[at].limit.min(predicted_ms) / slower;
                (check.outcome, smaller) = match correction < CORRECTIONS {
                    true => self.chosen_again(readout, &limits)?,
                    false => (LatencyOutcome::CorrectionsUsedUp, None),
                };
            }
            listener.on_event(&Event::Latency(check))?;
            match smaller {
                Some(smaller) => projection = smaller,
                None => break,
            }
        }
        Ok(projection)
    }

    /// Projects onto corrected limits; `None` if no choice of sizes meets them.
    fn chosen_again(
        &self,
        readout: &[DimensionReadout],
        limits: &[CostLimit],
    ) -> Result<(LatencyOutcome, Option<Projection>)> {
        match self.project_from(readout, limits) {
            Ok(smaller) => Ok((LatencyOutcome::ChosenAgain, Some(smaller))),
            Err(Error::Infeasible { .. } | Error::Conflicting { .. }) => {
                Ok((LatencyOutcome::NoSmallerNetwork, None))
            }
            Err(other) => Err(other),
        }
    }

    /// Measures the network of a choice on rank 0; `None` if this is not the device of the model.
    fn measured(&self, projection: &Projection) -> Result<Option<MeasuredLatency>> {
        let own = self.group.on_main_for_long(|goes_on| self.measured_here(projection, goes_on))?;
        if self.group.world_size() == 1 {
            return Ok(own.flatten());
        }
        let json = |error| Error::invalid("measured latency", "serialisable as JSON", error);
        let own = self.group.agree(serde_json::to_vec(&own.flatten()).map_err(json))?;
        let all = self.group.all_gather(&own)?;
        typed::from_json(&all[0]).map_err(|error| Error::invalid("measured latency", "JSON", error))
    }

    fn measured_here(
        &self,
        projection: &Projection,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<Option<MeasuredLatency>> {
        let Some(SearchLatency { model, meter }) = &self.latency else { return Ok(None) };
        let meter: Arc<dyn Meter<A>> = match meter {
            Some(meter) => Arc::clone(meter),
            None => match meter_of(&model.setting, self.supernet.device())? {
                Some(meter) => Arc::new(meter),
                None => return Ok(None),
            },
        };
        let network = self.supernet.architecture().resized(&self.sizes_of(projection))?;
        let dense = consistency::origin::<A>(&self.origin)?.architecture;
        model.check(&*meter, &dense, &network, goes_on).map(Some)
    }
}

/// Returns which of the limits is the lowest of a latency.
pub(super) fn lowest_latency(limits: &[CostLimit]) -> Option<usize> {
    let latencies = limits.iter().enumerate().filter(|(_, own)| own.metric == Metric::Latency);
    latencies.min_by(|(_, left), (_, right)| left.limit.total_cmp(&right.limit)).map(|(at, _)| at)
}

/// Returns the meter of this machine's CPU, or of the device of the search, if it has the conditions of the
/// model.
fn meter_of(setting: &Setting, device: Device) -> Result<Option<DeviceMeter>> {
    let Setting { precision, images, .. } = *setting;
    for device in [Device::Cpu, device] {
        // A card without a name is not that of the model, which has one.
        let here = Setting::here(device, precision, images);
        if here.is_ok_and(|here| setting.expect(&here).is_ok()) {
            return DeviceMeter::new(device, precision, images).map(Some);
        }
    }
    Ok(None)
}
