//! Description of a ViT or Swin by a few numbers: section `[network]` of the configuration.

use super::Config;
use crate::error::PipelineError;
use crate::models::limits::BLOCKS;
use crate::models::{
    Activation, Mlp, Norm, Pooling, PositionEmbedding, QkvBias, Rope, SwinConfig, VitConfig,
};
use crate::range::{check_all, Range};
use crate::{typed, Error, Result};
use serde::de::DeserializeOwned;
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

/// Section `[network]`: sizes of a ViT or Swin with equal blocks, and the options of [`VitConfig`] by their
/// names. Images are square: there is no `image_width`.
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
    /// Hidden neurons of the MLP of a ViT. Default: 4·`embed_dim`.
    pub hidden_dim: Option<i64>,
    /// ε of the norms of a ViT.
    pub norm_eps: Option<f64>,
    /// Initial value of LayerScale of a ViT.
    pub layer_scale: Option<f64>,
    /// Input of the classifier of a ViT.
    pub pooling: Option<Pooling>,
    /// Whether a ViT has a class token.
    pub class_token: Option<bool>,
    /// Register tokens of a ViT.
    pub registers: Option<i64>,
    /// Table of absolute positions of a ViT.
    pub positions: Option<PositionEmbedding>,
    /// Width of a patch of a ViT, in pixels; `patch_size` is its height then.
    pub patch_width: Option<i64>,
    /// Whether the patch projection of a ViT has a bias.
    pub patch_bias: Option<bool>,
    /// Whether a ViT has a norm before its first block.
    pub pre_norm: Option<bool>,
    /// Kind of the norms of a ViT.
    pub norm: Option<Norm>,
    /// Activation function of a ViT.
    pub activation: Option<Activation>,
    /// MLP of a ViT.
    pub mlp: Option<Mlp>,
    /// Bias of queries, keys and values of a ViT.
    pub qkv_bias: Option<QkvBias>,
    /// Norm of queries and keys of a ViT.
    pub qk_norm: Option<Norm>,
    /// Whether the classifier of a ViT has a bias.
    pub head_bias: Option<bool>,
    /// Rotary positions of a ViT.
    pub rope: Option<Rope>,
}

/// Fields that are options of a [`VitConfig`] of the same name, off where they are not given.
const VIT_OPTIONS: [&str; 17] = [
    "hidden_dim",
    "norm_eps",
    "layer_scale",
    "pooling",
    "class_token",
    "registers",
    "positions",
    "patch_width",
    "patch_bias",
    "pre_norm",
    "norm",
    "activation",
    "mlp",
    "qkv_bias",
    "qk_norm",
    "head_bias",
    "rope",
];

impl Config {
    /// Returns what section `[network]` describes: a [`NetworkConfig`], or an architecture of your own, whose fields the
    /// section has.
    ///
    /// # Errors
    /// [`PipelineError::Options`] for a field that is missing or of another type.
    pub fn network_as<T: DeserializeOwned>(&self) -> Result<T> {
        let parsed = typed::from_value(self.network.clone().into());
        Ok(parsed.map_err(|fault| PipelineError::field("network", &fault))?)
    }
}

impl NetworkConfig {
    /// Reads section `[network]` of a configuration.
    ///
    /// # Errors
    /// [`PipelineError::Options`] for a field that is missing, unknown or of another type; [`Error::Invalid`] for
    /// `image_width`.
    pub fn of(config: &Config) -> Result<Self> {
        if let Some(width) = config.network.get("image_width") {
            let expected =
                "none: images of a run are image_size × image_size; search a network for \
                            rectangles with the library (VitConfig::image_width)";
            return Err(Error::invalid("network.image_width", expected, width));
        }
        config.network_as()
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
        if let Some(hidden_dim) = self.hidden_dim {
            WIDTH.check("network.hidden_dim", hidden_dim)?;
        }
        let mut dense = VitConfig::uniform(self.embed_dim, depth, self.heads)
            .input(self.image_size, channels, self.patch_size)
            .classes(classes);
        dense.drop_path = self.drop_path;
        dense.distilled = self.distilled;
        if self.pooling == Some(Pooling::Tokens) {
            let expected =
                "an input of a classifier, such as class_token: a run classifies; search a \
                            network of features with the library (VitConfig::pooling)";
            return Err(Error::invalid("network.pooling", expected, "tokens"));
        }
        self.set_options(&mut dense);
        dense.check().map_err(|error| error.of_section("network"))?;
        Ok(dense)
    }

    /// Sets the options of a ViT that are given.
    fn set_options(&self, dense: &mut VitConfig) {
        if let Some(hidden_dim) = self.hidden_dim {
            dense.blocks.iter_mut().for_each(|block| block.hidden_dim = hidden_dim);
        }
        dense.norm_eps = self.norm_eps.unwrap_or(dense.norm_eps);
        dense.pooling = self.pooling.unwrap_or(dense.pooling);
        dense.class_token = self.class_token.unwrap_or(dense.class_token);
        dense.registers = self.registers.unwrap_or(dense.registers);
        dense.positions = self.positions.unwrap_or(dense.positions);
        dense.patch_bias = self.patch_bias.unwrap_or(dense.patch_bias);
        dense.pre_norm = self.pre_norm.unwrap_or(dense.pre_norm);
        dense.norm = self.norm.unwrap_or(dense.norm);
        dense.activation = self.activation.unwrap_or(dense.activation);
        dense.mlp = self.mlp.unwrap_or(dense.mlp);
        dense.qkv_bias = self.qkv_bias.unwrap_or(dense.qkv_bias);
        dense.head_bias = self.head_bias.unwrap_or(dense.head_bias);
        dense.layer_scale = self.layer_scale.or(dense.layer_scale);
        dense.patch_width = self.patch_width.or(dense.patch_width);
        dense.qk_norm = self.qk_norm.or(dense.qk_norm);
        dense.rope = self.rope.or(dense.rope);
    }

    /// Refuses options of a ViT in a Swin.
    fn expect_no_options(&self) -> Result<()> {
        let own = serde_json::to_value(self);
        let own = own.map_err(|error| PipelineError::options("network", error))?;
        let given = |name: &&str| own.get(name).is_some_and(|value| !value.is_null());
        match VIT_OPTIONS.into_iter().find(given) {
            None => Ok(()),
            Some(name) => {
                let expected = "none for family swin; set network.family to vit, or leave it out";
                Err(Error::invalid(format!("network.{name}"), expected, &own[name]))
            }
        }
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
        self.expect_no_options()?;
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
