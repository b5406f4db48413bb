//! Configuration of a ViT.

use super::variables::shapes;
use super::{Pooling, PositionEmbedding};
use crate::models::family::Blocks;
use crate::models::limits::{
    check_apart, check_attention, check_blocks, check_constants, check_input, check_layer_scale,
    check_patches, check_rates, check_registers, check_rope, check_size, check_variables,
    equal_blocks, head_dim,
};
use crate::models::{Activation, BlockConfig, Mlp, Norm, QkvBias, Rope};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A ViT (Dosovitskiy et al. 2021) or DeiT (Touvron et al. 2021) of any sizes, or one of its
/// descendants, such as CLIP's image tower, DINOv2, DeiT III and MAE: every option that tells them
/// apart is a field, and is off in [`uniform`](Self::uniform).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Height of the input, in pixels: its side, if it is square.
    pub image_size: i64,
    /// Height of a patch, in pixels: its side, if it is square; divides that of the image.
    pub patch_size: i64,
    /// Channels of the input.
    pub in_channels: i64,
    /// Number of classes, or width of the features with [`Pooling::Tokens`].
    pub classes: i64,
    /// Width of the embedding.
    pub embed_dim: i64,
    /// Sizes of every block.
    pub blocks: Vec<BlockConfig>,
    /// Whether there is a distillation token with a head of its own.
    pub distilled: bool,
    /// ε of every LayerNorm.
    pub norm_eps: f64,
    /// Rate of stochastic depth of the last block in training; rises linearly from 0 at the first.
    pub drop_path: f64,
    /// Initial value of LayerScale (Touvron et al. 2021, CaiT), a learned vector that multiplies
    /// every residual branch; `None` for a network without it.
    #[serde(default)]
    pub layer_scale: Option<f64>,
    /// Input of the classifier.
    #[serde(default)]
    pub pooling: Pooling,
    /// Whether there is a class token before the patches.
    #[serde(default = "yes")]
    pub class_token: bool,
    /// Number of register tokens (Darcet et al. 2023) between class token and patches.
    #[serde(default)]
    pub registers: i64,
    /// Table of absolute positions.
    #[serde(default)]
    pub positions: PositionEmbedding,
    /// Whether the patch projection has a bias.
    #[serde(default = "yes")]
    pub patch_bias: bool,
    /// Whether there is a norm before the first block, `norm_pre`, as in CLIP.
    #[serde(default)]
    pub pre_norm: bool,
    /// Kind of every norm over the embedding.
    #[serde(default)]
    pub norm: Norm,
    /// Activation function of a plain MLP.
    #[serde(default)]
    pub activation: Activation,
    /// MLP of every block.
    #[serde(default)]
    pub mlp: Mlp,
    /// Bias of the projections to queries, keys and values.
    #[serde(default)]
    pub qkv_bias: QkvBias,
    /// Norm of queries and keys over the channels of a head; `None` for a network without it. All
    /// heads share its parameters, and all channels of a head stay: only heads are pruned then.
    #[serde(default)]
    pub qk_norm: Option<Norm>,
    /// Whether the classifier has a bias.
    #[serde(default = "yes")]
    pub head_bias: bool,
    /// Rotary position embedding of queries and keys; `None` for a network without it. Pairs of
    /// channels are pruned then, not single channels.
    #[serde(default)]
    pub rope: Option<Rope>,
    /// Width of the input, in pixels; `None` for a square.
    #[serde(default)]
    pub image_width: Option<i64>,
    /// Width of a patch, in pixels; `None` for a square.
    #[serde(default)]
    pub patch_width: Option<i64>,
}

/// The value of a field that a configuration of an earlier version does not have.
fn yes() -> bool {
    true
}

impl VitConfig {
    /// Returns a network of equal blocks at 224² with 16×16 patches and 1,000 classes; its hidden
    /// width is 4·`embed_dim`.
    ///
    /// [`check`](Self::check), and so [`Search`](crate::search::Search), refuses heads that do not
    /// divide `embed_dim`, and more than 1,024 blocks.
    pub fn uniform(embed_dim: i64, depth: usize, heads: i64) -> Self {
        let hidden_dim = embed_dim.saturating_mul(4);
        let block = BlockConfig::new(heads, head_dim(embed_dim, heads), hidden_dim);
        Self {
            image_size: 224,
            patch_size: 16,
            in_channels: 3,
            classes: 1000,
            embed_dim,
            blocks: equal_blocks(block, depth),
            distilled: false,
            norm_eps: 1e-6,
            drop_path: 0.0,
            layer_scale: None,
            pooling: Pooling::ClassToken,
            class_token: true,
            registers: 0,
            positions: PositionEmbedding::AllTokens,
            patch_bias: true,
            pre_norm: false,
            norm: Norm::Layer,
            activation: Activation::Gelu,
            mlp: Mlp::Plain,
            qkv_bias: QkvBias::Full,
            qk_norm: None,
            head_bias: true,
            rope: None,
            image_width: None,
            patch_width: None,
        }
    }

