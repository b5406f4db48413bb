//! What a network is in numbers.

use crate::cost::{CostLimit, Metric};
use crate::models::{Architecture, BlockConfig, VitConfig};
use crate::Result;

/// Sizes of one block.
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

/// A network: cost, quality and sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkFigures {
    /// Multiply-accumulates of one image.
    pub macs: f64,
    /// Parameters.
    pub params: f64,
    /// Share of held-out images whose class is predicted first, once it is measured.
    pub top1: Option<f64>,
    /// Width of the residual stream.
    pub embed_dim: i64,
    /// Sizes of the blocks; none for a network that is not made of such blocks.
    pub blocks: Vec<BlockSizes>,
}

impl NetworkFigures {
    /// A ViT, without a top-1.
    ///
    /// # Errors
    /// Never for a description that can be built; see [`crate::cost::CostModel::dense_cost`].
    pub fn of(config: &VitConfig) -> Result<Self> {
        let cost = config.cost_model();
        Ok(Self {
            macs: cost.dense_cost(Metric::Macs)?,
            params: cost.dense_cost(Metric::Params)?,
            top1: None,
            embed_dim: config.embed_dim,
            blocks: config.blocks.iter().map(BlockSizes::from).collect(),
        })
    }

    /// The same network with its top-1, a share.
    pub fn top1(mut self, top1: f64) -> Self {
        self.top1 = Some(top1);
        self
    }

    /// What a budget limits.
    pub(super) fn cost(&self, budget: &CostLimit) -> f64 {
        match budget.metric {
            Metric::Macs => self.macs,
            Metric::Params => self.params,
        }
    }
}
