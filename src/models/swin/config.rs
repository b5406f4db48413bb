//! Configuration of a Swin Transformer.

use super::variables::shapes;
use crate::models::limits::{
    check_attention, check_blocks, check_constants, check_input, check_rates, check_size,
    check_variables, check_windows, equal_blocks, head_dim,
};
use crate::models::{BlockConfig, Windows};
use crate::range::Range;
use crate::Result;
use serde::{Deserialize, Serialize};

/// Each stage halves the grid, so that there are no more.
const STAGES: Range<usize> = Range::closed(1, 32);

/// A stage: blocks over a grid of tokens of one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinStage {
    /// Width of the embedding in this stage.
    pub embed_dim: i64,
    /// Sizes of its blocks; every second one has shifted windows.
    pub blocks: Vec<BlockConfig>,
}

/// A Swin Transformer (Liu et al. 2021) of any sizes.
///
/// Each stage has its own embedding dimension. The patch merging between two stages is a linear
/// map, so that their widths need not be multiples of each other.
///
/// ```
/// use once_for_both::cost::Metric;
/// use once_for_both::models::{Architecture, SwinConfig};
///
/// let swin = SwinConfig::tiny().classes(10);
/// let space = swin.space()?;
/// // 4 embeddings; for each of the 12 blocks, heads × channels and hidden neurons.
/// assert_eq!(space.dimensions.len(), 4 + 2 * 12);
/// assert_eq!(swin.cost_model().dense_cost(Metric::Macs)?, 4_489_806_336.0);
/// # Ok::<(), once_for_both::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinConfig {
    /// Side of the square input, in pixels.
    pub image_size: i64,
    /// Side of a patch, in pixels; divides the image.
    pub patch_size: i64,
    /// Channels of the input.
    pub in_channels: i64,
    /// Number of classes.
    pub classes: i64,
    /// Side of an attention window, in tokens. A stage whose grid is not larger has a single window
    /// of all tokens. Where windows do not divide a grid, it is padded ([`Windows`]).
    pub window_size: i64,
    /// The stages; between two of them, every 2 × 2 tokens are merged into one. A grid of odd side is
    /// padded with zeros before, at the bottom and on the right.
    pub stages: Vec<SwinStage>,
    /// ε of every LayerNorm.
    pub norm_eps: f64,
    /// Rate of stochastic depth of the last block in training; rises linearly from 0 at the first.
    pub drop_path: f64,
}

impl SwinConfig {
    /// Returns a network at 224² with 4×4 patches, windows of 7×7 tokens and 1,000 classes. The
    /// first stage is `embed_dim` wide and has `heads` heads; both double from stage to stage.
    ///
    /// [`check`](Self::check), and so [`Search`](crate::search::Search), refuses heads that do not
    /// divide `embed_dim`, and more than 1,024 blocks in a stage.
    pub fn uniform(embed_dim: i64, depths: &[usize], heads: i64) -> Self {
        let head_dim = head_dim(embed_dim, heads);
        let stage = |(stage, depth): (usize, &usize)| {
            let doubled = 1_i64 << stage.min(30);
            let (embed_dim, heads) =
                (embed_dim.saturating_mul(doubled), heads.saturating_mul(doubled));
            let block = BlockConfig::new(heads, head_dim, embed_dim.saturating_mul(4));
            SwinStage { embed_dim, blocks: equal_blocks(block, *depth) }
        };
        Self {
            image_size: 224,
            patch_size: 4,
            in_channels: 3,
            classes: 1000,
            window_size: 7,
            stages: depths.iter().enumerate().map(stage).collect(),
            norm_eps: 1e-5,
            drop_path: 0.0,
        }
    }

    /// Swin-T (Liu et al. 2021).
    pub fn tiny() -> Self {
        Self::uniform(96, &[2, 2, 6, 2], 3)
    }

    /// Swin-S.
    pub fn small() -> Self {
        Self::uniform(96, &[2, 2, 18, 2], 3)
    }

    /// Swin-B.
    pub fn base() -> Self {
        Self::uniform(128, &[2, 2, 18, 2], 4)
    }

    /// Sets side and channels of the image, and the side of a patch.
    pub fn input(mut self, image_size: i64, in_channels: i64, patch_size: i64) -> Self {
        (self.image_size, self.in_channels, self.patch_size) =
            (image_size, in_channels, patch_size);
        self
    }

    /// Sets the number of classes.
    pub fn classes(mut self, classes: i64) -> Self {
        self.classes = classes;
        self
    }

    /// Sets the side of the attention windows, in tokens.
    pub fn window(mut self, window_size: i64) -> Self {
        self.window_size = window_size;
        self
    }

    /// Returns the number of tokens along a side of a stage's grid: half of those of the stage before,
    /// rounded up.
    pub fn grid(&self, stage: usize) -> i64 {
        // `check` refuses a patch of 0; grid and cost must not panic without it.
        let (patches, merged) = (self.image_size / self.patch_size.max(1), self.merged(stage));
        patches / merged + i64::from(patches % merged != 0)
    }

    /// Returns the number of patches along a side of a stage's tokens.
    pub(super) fn merged(&self, stage: usize) -> i64 {
        1 << stage.min(62)
    }

    /// Returns the windows of a block. Every second block shifts them by half their side, unless
    /// there is only one window.
    pub fn windows(&self, stage: usize, block: usize) -> Windows {
        let (grid, side) = (self.grid(stage), self.window_size.min(self.grid(stage)));
        let shift = if grid > side && block % 2 == 1 { side / 2 } else { 0 };
        Windows { grid, side, shift }
    }

    /// Returns every block with its stage and its index there, in order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, usize, &BlockConfig)> {
        self.stages.iter().enumerate().flat_map(|(stage, own)| {
            own.blocks.iter().enumerate().map(move |(block, sizes)| (stage, block, sizes))
        })
    }

    /// Refuses a configuration that cannot be built.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) naming the field.
    pub fn check(&self) -> Result<()> {
        check_size("classes", self.classes)?;
        check_size("window_size", self.window_size)?;
        check_input(self.image_size, self.in_channels, self.patch_size)?;
        STAGES.check("stages", self.stages.len())?;
        for (stage, own) in self.stages.iter().enumerate() {
            self.check_stage(stage, own)?;
        }
        check_constants("window_size", self.window_size, self.window_constants())?;
        check_rates(self.drop_path, self.norm_eps)?;
        check_variables(&shapes(self))
    }

    /// Returns how many numbers the relative positions and masks of all attentions have.
    fn window_constants(&self) -> f64 {
        let attentions = self.blocks().filter(|(_, _, sizes)| sizes.has_attention());
        attentions.map(|(stage, block, _)| self.windows(stage, block).constants()).sum()
    }

    fn check_stage(&self, stage: usize, own: &SwinStage) -> Result<()> {
        check_size(&format!("stages.{stage}.embed_dim"), own.embed_dim)?;
        check_blocks(&format!("stages.{stage}.blocks"), &own.blocks)?;
        check_windows(self.windows(stage, 0))?;
        let mut blocks = own.blocks.iter().enumerate();
        let check = |(block, sizes): (usize, &BlockConfig)| {
            sizes.check(&format!("stages.{stage}.blocks.{block}"))
        };
        blocks.try_for_each(check)?;
        check_attention(&format!("stages.{stage}.blocks"), &own.blocks)
    }
}
