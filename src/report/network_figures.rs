//! Cost, accuracy and sizes of a network.

use crate::cost::Metric;
use crate::models::{Architecture, BlockConfig, VitConfig};
use crate::Result;

/// Sizes of one transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Attention heads.
    pub heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
    /// Hidden width of the MLP.
    pub hidden_dim: i64,
}

impl From<&BlockConfig> for BlockSizes {
    fn from(block: &BlockConfig) -> Self {
        let (heads, head_dim, hidden_dim) = (block.heads, block.head_dim, block.hidden_dim);
        Self { heads, head_dim, hidden_dim }
    }
}

/// Cost, accuracy and sizes of a network, as a report shows them.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkFigures {
    /// Multiply-accumulates of one image.
    pub macs: f64,
    /// Number of parameters.
    pub params: f64,
    /// Predicted latency of a batch, in milliseconds; `None` without a latency model.
    pub latency_ms: Option<f64>,
    /// Top-1 accuracy on held-out images, a share; `None` where not measured.
    pub top1: Option<f64>,
    /// Embedding channels (width of the residual stream).
    pub embed_dim: i64,
    /// Sizes of the blocks; empty for a network without such blocks, whose architecture is then not
    /// drawn.
    pub blocks: Vec<BlockSizes>,
}

impl NetworkFigures {
    /// Returns the figures of a ViT, without a top-1 accuracy.
    ///
    /// # Errors
    /// Those of [`crate::cost::CostModel::dense_cost`]; none for a valid configuration.
    pub fn of(config: &VitConfig) -> Result<Self> {
        let cost = config.cost_model();
        Ok(Self {
            macs: cost.dense_cost(Metric::Macs)?,
            params: cost.dense_cost(Metric::Params)?,
            latency_ms: None,
            top1: None,
            embed_dim: config.embed_dim,
            blocks: config.blocks.iter().map(BlockSizes::from).collect(),
        })
    }

    /// Sets the top-1 accuracy, a share.
    pub fn top1(mut self, top1: f64) -> Self {
        self.top1 = Some(top1);
        self
    }

    /// Cost in a metric, if it is known.
    pub(super) fn cost(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Macs => Some(self.macs),
            Metric::Params => Some(self.params),
            Metric::Latency => self.latency_ms,
        }
    }
}
