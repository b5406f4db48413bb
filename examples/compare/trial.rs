//! Search, fine-tuning and measurement of one row.

use crate::bench::{Bench, CALIBRATION};
use crate::family::Compared;
use crate::methods::Named;
use crate::options::Limit;
use crate::plan::Run;
use crate::protocol::Protocol;
use crate::row::{Point, Row};
use crate::scaled::ScaledLoss;
use crate::start::{draw_sizes, measure_sensitivity, Start};
use crate::AnyError;
use once_for_both::batch::BatchSource;
use once_for_both::cost::Metric;
use once_for_both::pipeline::Judgement;
use once_for_both::search::{Event, Phase, Search, SearchBuilder, SearchOptions};
use once_for_both::space::{DimensionKind, SearchSpace};
use once_for_both::Result;
use std::time::{Duration, Instant};

/// A search under measurement.
struct Trial<'a, A: Compared> {
    bench: &'a Bench<A>,
    run: &'a Run,
    search: Search<ScaledLoss<A>>,
    searched: Vec<Duration>,
    /// Times of plain training steps.
    plain: Vec<Duration>,
    /// Largest change of a logit by a prune step, as a share of the largest logit.
    jump: f64,
}

impl<A: Compared> Bench<A> {
    /// Returns the search of a run, not built yet.
    pub fn builder(&self, run: &Run) -> Result<SearchBuilder<ScaledLoss<A>>, AnyError> {
        let (network, factor) = (self.network.clone(), run.protocol.loss_scale);
        let builder = Search::of(ScaledLoss { network, factor })
            .space(self.space(&run.protocol)?)
            .weights(&self.weights)
            .budget(self.budget(run.budget))
            .options(run.search_options()?)
            .components(run.method.components())
            .device(self.device);
        Ok(match &self.latency {
            Some(model) if self.limit == Limit::Latency => builder.latency(model.clone()),
            _ => builder,
        })
    }

    /// Returns what a run may choose from.
    fn space(&self, protocol: &Protocol) -> Result<SearchSpace> {
        let space = self.network.space()?;
        let least = protocol.least_hidden.unwrap_or(0.0);
        let space = space.at_least_share(DimensionKind::Hidden, least)?;
        Ok(if protocol.depth { space.removable_branches() } else { space })
    }

    /// Searches, fine-tunes and measures.
    pub fn search_and_finetune(&self, run: &Run) -> Result<Row, AnyError> {
        let mut trial = Trial::new(self, run)?;
        let start = Start::of(&trial.search)?;
        trial.search()?;
        let mut curve = trial.finetune()?;
        let Trial { search, searched, plain, jump, .. } = &mut trial;
        let subnet = search.extract(&self.feed.calibration_batch(CALIBRATION)?)?;
        let judged = self.feed.judge(|images| subnet.predict(images))?;
        let after = search.steps_done() - searched.len() as u64;
        curve.push(Point::new(after, &judged));
        Ok(Row {
            macs: subnet.macs()? / self.network.cost_model().dense_cost(Metric::Macs)?,
            latency: self.latency_of(&search.supernet().sizes())?,
            sizes: search.supernet().sizes(),
            curve,
            search_seconds: searched.iter().sum::<Duration>().as_secs_f64(),
            step_ratio: mean(searched).zip(mean(plain)).map(|(search, plain)| search / plain),
            jump: *jump,
            start_bias: start.bias(search),
            nll: judged.nll.into(),
            ..Row::of(run)
        })
    }
}

impl<'a, A: Compared> Trial<'a, A> {
    /// Builds the search of a run.
    fn new(bench: &'a Bench<A>, run: &'a Run) -> Result<Self, AnyError> {
        let mut search = bench.builder(run)?.build()?;
        match run.method {
            Named::RandomSizes => draw_sizes(&mut search, run)?,
            Named::Sensitivity => measure_sensitivity(&mut search, bench.batches(run)?)?,
            _ => {}
        }
        Ok(Self { bench, run, search, searched: Vec::new(), plain: Vec::new(), jump: 0.0 })
    }

    /// Steps until the search ends, and times plain training steps in between.
    fn search(&mut self) -> Result<()> {
        let mut batches = self.bench.batches(self.run)?;
        let interval = self.run.protocol.plain_interval;
        let mut plain = self.plain_training()?;
        while self.search.phase() == Phase::Search {
            let step = self.search.steps_done();
            let batch = [batches.batch(step)?];
            let started = Instant::now();
            let jump = &mut self.jump;
            let mut listener = |event: &Event| {
                if let Event::Pruned(pruned) = event {
                    *jump = jump.max(pruned.total_jump / pruned.logit_scale);
                }
                Ok(())
            };
            self.search.step(&batch, &mut listener)?;
            self.searched.push(started.elapsed());
            if interval > 0 && step.is_multiple_of(interval) {
                let started = Instant::now();
                plain.step(&batch, &mut ())?;
                self.plain.push(started.elapsed());
            }
        }
        Ok(())
    }

    /// Steps to the end, and measures at the points of the curve that lie before it.
    fn finetune(&mut self) -> Result<Vec<Point>> {
        let mut batches = self.bench.batches(self.run)?;
        let (decided, total) = (self.search.steps_done(), self.run.protocol.total_steps());
        let mut curve = Vec::new();
        let points = self.run.protocol.curve.iter().map(|after| decided + after);
        for at in points.filter(|&at| at < total).chain([total]) {
            while self.search.steps_done() < at {
                self.search.step(&[batches.batch(self.search.steps_done())?], &mut ())?;
            }
            if at < total {
                curve.push(Point::new(at - decided, &self.judge()?));
            }
        }
        Ok(curve)
    }

    /// Returns NLL and hit of the masked network on every image to evaluate on.
    fn judge(&mut self) -> Result<Judgement> {
        let feed = &self.bench.feed;
        self.search.evaluate(|supernet| feed.judge(|images| supernet.network_logits(images)))
    }

    /// A plain training of the dense network, of which only the time is of interest.
    fn plain_training(&self) -> Result<Search<A>> {
        let mut options = SearchOptions::training(self.run.protocol.total_steps());
        options.training.precision = self.run.protocol.precision();
        let plain = Search::of(self.bench.network.clone()).weights(&self.bench.weights);
        plain.options(options).device(self.bench.device).build()
    }
}

fn mean(times: &[Duration]) -> Option<f64> {
    let sum = times.iter().sum::<Duration>().as_secs_f64();
    (!times.is_empty()).then(|| sum / times.len() as f64)
}
