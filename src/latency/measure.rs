//! Measurement of a latency model.

use super::design::{design, Design, Planned};
use super::fit::{fit, Measured};
use super::groups::{classes, Class};
use super::meter::{Meter, Timer};
use super::model::{Findings, MeasuredNetwork};
use super::ratio::Ratios;
use super::{median, LatencyModel};
use crate::error::LatencyError;
use crate::models::Architecture;
use crate::range::Range;
use crate::space::{SearchSpace, Size, Sizes};
use crate::{Error, Result};
use std::fmt::Display;
use std::time::Instant;

/// Networks that are in memory at a time, beside the dense one, and are timed in turn.
const TOGETHER: usize = 6;
/// Networks that are visited between two visits of the dense one.
const BETWEEN: usize = 2;
/// Latency of a planned network as a share of the dense one's, about, on average.
const SHARE: f64 = 0.6;
/// Fewest visits of a network.
const FEWEST_ROUNDS: usize = 3;
/// Fewest networks.
const FEWEST_NETWORKS: usize = 24;
/// The fit stores covariances in proportion to the square of them, and factorises such a matrix.
const NETWORKS: Range<usize> = Range::closed(1, 500);
const ROUNDS: Range<usize> = Range::closed(1, 10_000);
const SECONDS: Range<f64> = Range::above(0.0, 1e6);
const ERROR: Range<f64> = Range::above(0.0, 1e3);

/// Effort of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasureOptions {
    /// Networks to measure, beside the dense one, 1 to 500; one in five, and at least one, is held out to estimate the
    /// error. Where the networks at the ends of every dimension are more, all of these are measured.
    pub networks: usize,
    /// Visits of each network, each beside one of the dense network.
    pub rounds: usize,
    /// Wall time in seconds. Where it is short, networks are visited less often, down to three times; then fewer are
    /// measured, down to 24, or as many as contain the ends of every dimension (61 of a Swin with depth and with queries and
    /// keys apart). These are measured however long it takes. The fit comes after.
    pub seconds: f64,
    /// Largest median error of the predictions for the networks that are held out, a share. A model that is worse is
    /// refused: other programs ran, for example.
    pub most_error: f64,
    /// Seed of the choice of networks.
    pub seed: u64,
}

impl Default for MeasureOptions {
    /// 100 networks, 7 visits each, in at most about 270 seconds; a median error of at most 5 %.
    fn default() -> Self {
        Self { networks: 100, rounds: 7, seconds: 270.0, most_error: 0.05, seed: 0 }
    }
}

impl MeasureOptions {
    /// Refuses options out of range.
    pub(crate) fn check(&self) -> Result<()> {
        NETWORKS.check("networks", self.networks)?;
        ROUNDS.check("rounds", self.rounds)?;
        ERROR.check("most_error", self.most_error)?;
        SECONDS.check("seconds", self.seconds)
    }
}

/// Progress of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasureProgress {
    /// Networks measured so far.
    pub measured: usize,
    /// Networks to measure.
    pub networks: usize,
    /// Seconds since the beginning.
    pub seconds: f64,
    /// Median latency of the dense network in the last rounds, in milliseconds.
    pub dense_ms: f64,
}

/// "measured 12 of 100 networks in 31 s; dense network 42.1 ms".
impl Display for MeasureProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { measured, networks, seconds, dense_ms } = self;
        write!(
            f,
            "measured {measured} of {networks} networks in {seconds:.0} s; dense network {dense_ms:.3} ms"
        )
    }
}

/// Networks with their measured ratios, and what the dense network took meanwhile.
#[derive(Default)]
struct Rounds {
    networks: Vec<(Measured, bool)>,
    /// Median latency of the dense network in every part of the measurement.
    dense: Vec<f64>,
}

