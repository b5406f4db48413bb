//! Choices of a ViT beside those of its blocks.

use crate::models::AttentionPool;
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
    /// class token first. For a network of features instead of classes
    /// ([`VitConfig::features`](super::VitConfig::features)).
    Tokens,
    /// Mean of the features of the patch tokens (timm's `global_pool="avg"` with `fc_norm=False`).
    Mean,
    /// Mean of the patch tokens, then the final norm, `fc_norm` (timm's `global_pool="avg"`; MAE's
    /// fine-tuning). The features of the tokens have no norm then.
    MeanNorm,
    /// Attention of a learned latent to the patch tokens, and an MLP (MAP), as in SigLIP (timm's
    /// `global_pool="map"`).
    Attention(AttentionPool),
}

impl Pooling {
    /// Returns the number of columns of the head's weight per embedding channel.
    pub fn parts(self) -> i64 {
        match self {
            Self::ClassToken | Self::Tokens | Self::Mean | Self::MeanNorm | Self::Attention(_) => 1,
            Self::ClassAndMean => 2,
        }
    }

    /// Returns whether it reads the class token.
    pub fn needs_class_token(self) -> bool {
        matches!(self, Self::ClassToken | Self::ClassAndMean)
    }

    /// Returns the name of the final norm.
    pub(super) fn norm(self) -> &'static str {
        match self {
            Self::MeanNorm => "fc_norm",
            _ => "norm",
        }
    }

    /// Returns what it is in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::ClassToken => "the class token",
            Self::ClassAndMean => "the class token and the mean of the patch tokens",
            Self::Tokens => "none: features of every token",
            Self::Mean => "the mean of the patch tokens, after the final norm",
            Self::MeanNorm => "the mean of the patch tokens, before the final norm (fc_norm)",
            Self::Attention(_) => "attention of a learned latent to the patch tokens",
        }
    }
}

/// Learned table of absolute positions, `pos_embed`, which is added to the tokens before the first
/// block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEmbedding {
    /// A row for every token: class token, distillation token, registers, patches.
    #[default]
    AllTokens,
    /// A row for every patch, none for the tokens before them (timm's `no_embed_class`, as in
    /// DeiT III and in DINOv2 with registers).
    Patches,
    /// No table.
    None,
}
