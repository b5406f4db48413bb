//! Description of a ViT or Swin by a few numbers: section `[network]` of the configuration.

use super::{Config, Settings};
use crate::error::PipelineError;
use crate::models::limits::BLOCKS;
use crate::models::{SwinConfig, VitConfig};
use crate::range::{check_all, Range};
use crate::{typed, Error, Result};
use serde::{Deserialize, Serialize};

const WIDTH: Range<i64> = Range::closed(1, 1 << 20);

/// Family of a network that [`NetworkConfig`] describes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// ViT and DeiT.
    #[default]
    Vit,
    /// Swin Transformer.
    Swin,
}

/// Number of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number of blocks (vit), or a list with one number a stage (swin)"
)]
pub enum Depth {
    /// Blocks of a ViT.
    Blocks(usize),
    /// Blocks of every stage of a Swin.
    Stages(Vec<usize>),
}

/// Section `[network]`: sizes of a ViT or Swin with equal blocks.
///
/// ```
/// use once_for_both::pipeline::{Depth, Family, NetworkConfig};
///
/// let text = "family = \"swin\"\nembed_dim = 96\ndepth = [2, 2, 6, 2]\nheads = 3\n\
///             image_size = 224\npatch_size = 4";
/// let network: NetworkConfig = toml::from_str(text)?;
/// assert_eq!(network.swin(3, 1000)?, once_for_both::models::SwinConfig::tiny());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Family. Default: ViT.
    #[serde(default)]
    pub family: Family,
    /// Embedding channels; of a Swin, those of the first stage, doubled in each further stage.
    pub embed_dim: i64,
    /// Blocks: a number for a ViT, a list with one number per stage for a Swin.
    pub depth: Depth,
    /// Attention heads; of a Swin, those of the first stage, doubled in each further stage.
    pub heads: i64,
    /// Side of the square input, in pixels.
    pub image_size: i64,
    /// Side of a patch, in pixels.
    pub patch_size: i64,
    /// Side of the attention windows of a Swin, in tokens. Default: 7.
    pub window_size: Option<i64>,
    /// Stochastic depth of the last block.
    #[serde(default)]
    pub drop_path: f64,
    /// Whether a ViT has a distillation token and a head on it.
    #[serde(default)]
    pub distilled: bool,
}

impl NetworkConfig {
    /// Reads section `[network]` of a configuration.
    ///
    /// # Errors
    /// [`PipelineError::Options`] for a field that is missing, unknown or of another type.
    pub fn of(config: &Config) -> Result<Self> {
        Self::read(&config.network)
    }

    fn read(network: &Settings) -> Result<Self> {
        let parsed = typed::from_value(network.clone().into());
        Ok(parsed.map_err(|fault| PipelineError::field("network", &fault))?)
    }

    /// Refuses widths, heads and blocks that make no network.
    fn check(&self, depths: &[usize]) -> Result<()> {
        check_all([
            ("network.embed_dim", self.embed_dim, WIDTH),
            ("network.heads", self.heads, WIDTH),
        ])?;
        depths.iter().try_for_each(|&depth| BLOCKS.check("network.depth", depth))?;
        match self.embed_dim % self.heads {
            0 => Ok(()),
            _ => {
                let expected = format!("a divisor of network.embed_dim {}", self.embed_dim);
                Err(Error::invalid("network.heads", expected, self.heads))
            }
        }
    }

    /// Returns the ViT for images with so many channels and classes.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field that does not fit a ViT, or cannot be built.
    pub fn vit(&self, channels: i64, classes: i64) -> Result<VitConfig> {
        let Depth::Blocks(depth) = self.depth else {
            let expected = "a number of blocks, such as 12, for family vit";
            return Err(Error::invalid("network.depth", expected, "a list"));
        };
        if let Some(window) = self.window_size {
            let expected = "none for family vit; set network.family to swin, or leave it out";
            return Err(Error::invalid("network.window_size", expected, window));
        }
        self.check(&[depth])?;
        let mut dense = VitConfig::uniform(self.embed_dim, depth, self.heads)
            .input(self.image_size, channels, self.patch_size)
            .classes(classes);
        dense.drop_path = self.drop_path;
        dense.distilled = self.distilled;
        dense.check().map_err(|error| error.of_section("network"))?;
        Ok(dense)
    }

    /// Returns the Swin for images with so many channels and classes.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field that does not fit a Swin, or cannot be built.
    pub fn swin(&self, channels: i64, classes: i64) -> Result<SwinConfig> {
        let depths = match &self.depth {
            Depth::Stages(depths) => depths,
            Depth::Blocks(blocks) => {
                let expected = "the blocks of each stage, such as [2, 2, 6, 2], for family swin";
                return Err(Error::invalid("network.depth", expected, blocks));
            }
        };
        if self.distilled {
            let expected = "false for family swin";
            return Err(Error::invalid("network.distilled", expected, true));
        }
        self.check(depths)?;
        let mut dense = SwinConfig::uniform(self.embed_dim, depths, self.heads)
            .input(self.image_size, channels, self.patch_size)
            .classes(classes);
        dense.window_size = self.window_size.unwrap_or(dense.window_size);
        dense.drop_path = self.drop_path;
        dense.check().map_err(|error| error.of_section("network"))?;
        Ok(dense)
    }
}
