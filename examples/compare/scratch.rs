//! The baseline that is not searched: an evenly narrowed network, trained from scratch.

use crate::bench::Bench;
use crate::family::Compared;
use crate::options::Limit;
use crate::plan::Run;
use crate::row::{Point, Row};
use crate::AnyError;
use once_for_both::cost::Metric;
use once_for_both::search::Search;

impl<A: Compared> Bench<A> {
    /// Trains for as many steps as dense training, search and fine-tuning together, at the learning
    /// rate of dense training.
    pub fn scratch(&self, run: &Run) -> Result<Row, AnyError> {
        let narrow = self.narrowed(run.budget)?;
        let options = run.search_options()?;
        let mut training =
            Search::of(narrow.clone()).options(options).device(self.device).build()?;
        training.train(&mut self.batches(run)?, &mut ())?;
        let judged = training
            .evaluate(|supernet| self.feed.judge(|images| supernet.network_logits(images)))?;
        let dense = self.network.cost_model().dense_cost(Metric::Macs)?;
        Ok(Row {
            macs: narrow.cost_model().dense_cost(Metric::Macs)? / dense,
            latency: self.latency_of(&narrow.space()?.full_sizes())?,
            sizes: narrow.space()?.full_sizes(),
            curve: vec![Point::new(0, &judged)],
            nll: judged.nll.into(),
            ..Row::of(run)
        })
    }

    /// Returns the widest network whose embeddings, head channels and hidden units are one share of the
    /// dense ones, within a share of its MACs.
    pub fn narrowed(&self, share: f64) -> Result<A, AnyError> {
        if self.limit == Limit::Latency {
            return Err("scratch: got budgets in latency, expected --limit macs".into());
        }
        let dense = &self.network;
        let limit = share * dense.cost_model().dense_cost(Metric::Macs)?;
        let mut best = None;
        for embed_dim in 1..=dense.embed_dim() {
            let candidate = dense.scaled(embed_dim as f64 / dense.embed_dim() as f64);
            if candidate.cost_model().dense_cost(Metric::Macs)? <= limit {
                best = Some(candidate);
            }
        }
        best.ok_or_else(|| {
            format!("budget {share}: got no evenly narrowed network below it").into()
        })
    }
}
