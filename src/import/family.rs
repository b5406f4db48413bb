//! What differs from family to family when weights come in.

use super::Naming;
use crate::models::Architecture;

/// A family whose pretrained weights can be imported: [`VitConfig`](crate::models::VitConfig) and
/// [`SwinConfig`](crate::models::SwinConfig).
pub trait Pretrained: Family {}

impl<A: Family> Pretrained for A {}

/// What a family knows of the checkpoints there are.
pub trait Family: Architecture {
    /// Names of the classifiers.
    const HEADS: &'static [&'static str];

    /// What the name of a tensor stands for.
    fn translate(naming: Naming, name: &str) -> Translation;

    /// The table `pos_embed`, if the family has one.
    fn positions(&self) -> Option<Positions>;
}

/// Rows of a table of positions.
#[derive(Debug, Clone, Copy)]
pub struct Positions {
    /// Tokens before the patches.
    pub prefix: i64,
    /// Patches along a side of the grid.
    pub side: i64,
}

/// What a name in a checkpoint stands for.
#[derive(Debug)]
pub enum Translation {
    /// A variable, by our name.
    Variable(String),
    /// Query, key or value (0, 1 or 2) of a variable.
    Part(String, usize),
    /// No part of a classifier.
    Idle,
    /// Nothing that is known.
    Unknown,
}
