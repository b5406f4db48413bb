//! Configuration of a ViT.

use super::variables::shapes;
use crate::models::limits::{
    check_blocks, check_input, check_layer_scale, check_rates, check_size, check_variables,
    equal_blocks, head_dim,
};
use crate::models::BlockConfig;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Input of the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Features of the class token.
    #[default]
    ClassToken,
    /// Features of the class token, concatenated with the mean of the patch tokens: the input of
    /// DINOv2's linear head.
    ClassAndMean,
    /// Features of every token, each mapped by the head: the logits are `[B, tokens, classes]`, with the
    /// class token first. For a network of features instead of classes: with the identity as the
    /// head's weight, the features keep their width while the embedding is pruned.
    Tokens,
}

impl Pooling {
    /// Returns the number of columns of the head's weight per embedding channel.
    pub fn parts(self) -> i64 {
        match self {
            Self::ClassToken | Self::Tokens => 1,
            Self::ClassAndMean => 2,
        }
    }
}

/// A ViT (Dosovitskiy et al. 2021) or DeiT (Touvron et al. 2021) of any sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Side of the square input, in pixels.
    pub image_size: i64,
    /// Side of a patch, in pixels; divides the image.
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

    /// Returns the number of patches along a side of the image.
    pub fn grid(&self) -> i64 {
        // `check` refuses a patch of 0; grid and cost must not panic without it.
        self.image_size / self.patch_size.max(1)
    }

    /// Returns the number of tokens before the patches: class token, distillation token.
    pub fn prefix_tokens(&self) -> i64 {
        1 + i64::from(self.distilled)
    }

    /// Returns the number of all tokens.
    pub fn tokens(&self) -> i64 {
        self.grid().saturating_mul(self.grid()).saturating_add(self.prefix_tokens())
    }

    /// Refuses a configuration that cannot be built.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn check(&self) -> Result<()> {
        check_size("embed_dim", self.embed_dim)?;
        check_size("classes", self.classes)?;
        check_input(self.image_size, self.in_channels, self.patch_size)?;
        check_blocks("blocks", &self.blocks)?;
        for (block, sizes) in self.blocks.iter().enumerate() {
            sizes.check(&format!("blocks.{block}"))?;
        }
        check_rates(self.drop_path, self.norm_eps)?;
        check_layer_scale(self.layer_scale)?;
        if self.distilled && self.pooling != Pooling::ClassToken {
            let expected = "class_token in a network with a distillation token";
            return Err(Error::invalid("pooling", expected, format!("{:?}", self.pooling)));
        }
        check_variables(&shapes(self))
    }
}