impl LatencyModel {
    /// Measures the latency of a network on the device of `meter`.
    ///
    /// Networks of chosen sizes are timed in turn with the dense network, a few at a time. What counts is the ratio to the
    /// dense network just before and after, so that a change of the machine's speed does not: its median over the half of
    /// the rounds in which the dense network's latency changed least. One network in five is left out at first; the error of its prediction is the
    /// error estimate of the model. Then all are fitted.
    ///
    /// `progress` is called after every few networks; its error ends the measurement.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for an architecture that cannot be
    /// [resized](Architecture::resized); [`Error::Invalid`](crate::Error::Invalid) for options out of range, and for a
    /// space without a dimension of two candidates;
    /// [`LatencyError::NotPositive`] for a time that is not a positive number; [`LatencyError::Inaccurate`] for
    /// a model with a larger error than is allowed; those of the meter and of `progress`.
    pub fn measure<A: Architecture>(
        architecture: &A,
        space: &SearchSpace,
        meter: &dyn Meter<A>,
        options: &MeasureOptions,
        progress: &mut dyn FnMut(&MeasureProgress) -> Result<()>,
    ) -> Result<Self> {
        options.check()?;
        expect_choice(space)?;
        let classes = classes(&architecture.cost_model(), space)?;
        let rounds = measure_all(architecture, space, &classes, meter, options, progress)?;
        let findings = findings(space, &classes, rounds)?;
        let model = Self::new(architecture, meter.setting(), findings)?;
        model.expect_accurate(options.most_error)?;
        Ok(model)
    }
}

/// Refuses a space in which no dimension has two candidates: its networks are all the dense one.
fn expect_choice(space: &SearchSpace) -> Result<()> {
    if space.dimensions.iter().any(|own| own.candidates.len() > 1) {
        return Ok(());
    }
    let names = space.dimensions.iter().map(|own| format!("one candidate of {}", own.name));
    let actual = match space.dimensions.is_empty() {
        true => "no dimension".into(),
        false => names.collect::<Vec<_>>().join(", "),
    };
    let expected = "a dimension with two candidates, to measure what their sizes cost; give a space with a choice";
    Err(Error::invalid("search space of the latency model", expected, actual))
}

fn measure_all<A: Architecture>(
    architecture: &A,
    space: &SearchSpace,
    classes: &[Class],
    meter: &dyn Meter<A>,
    options: &MeasureOptions,
    progress: &mut dyn FnMut(&MeasureProgress) -> Result<()>,
) -> Result<Rounds> {
    // The first call of a process loads libraries, and on a card makes its context.
    visited(&meter.prepare(architecture)?, "the dense network")?;
    let start = Instant::now();
    let seconds = || start.elapsed().as_secs_f64();
    let dense = meter.prepare(architecture)?;
    let built = seconds();
    visited(&dense, "the dense network")?;
    // Of a network and its share of those of the dense one.
    let visit = (seconds() - built) * (SHARE + 1.0 / BETWEEN as f64);
    let each = options.seconds / options.networks as f64;
    let rounds = ((each - built) / visit.max(1e-9)) as usize;
    let rounds = rounds.clamp(FEWEST_ROUNDS.min(options.rounds), options.rounds);
    let affordable = (options.seconds / (built + visit * rounds as f64).max(1e-9)) as usize;
    let least = FEWEST_NETWORKS.min(options.networks);
    let count = affordable.clamp(least, options.networks);
    let Design { networks: plan, least: ends } = design(space, classes, count, options.seed);
    let least = least.max(ends);
    let mut all = Rounds::default();
    for some in plan.chunks(TOGETHER) {
        if seconds() > options.seconds && all.networks.len() >= least {
            break;
        }
        all.add(architecture, space, meter, &dense, some, rounds)?;
        let dense_ms = all.dense.last().copied().unwrap_or(f64::NAN);
        let (measured, networks) = (all.networks.len(), plan.len());
        progress(&MeasureProgress { measured, networks, seconds: seconds(), dense_ms })?;
    }
    Ok(all)
}

