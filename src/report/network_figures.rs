//! Cost, accuracy and sizes of a network.

use crate::cost::Metric;
use crate::models::{Architecture, BlockConfig, SwinConfig, SwinStage, VitConfig};
use crate::Result;

/// Sizes of one transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Attention heads.
    pub heads: i64,
    /// Channels of a head; with `qk_dim`, of its values alone.
    pub head_dim: i64,
    /// Channels of queries and keys of a head, where they have a width of their own.
    pub qk_dim: Option<i64>,
    /// Hidden width of the MLP.
    pub hidden_dim: i64,
}

impl From<&BlockConfig> for BlockSizes {
    fn from(block: &BlockConfig) -> Self {
        let BlockConfig { heads, head_dim, qk_dim, hidden_dim, .. } = *block;
        Self { heads, head_dim, qk_dim, hidden_dim }
    }
}

/// Sizes of the blocks of one width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSizes {
    /// Name of the embedding's dimension.
    pub embedding: String,
    /// Embedding channels (width of the residual stream).
    pub embed_dim: i64,
    /// Prefix of the names of the blocks' dimensions: empty for `blocks.0.attn`.
    pub prefix: String,
    /// Sizes of the blocks.
    pub blocks: Vec<BlockSizes>,
}

impl StageSizes {
    /// Returns the sizes of a ViT.
    pub fn of_vit(config: &VitConfig) -> Self {
        Self {
            embedding: "embed".into(),
            embed_dim: config.embed_dim,
            prefix: String::new(),
            blocks: config.blocks.iter().map(BlockSizes::from).collect(),
        }
    }

    /// Returns the sizes of each stage of a Swin.
    pub fn of_swin(config: &SwinConfig) -> Vec<Self> {
        let stages = config.stages.iter().enumerate();
        let of = |(stage, own): (usize, &SwinStage)| Self {
            embedding: format!("layers.{stage}.embed"),
            embed_dim: own.embed_dim,
            prefix: format!("layers.{stage}."),
            blocks: own.blocks.iter().map(BlockSizes::from).collect(),
        };
        stages.map(of).collect()
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
    /// Sizes of the blocks, a stage for each width: one of a ViT. Empty for a network without such blocks,
    /// whose architecture is then not drawn.
    pub stages: Vec<StageSizes>,
}

impl NetworkFigures {
    /// All blocks, in order.
    pub(super) fn blocks(&self) -> Vec<BlockSizes> {
        self.stages.iter().flat_map(|stage| stage.blocks.iter().copied()).collect()
    }

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
            stages: vec![StageSizes::of_vit(config)],
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
