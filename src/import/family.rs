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
    Unused,
    /// What the network computes for itself.
    Computed,
    /// Nothing that is known.
    Unknown,
}

/// A layer of a block in transformers' files, or in its classes since version 5.
pub(super) fn block_variable(block: &str, layer: &str, part: &str) -> Option<Translation> {
    let qkv = |which| Some(Translation::Part(format!("{block}.attn.qkv.{part}"), which));
    let ours = match layer {
        "attention.attention.query" | "attention.self.query" | "attention.q_proj" => return qkv(0),
        "attention.attention.key" | "attention.self.key" | "attention.k_proj" => return qkv(1),
        "attention.attention.value" | "attention.self.value" | "attention.v_proj" => return qkv(2),
        "layernorm_before" => "norm1",
        "layernorm_after" => "norm2",
        "attention.output.dense" | "attention.o_proj" => "attn.proj",
        "intermediate.dense" | "mlp.fc1" => "mlp.fc1",
        "output.dense" | "mlp.fc2" => "mlp.fc2",
        _ => return None,
    };
    Some(Translation::Variable(format!("{block}.{ours}.{part}")))
}
