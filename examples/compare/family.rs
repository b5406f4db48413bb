//! Networks that are compared: ViTs and Swins.

use crate::AnyError;
use clap::ValueEnum;
use once_for_both::models::{BlockConfig, SwinConfig, VitConfig};
use once_for_both::pipeline::{classifier_family, Family, ImageClassifier};
use std::path::Path;

/// Family of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// A ViT of 96 channels, 4 blocks and 4 heads, with 4 × 4 patches.
    Vit,
    /// A Swin of two stages of two blocks, of 32 and 64 channels, with 2 × 2 patches.
    Swin,
}

impl Network {
    /// The family of a stored network.
    pub fn stored(folder: &Path) -> Result<Self, AnyError> {
        Ok(match classifier_family(folder)? {
            Some(Family::Swin) => Self::Swin,
            None | Some(Family::Vit) => Self::Vit,
        })
    }
}

/// A network that methods are compared on.
pub trait Compared: ImageClassifier {
    /// Returns the network that is trained where none is given.
    fn dense(side: i64, channels: i64, classes: i64) -> Self;

    /// Returns the width of the embedding, in a Swin of the first stage.
    fn embed_dim(&self) -> i64;

    /// Returns the network whose embeddings, head channels and hidden units are a share of these.
    fn scaled(&self, share: f64) -> Self;
}

fn part(units: i64, share: f64) -> i64 {
    (share * units as f64).round() as i64
}

fn narrow(block: &BlockConfig, share: f64) -> BlockConfig {
    BlockConfig {
        head_dim: part(block.head_dim, share),
        qk_dim: block.qk_dim.map(|own| part(own, share)),
        hidden_dim: part(block.hidden_dim, share),
        ..*block
    }
}

impl Compared for VitConfig {
    fn dense(side: i64, channels: i64, classes: i64) -> Self {
        Self::uniform(96, 4, 4).input(side, channels, 4).classes(classes)
    }

    fn embed_dim(&self) -> i64 {
        self.embed_dim
    }

    fn scaled(&self, share: f64) -> Self {
        let blocks = self.blocks.iter().map(|block| narrow(block, share)).collect();
        Self { embed_dim: part(self.embed_dim, share), blocks, ..self.clone() }
    }
}

impl Compared for SwinConfig {
    fn dense(side: i64, channels: i64, classes: i64) -> Self {
        Self::uniform(32, &[2, 2], 2).input(side, channels, 2).classes(classes)
    }

    fn embed_dim(&self) -> i64 {
        self.stages.first().map_or(0, |stage| stage.embed_dim)
    }

    fn scaled(&self, share: f64) -> Self {
        let mut scaled = self.clone();
        for stage in &mut scaled.stages {
            stage.embed_dim = part(stage.embed_dim, share);
            stage.blocks = stage.blocks.iter().map(|block| narrow(block, share)).collect();
        }
        scaled
    }
}
