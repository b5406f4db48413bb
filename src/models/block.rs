//! Sizes, dimensions and cost of a transformer block, as ViT and Swin have it.

use super::limits::check_size;
use super::options::{BlockStyle, Norm};
use super::{rotary, Shapes};
use crate::cost::Polynomial;
use crate::space::{Binding, Candidates, Dimension, DimensionKind, Size, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Sizes of one transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockConfig {
    /// Attention heads; 0 if the attention has been removed: then `attn.proj.bias` is all that is left of it.
    pub heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
    /// Hidden width of the MLP; 0 if the MLP has been removed: then `mlp.fc2.bias` is all that is left of it.
    pub hidden_dim: i64,
    /// Attention logits are q·k / √`scale_dim`. A standard network has `head_dim` here; pruning
    /// head channels keeps the dense head dim, so that the logits stay as they are.
    pub scale_dim: i64,
}

impl BlockConfig {
    /// Returns a standard block: its attention scale is 1/√`head_dim`.
    pub fn new(heads: i64, head_dim: i64, hidden_dim: i64) -> Self {
        Self { heads, head_dim, hidden_dim, scale_dim: head_dim }
    }

    /// Returns the width of the concatenated heads.
    pub fn attention_dim(&self) -> i64 {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Returns whether the block has an attention.
    pub fn has_attention(&self) -> bool {
        self.heads != 0
    }

    /// Returns whether the block has an MLP.
    pub fn has_mlp(&self) -> bool {
        self.hidden_dim != 0
    }

    /// Returns 1/√`scale_dim`, the factor on q·k.
    pub(super) fn attention_scale(&self) -> f64 {
        1.0 / (self.scale_dim as f64).sqrt()
    }

    /// Refuses sizes that cannot be built; the error names them after `block`.
    pub(super) fn check(&self, block: &str) -> Result<()> {
        // Heads that do not divide the embedding are reported as such, 0 heads as 0 heads.
        if self.has_attention() || self.head_dim == 0 {
            check_size(&format!("{block}.heads"), self.heads)?;
        }
        if self.head_dim == 0 {
            let expected = "positive; make embed_dim a multiple of heads";
            return Err(Error::invalid(format!("{block}.head_dim"), expected, 0));
        }
        for (name, value, exists) in [
            ("head_dim", self.head_dim, true),
            ("hidden_dim", self.hidden_dim, self.has_mlp()),
            ("scale_dim", self.scale_dim, true),
            ("heads × head_dim", self.attention_dim(), self.has_attention()),
        ] {
            if exists {
                check_size(&format!("{block}.{name}"), value)?;
            }
        }
        Ok(())
    }

    /// Adds names and shapes of the block's variables over an embedding of this width.
    pub(super) fn variables(
        &self,
        block: &str,
        width: i64,
        style: &BlockStyle,
        shapes: &mut Shapes,
    ) {
        let removed = [(self.has_attention(), "attn.proj"), (self.has_mlp(), "mlp.fc2")];
        for (_, last) in removed.into_iter().filter(|(exists, _)| !exists) {
            shapes.insert(format!("{block}.{last}.bias"), vec![width]);
        }
        if self.has_attention() {
            self.attention_variables(block, width, style, shapes);
        }
        if self.has_mlp() {
            norm(shapes, &format!("{block}.norm2"), width, style.norm);
            linear(shapes, &format!("{block}.mlp.fc1"), width, style.mlp.parts() * self.hidden_dim);
            linear(shapes, &format!("{block}.mlp.fc2"), self.hidden_dim, width);
        }
        if style.layer_scale.is_some() {
            for scale in ["ls1", "ls2"] {
                shapes.insert(format!("{block}.{scale}.gamma"), vec![width]);
            }
        }
    }

    fn attention_variables(
        &self,
        block: &str,
        width: i64,
        style: &BlockStyle,
        shapes: &mut Shapes,
    ) {
        let (inner, attention) = (self.attention_dim(), attention_name(block));
        norm(shapes, &format!("{block}.norm1"), width, style.norm);
        shapes.insert(format!("{attention}.qkv.weight"), vec![3 * inner, width]);
        for (bias, parts) in style.qkv_bias.variables() {
            shapes.insert(format!("{attention}.{bias}"), vec![parts * inner]);
        }
        for own in style.qk_norms() {
            shapes.insert(format!("{attention}.{own}"), vec![self.head_dim]);
        }
        if style.rotary.is_some() {
            shapes.extend([rotary::variable(&attention, self.heads, self.head_dim)]);
        }
        linear(shapes, &format!("{attention}.proj"), inner, width);
    }

    /// Returns the dimensions of the block of this name: heads × channels, and hidden neurons; none for a branch that has
    /// been removed. The MLP is removable, and so is the attention unless it `stays`.
    ///
    /// A norm of queries and keys is over the channels of a head, which then all stay: only heads
    /// are pruned. Of channels that are rotated in pairs, the units are the pairs.
    pub(super) fn dimensions(
        &self,
        block: &str,
        style: &BlockStyle,
        stays: bool,
    ) -> Result<Vec<Dimension>> {
        let mut dimensions = Vec::new();
        if self.has_attention() {
            let attention = self.attention(block, style)?;
            dimensions.push(Dimension { removable: !stays, ..attention });
        }
        if self.has_mlp() {
            dimensions.push(self.hidden(block, style)?.removable());
        }
        Ok(dimensions)
    }

    /// Returns the dimension of the attention.
    fn attention(&self, block: &str, style: &BlockStyle) -> Result<Dimension> {
        let (name, unit) = (attention_name(block), style.unit());
        let units = self.attention_size(style);
        let mut candidates = Candidates::attention_of_units(units, unit)?;
        if style.qk_norm.is_some() {
            candidates = candidates.at_least(Size { heads: 1, ..units })?;
        }
        let rows = |variable: &str, parts| {
            Binding::gated(format!("{name}.{variable}"), 0).outer(parts).inner(unit)
        };
        let mut attention =
            Dimension::new(&name, DimensionKind::Attention, candidates).bind(rows("qkv.weight", 3));
        for &(bias, parts) in style.qkv_bias.variables() {
            attention = attention.bind(rows(bias, parts));
        }
        let columns = Binding::narrowed(format!("{name}.proj.weight"), 1).inner(unit);
        let mut attention = attention.bind(columns);
        if style.rotary.is_some() {
            let frequencies = format!("{name}.{}", rotary::VARIABLE);
            attention = attention.bind(Binding::narrowed(frequencies, 1));
        }
        Ok(attention)
    }

    /// Returns the dimension of the hidden neurons of the block of this name.
    pub(super) fn hidden(&self, block: &str, style: &BlockStyle) -> Result<Dimension> {
        let (name, parts) = (hidden_name(block), style.mlp.parts());
        let candidates = Candidates::hidden(self.hidden_dim)?;
        Ok(Dimension::new(&name, DimensionKind::Hidden, candidates)
            .bind(Binding::gated(format!("{name}.fc1.weight"), 0).outer(parts))
            .bind(Binding::gated(format!("{name}.fc1.bias"), 0).outer(parts))
            .bind(Binding::narrowed(format!("{name}.fc2.weight"), 1)))
    }

    /// Returns the names of the norms that the block has.
    pub(super) fn norms(&self, block: &str) -> impl Iterator<Item = String> {
        self.of_branches(block, [&["norm1"], &["norm2"]])
    }

    /// Returns the names of the variables that read the embedding.
    pub(super) fn readers(&self, block: &str) -> impl Iterator<Item = String> {
        self.of_branches(block, [&["attn.qkv.weight"], &["mlp.fc1.weight"]])
    }

    /// Returns the names of the variables that write into the embedding: of a removed branch, its constant.
    pub(super) fn writers(&self, block: &str) -> impl Iterator<Item = String> {
        let weights = self.of_branches(block, [&["attn.proj.weight"], &["mlp.fc2.weight"]]);
        weights.chain(["attn.proj.bias", "mlp.fc2.bias"].map(|own| format!("{block}.{own}")))
    }

    /// Returns names of attention and MLP, as far as the block has them.
    fn of_branches(
        &self,
        block: &str,
        [attention, mlp]: [&[&str]; 2],
    ) -> impl Iterator<Item = String> {
        let attention = attention.iter().filter(|_| self.has_attention());
        let mlp = mlp.iter().filter(|_| self.has_mlp());
        let names: Vec<String> = attention.chain(mlp).map(|own| format!("{block}.{own}")).collect();
        names.into_iter()
    }

    /// Returns the block's sizes by the names of its dimensions.
    pub(super) fn sizes(&self, block: &str, style: &BlockStyle) -> [(String, Size); 2] {
        let present = |exists, size| if exists { size } else { Size::REMOVED };
        let attention = present(self.has_attention(), self.attention_size(style));
        let hidden = present(self.has_mlp(), Size::flat(self.hidden_dim));
        [(attention_name(block), attention), (hidden_name(block), hidden)]
    }

    /// Returns the heads, and the prunable units of a head.
    fn attention_size(&self, style: &BlockStyle) -> Size {
        Size { heads: self.heads, channels: self.head_dim / style.unit() }
    }

    /// Sets those of the block's sizes that are in `sizes`.
    pub(super) fn resize(&mut self, block: &str, style: &BlockStyle, sizes: &Sizes) {
        match sizes.get(&attention_name(block)) {
            None => {}
            // The channels of a head have no meaning then: a valid number, the same whatever was pruned before.
            Some(size) if size.is_removed() => (self.heads, self.head_dim) = (0, self.scale_dim),
            Some(size) => {
                (self.heads, self.head_dim) =
                    (size.heads, size.channels.saturating_mul(style.unit()))
            }
        }
        if let Some(size) = sizes.get(&hidden_name(block)) {
            self.hidden_dim = size.channels;
        }
    }

    /// Multiplies q by √(head_dim/scale_dim), and makes the block a standard one:
    /// q·k/√scale_dim = (q·√(head_dim/scale_dim))·k/√head_dim. The factor goes into the layer that
    /// makes q: its norm, if there is one, or else the rows of qkv.
    pub(super) fn fold_attention_scale(
        &mut self,
        block: &str,
        style: &BlockStyle,
        weights: &mut Weights,
    ) -> Result<()> {
        if !self.has_attention() {
            return Ok(());
        }
        let factor = (self.head_dim as f64 / self.scale_dim as f64).sqrt();
        let (attention, inner) = (attention_name(block), self.attention_dim());
        let folded: Vec<(String, i64)> = match style.qk_norm {
            Some(norm) => {
                let parameters = norm.parameters().iter();
                parameters.map(|own| (format!("q_norm.{own}"), self.head_dim)).collect()
            }
            None => {
                let first = style.qkv_bias.variables().first();
                let makers = ["qkv.weight"].into_iter().chain(first.map(|(bias, _)| *bias));
                makers.map(|own| (own.to_owned(), inner)).collect()
            }
        };
        for (own, rows) in folded {
            scale_rows(weights, &format!("{attention}.{own}"), rows, factor)?;
        }
        self.scale_dim = self.head_dim;
        Ok(())
    }
}

/// Adds names and shapes of a linear map with bias.
pub(super) fn linear(shapes: &mut Shapes, name: &str, inputs: i64, outputs: i64) {
    shapes.insert(format!("{name}.weight"), vec![outputs, inputs]);
    shapes.insert(format!("{name}.bias"), vec![outputs]);
}

/// Adds names and shapes of a norm.
pub(super) fn norm(shapes: &mut Shapes, name: &str, width: i64, norm: Norm) {
    for parameter in norm.parameters() {
        shapes.insert(format!("{name}.{parameter}"), vec![width]);
    }
}

pub(super) fn attention_name(block: &str) -> String {
    format!("{block}.attn")
}

pub(super) fn hidden_name(block: &str) -> String {
    format!("{block}.mlp")
}

/// Numbers of tokens that the MACs of a block depend on.
pub(super) struct BlockTokens {
    /// Tokens that have queries, keys and values; in padded windows, those of the padding, too.
    pub(super) attention: f64,
    /// Tokens that each of them attends to.
    pub(super) context: f64,
    /// Tokens that go through the MLP.
    pub(super) mlp: f64,
}

/// Returns the MACs of a block.
pub(super) fn macs(
    block: &str,
    style: &BlockStyle,
    embed: &Polynomial,
    tokens: &BlockTokens,
) -> Polynomial {
    let (attention, hidden) = widths(block, style);
    let BlockTokens { attention: mixed, context, mlp } = tokens;
    // q, k, v and the output projection; q·kᵀ and attention·v; the MLP.
    embed.clone() * attention.clone() * (4.0 * mixed)
        + attention * (2.0 * mixed * context)
        + embed.clone() * hidden * ((style.mlp.parts() + 1) as f64 * mlp)
}

/// Returns the parameters of a block. `head_dim` is the length of the norms of queries and keys,
/// whose channels are not pruned.
pub(super) fn params(
    block: &str,
    style: &BlockStyle,
    embed: &Polynomial,
    head_dim: i64,
) -> Polynomial {
    let (attention, hidden) = widths(block, style);
    let biases: i64 = style.qkv_bias.variables().iter().map(|(_, parts)| parts).sum();
    // The norm before a branch goes with the branch.
    let (has_attention, has_mlp) =
        (Polynomial::branch(&attention_name(block)), Polynomial::branch(&hidden_name(block)));
    let norm = embed.clone() * style.norm.parameters().len() as i64;
    let scales = if style.layer_scale.is_some() { 2 } else { 0 };
    embed.clone() * attention.clone() * 3
        + attention.clone() * biases
        + has_attention.clone() * (style.qk_norms().count() as i64 * head_dim)
        + embed.clone() * (attention + 1)
        + (embed.clone() + 1) * hidden.clone() * style.mlp.parts()
        + embed.clone() * (hidden + 1)
        + norm.clone() * has_attention
        + norm * has_mlp
        + embed.clone() * scales
}

/// Width of the concatenated heads, and of the hidden neurons.
fn widths(block: &str, style: &BlockStyle) -> (Polynomial, Polynomial) {
    let attention = Polynomial::units(&attention_name(block)) * style.unit();
    (attention, Polynomial::units(&hidden_name(block)))
}

/// Returns the stochastic depth rate of a block, which rises linearly from 0 at the first of
/// `blocks` to `last` at the last.
pub(super) fn drop_path_of(block: usize, blocks: usize, last: f64) -> f64 {
    last * block as f64 / blocks.saturating_sub(1).max(1) as f64
}

/// Replaces a weight by a copy whose first `rows` rows are multiplied by `factor`.
pub(super) fn scale_rows(weights: &mut Weights, name: &str, rows: i64, factor: f64) -> Result<()> {
    if factor == 1.0 {
        return Ok(());
    }
    let weight = weights.get(name).ok_or_else(|| Error::missing("weight", name))?;
    let rest = weight.size()[0] - rows;
    let scaled = weight.f_narrow(0, 0, rows)?.f_mul_scalar(factor)?;
    let folded = Tensor::f_cat(&[scaled, weight.f_narrow(0, rows, rest)?], 0)?;
    weights.insert(name.into(), folded);
    Ok(())
}
