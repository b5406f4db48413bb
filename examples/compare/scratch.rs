//! The baseline that is not searched: an evenly narrowed network, trained from scratch.

use crate::methods::Named;
use crate::row::{Point, Row};
use crate::trial::{AnyError, Bench};
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, BlockConfig, VitConfig};
use once_for_both::search::Search;

impl Bench<'_> {
    /// Trains for as many steps as dense training, search and fine-tuning together, at the learning
    /// rate of dense training.
    pub fn scratch(&self, share: f64, seed: u64) -> Result<Row, AnyError> {
        let narrow = narrowed(&self.network, share)?;
        let options = self.search_options(Named::Scratch, seed)?;
        let mut training =
            Search::of(narrow.clone()).options(options).device(self.device).build()?;
        training.train(&mut self.batches(seed)?, &mut ())?;
        let judged = self.judge(&mut training)?;
        let dense = self.network.cost_model().dense_cost(Metric::Macs)?;
        Ok(Row {
            macs: narrow.cost_model().dense_cost(Metric::Macs)? / dense,
            top1: judged.top1(),
            curve: vec![Point { after: 0, nll: judged.mean_nll(), top1: judged.top1() }],
            embed_dim: narrow.embed_dim,
            blocks: narrow.blocks.iter().map(|b| [b.heads, b.head_dim, b.hidden_dim]).collect(),
            ..Row::new(Named::Scratch, share, seed)
        })
    }
}

/// The widest network whose embedding, head channels and hidden units are one share of the dense
/// ones, within a share of its MACs.
fn narrowed(dense: &VitConfig, share: f64) -> Result<VitConfig, AnyError> {
    let limit = share * dense.cost_model().dense_cost(Metric::Macs)?;
    let mut best = None;
    for embed_dim in 1..=dense.embed_dim {
        let scale = embed_dim as f64 / dense.embed_dim as f64;
        let narrow = |block: &BlockConfig| BlockConfig {
            head_dim: (scale * block.head_dim as f64).round() as i64,
            hidden_dim: (scale * block.hidden_dim as f64).round() as i64,
            ..*block
        };
        let blocks = dense.blocks.iter().map(narrow).collect();
        let candidate = VitConfig { embed_dim, blocks, ..dense.clone() };
        if candidate.cost_model().dense_cost(Metric::Macs)? <= limit {
            best = Some(candidate);
        }
    }
    best.ok_or_else(|| format!("budget {share}: got no evenly narrowed network below it").into())
}
