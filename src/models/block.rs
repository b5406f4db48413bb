//! The transformer block that every family is made of: its sizes, what can be removed from it, and
//! what it costs.

use super::limits::check_size;
use super::Shapes;
use crate::cost::Polynomial;
use crate::space::{Binding, Candidates, Dimension, DimensionKind, Size, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Sizes of one transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockConfig {
    /// Attention heads.
    pub heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
    /// Hidden width of the MLP.
    pub hidden_dim: i64,
    /// Attention logits are q·k / √`scale_dim`. A standard network has its own head dim here;
    /// cutting head channels keeps the dense one, so that the cut changes nothing.
    pub scale_dim: i64,
}

impl BlockConfig {
    /// A standard block.
    pub fn new(heads: i64, head_dim: i64, hidden_dim: i64) -> Self {
        Self { heads, head_dim, hidden_dim, scale_dim: head_dim }
    }

    /// Width of the concatenated heads.
    pub fn attention_dim(&self) -> i64 {
        self.heads * self.head_dim
    }

    /// What the products of queries and keys are multiplied by.
    pub(super) fn attention_scale(&self) -> f64 {
        1.0 / (self.scale_dim as f64).sqrt()
    }

    /// Refuses what cannot be built, by the block's name.
    pub(super) fn check(&self, block: &str) -> Result<()> {
        for (name, value) in [
            ("heads", self.heads),
            ("head_dim", self.head_dim),
            ("hidden_dim", self.hidden_dim),
            ("scale_dim", self.scale_dim),
        ] {
            check_size(&format!("{block}.{name}"), value)?;
        }
        Ok(())
    }

    /// Names and shapes of its variables over a stream of this width.
    pub(super) fn variables(&self, block: &str, width: i64, shapes: &mut Shapes) {
        let inner = self.attention_dim();
        norm(shapes, &format!("{block}.norm1"), width);
        linear(shapes, &format!("{block}.attn.qkv"), width, 3 * inner);
        linear(shapes, &format!("{block}.attn.proj"), inner, width);
        norm(shapes, &format!("{block}.norm2"), width);
        linear(shapes, &format!("{block}.mlp.fc1"), width, self.hidden_dim);
        linear(shapes, &format!("{block}.mlp.fc2"), self.hidden_dim, width);
    }

    /// Heads × channels, and hidden neurons: what can be removed from the block of this name.
    pub(super) fn dimensions(&self, block: &str) -> Result<[Dimension; 2]> {
        let name = attention_name(block);
        let candidates = Candidates::attention(self.heads, self.head_dim)?;
        let attention = Dimension::new(&name, DimensionKind::Attention, candidates)
            .bind(Binding::gated(format!("{name}.qkv.weight"), 0).outer(3))
            .bind(Binding::gated(format!("{name}.qkv.bias"), 0).outer(3))
            .bind(Binding::narrowed(format!("{name}.proj.weight"), 1));
        let name = hidden_name(block);
        let candidates = Candidates::hidden(self.hidden_dim)?;
        let hidden = Dimension::new(&name, DimensionKind::Hidden, candidates)
            .bind(Binding::gated(format!("{name}.fc1.weight"), 0))
            .bind(Binding::gated(format!("{name}.fc1.bias"), 0))
            .bind(Binding::narrowed(format!("{name}.fc2.weight"), 1));
        Ok([attention, hidden])
    }

    /// Its sizes, by the names of its dimensions.
    pub(super) fn sizes(&self, block: &str) -> [(String, Size); 2] {
        let attention = Size { heads: self.heads, channels: self.head_dim };
        [(attention_name(block), attention), (hidden_name(block), Size::flat(self.hidden_dim))]
    }

    /// Takes over the sizes that are given.
    pub(super) fn resize(&mut self, block: &str, wanted: &Sizes) {
        if let Some(size) = wanted.get(&attention_name(block)) {
            (self.heads, self.head_dim) = (size.heads, size.channels);
        }
        if let Some(size) = wanted.get(&hidden_name(block)) {
            self.hidden_dim = size.channels;
        }
    }

    /// q·k/√scale_dim = (q·√(head_dim/scale_dim))·k/√head_dim: the factor goes into the rows of q.
    pub(super) fn fold_attention_scale(
        &mut self,
        block: &str,
        weights: &mut Weights,
    ) -> Result<()> {
        let factor = (self.head_dim as f64 / self.scale_dim as f64).sqrt();
        for part in ["weight", "bias"] {
            let name = format!("{}.qkv.{part}", attention_name(block));
            scale_rows(weights, &name, self.attention_dim(), factor)?;
        }
        self.scale_dim = self.head_dim;
        Ok(())
    }
}

pub(super) fn linear(shapes: &mut Shapes, name: &str, inputs: i64, outputs: i64) {
    shapes.insert(format!("{name}.weight"), vec![outputs, inputs]);
    shapes.insert(format!("{name}.bias"), vec![outputs]);
}

pub(super) fn norm(shapes: &mut Shapes, name: &str, width: i64) {
    shapes.insert(format!("{name}.weight"), vec![width]);
    shapes.insert(format!("{name}.bias"), vec![width]);
}

pub(super) fn attention_name(block: &str) -> String {
    format!("{block}.attn")
}

pub(super) fn hidden_name(block: &str) -> String {
    format!("{block}.mlp")
}

/// MACs of a block over `tokens`, each of which attends to `context` tokens.
pub(super) fn macs(block: &str, embed: &Polynomial, tokens: f64, context: f64) -> Polynomial {
    let (attention, hidden) = widths(block);
    // q, k, v and the output projection; then q·kᵀ and the mix of values; then the MLP.
    embed.clone() * attention.clone() * (4.0 * tokens)
        + attention * (2.0 * tokens * context)
        + embed.clone() * hidden * (2.0 * tokens)
}

/// Parameters of a block: linear maps with biases, and two norms.
pub(super) fn params(block: &str, embed: &Polynomial) -> Polynomial {
    let (attention, hidden) = widths(block);
    (embed.clone() + 1) * attention.clone() * 3
        + embed.clone() * (attention + 1)
        + (embed.clone() + 1) * hidden.clone()
        + embed.clone() * (hidden + 1)
        + embed.clone() * 4
}

fn widths(block: &str) -> (Polynomial, Polynomial) {
    (Polynomial::units(&attention_name(block)), Polynomial::units(&hidden_name(block)))
}

/// Stochastic depth of a block: rises linearly from 0 at the first of `blocks` to `last`.
pub(super) fn drop_path_of(block: usize, blocks: usize, last: f64) -> f64 {
    last * block as f64 / blocks.saturating_sub(1).max(1) as f64
}

/// The error of a size for a dimension that a family does not have.
pub(super) fn expect_known(wanted: &Sizes, known: &Sizes) -> Result<()> {
    match wanted.keys().find(|name| !known.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(Error::unknown("dimension", name, known.keys())),
    }
}

/// Multiplies the first `rows` rows of a weight, leaving the caller's tensor as it was.
fn scale_rows(weights: &mut Weights, name: &str, rows: i64, factor: f64) -> Result<()> {
    if factor == 1.0 {
        return Ok(());
    }
    let missing = || Error::unknown("variable", name, weights.keys());
    let weight = weights.get(name).ok_or_else(missing)?;
    let rest = weight.size()[0] - rows;
    let scaled = weight.f_narrow(0, 0, rows)?.f_mul_scalar(factor)?;
    let folded = Tensor::f_cat(&[scaled, weight.f_narrow(0, rows, rest)?], 0)?;
    weights.insert(name.into(), folded);
    Ok(())
}