impl Rounds {
    /// Times some networks in alternating rounds with the dense network.
    fn add<A: Architecture>(
        &mut self,
        architecture: &A,
        space: &SearchSpace,
        meter: &dyn Meter<A>,
        dense: &Timer,
        some: &[Planned],
        rounds: usize,
    ) -> Result<()> {
        let prepare =
            |own: &Planned| meter.prepare(&architecture.resized(&named(space, &own.sizes))?);
        let timers: Vec<Timer> = some.iter().map(prepare).collect::<Result<_>>()?;
        let mut ratios = vec![Ratios::default(); some.len()];
        let mut of_dense = vec![visited(dense, "the dense network")?];
        for _ in 0..rounds {
            for first in (0..some.len()).step_by(BETWEEN) {
                let group = first..some.len().min(first + BETWEEN);
                let mut times = Vec::new();
                for at in group.clone() {
                    times.push(visited(&timers[at], &in_words(space, &some[at].sizes))?);
                }
                let before = of_dense[of_dense.len() - 1];
                let after = visited(dense, "the dense network")?;
                of_dense.push(after);
                for ((at, time), number) in group.zip(&times).zip(1..) {
                    let share = f64::from(number) / (times.len() + 1) as f64;
                    ratios[at].add(*time, [before, after], share);
                }
            }
        }
        self.dense.push(median(of_dense));
        self.networks.extend(some.iter().zip(ratios).map(|(own, ratios)| {
            (Measured { sizes: own.sizes.clone(), ratio: ratios.median().0 }, own.held_out)
        }));
        Ok(())
    }
}

fn findings(space: &SearchSpace, classes: &[Class], rounds: Rounds) -> Result<Findings> {
    let Rounds { networks, dense } = rounds;
    let dense_network =
        space.dimensions.iter().map(|dimension| dimension.candidates.full()).collect();
    let dense_network = Measured { sizes: dense_network, ratio: 1.0 };
    let (least, most) = dense
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), own| (least.min(*own), most.max(*own)));
    let dense_ms = median(dense);
    let of = |held_out: bool| networks.iter().filter(move |(_, own)| *own == held_out || !*own);
    let measured = |held_out: bool| -> Vec<Measured> {
        let own = of(held_out).map(|(own, _)| own.clone());
        own.chain([dense_network.clone()]).collect()
    };
    let first = fit(space, classes, &measured(false), dense_ms)?;
    let cost = fit(space, classes, &measured(true), dense_ms)?;
    let compared = |(own, held_out): &(Measured, bool)| {
        let by = if *held_out { &first } else { &cost };
        let sizes = named(space, &own.sizes);
        Ok(MeasuredNetwork {
            measured_ms: own.ratio * dense_ms,
            predicted_ms: by.evaluate(&sizes)?,
            held_out: *held_out,
            sizes,
        })
    };
    let networks = networks.iter().map(compared).collect::<Result<_>>()?;
    let units = space.dimensions.iter().map(|own| (own.name.clone(), own.channels_per_unit()));
    let channels_per_unit = units.filter(|(_, channels)| *channels > 1).collect();
    Ok(Findings { dense_ms, cost, channels_per_unit, drift: most / least - 1.0, networks })
}

pub(super) fn visited(timer: &Timer, network: &str) -> Result<f64> {
    let milliseconds = timer()?;
    match milliseconds.is_finite() && milliseconds > 0.0 {
        true => Ok(milliseconds),
        false => Err(LatencyError::NotPositive { network: network.into(), milliseconds }.into()),
    }
}

fn named(space: &SearchSpace, sizes: &[Size]) -> Sizes {
    let names = space.dimensions.iter().map(|dimension| dimension.name.clone());
    names.zip(sizes.iter().copied()).collect()
}

fn in_words(space: &SearchSpace, sizes: &[Size]) -> String {
    let own = named(space, sizes);
    own.iter().map(|(name, size)| format!("{name} {size}")).collect::<Vec<_>>().join(", ")
}