    /// DeiT-Ti/16 (Touvron et al. 2021).
    pub fn deit_tiny() -> Self {
        Self::uniform(192, 12, 3)
    }

    /// DeiT-S/16.
    pub fn deit_small() -> Self {
        Self::uniform(384, 12, 6)
    }

    /// DeiT-B/16.
    pub fn deit_base() -> Self {
        Self::uniform(768, 12, 12)
    }

    /// Sets height and width of the image and of a patch.
    pub fn rectangular(mut self, image: [i64; 2], patch: [i64; 2]) -> Self {
        (self.image_size, self.image_width) = (image[0], Some(image[1]));
        (self.patch_size, self.patch_width) = (patch[0], Some(patch[1]));
        self
    }

    /// Sets side and channels of the image, and the side of a patch: both are square.
    pub fn input(mut self, image_size: i64, in_channels: i64, patch_size: i64) -> Self {
        (self.image_size, self.in_channels, self.patch_size) =
            (image_size, in_channels, patch_size);
        (self.image_width, self.patch_width) = (None, None);
        self
    }

    /// Sets the number of classes.
    pub fn classes(mut self, classes: i64) -> Self {
        self.classes = classes;
        self
    }

    /// Adds the distillation token and its head.
    pub fn distilled(mut self) -> Self {
        self.distilled = true;
        self
    }

    /// Adds LayerScale with this initial value.
    pub fn layer_scale(mut self, initial: f64) -> Self {
        self.layer_scale = Some(initial);
        self
    }

    /// Sets the input of the classifier.
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = pooling;
        self
    }

    /// Makes it a network of features of every token: [`Pooling::Tokens`], and as many outputs as the embedding has
    /// channels. Their number stays while the embedding is pruned. An import with
    /// [`ImportOptions::identity_head`](crate::import::ImportOptions::identity_head) makes the head the identity, and
    /// leaves a pooling by attention out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for [`Pooling::MeanNorm`], whose final norm is one of the mean alone.
    pub fn features(mut self) -> Result<Self> {
        if self.pooling == Pooling::MeanNorm {
            let expected = "a pooling behind the final norm of every token, such as class_token or mean: fc_norm is of \
                            the mean alone, and features of tokens would have no norm; take the checkpoint before \
                            it was fine-tuned";
            return Err(Error::invalid("pooling", expected, "mean_norm"));
        }
        (self.pooling, self.classes) = (Pooling::Tokens, self.embed_dim);
        Ok(self)
    }

    /// Refuses a configuration that cannot be built.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn check(&self) -> Result<()> {
        check_size("embed_dim", self.embed_dim)?;
        check_size("classes", self.classes)?;
        check_input(self.image_size, self.in_channels, self.patch_size)?;
        check_patches(["image_width", "patch_width"], self.image()[1], self.patch()[1])?;
        check_blocks("blocks", &self.blocks)?;
        for (block, sizes) in self.blocks.iter().enumerate() {
            sizes.check(&format!("blocks.{block}"))?;
        }
        if let Some((at, own)) =
            self.blocks.iter().enumerate().find_map(|(at, own)| Some((at, own.qk_dim?)))
        {
            check_apart(&format!("blocks.{at}.qk_dim"), &self.style(), own)?;
        }
        check_attention("blocks", &self.blocks)?;
        check_rates(self.drop_path, self.norm_eps)?;
        check_layer_scale(self.layer_scale)?;
        check_registers(self.registers)?;
        check_rope(self.rope, &self.blocks)?;
        if self.rope.is_some() {
            check_constants("image_size", self.image_size, self.coordinates())?;
        }
        if let Pooling::Attention(pool) = &self.pooling {
            pool.check()?;
        }
        if !self.class_token && (self.distilled || self.pooling.needs_class_token()) {
            let expected = "true with a distillation token and with pooling of the class token; \
                            set pooling to mean, mean_norm or tokens";
            return Err(Error::invalid("class_token", expected, false));
        }
        if self.distilled && self.pooling != Pooling::ClassToken {
            let expected = "class_token in a network with a distillation token";
            return Err(Error::invalid("pooling", expected, format!("{:?}", self.pooling)));
        }
        check_variables(&shapes(self))
    }

    /// Returns how many coordinates of tokens the rotary positions of all blocks have.
    fn coordinates(&self) -> f64 {
        let attentions = self.blocks.iter().filter(|block| block.has_attention()).count();
        2.0 * self.tokens() as f64 * attentions as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_after_a_rectangle_is_square() {
        let config = VitConfig::deit_tiny().rectangular([32, 64], [8, 4]).input(224, 3, 16);
        assert_eq!((config.image(), config.patch()), ([224, 224], [16, 16]));
        assert_eq!(config, VitConfig::deit_tiny());
    }
}
