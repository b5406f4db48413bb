//! Sizes, dimensions and cost of a transformer block, as ViT and Swin have it.

mod apart;
mod cost;
mod qkv_variables;
mod space;

pub(in crate::models) use cost::BlockTokens;

use super::family::width_in;
use super::heads::HeadSizes;
use super::limits::check_size;
use super::options::{BlockStyle, Norm};
use super::Shapes;
use crate::space::{Size, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Sizes of one transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// Attention heads; 0 if the attention has been removed: then `attn.proj.bias` is all that is left of it.
    pub heads: i64,
    /// Channels of a head; with `qk_dim`, of its values alone.
    pub head_dim: i64,
    /// Hidden width of the MLP; 0 if the MLP has been removed: then `mlp.fc2.bias` is all that is left of it.
    pub hidden_dim: i64,
    /// Attention logits are q·k / √`scale_dim`. A standard network has the channels of a head of queries here; pruning
    /// head channels keeps the dense number, so that the logits stay as they are.
    pub scale_dim: i64,
    /// Channels of queries and keys of a head, where they have a width of their own, apart from values
    /// ([`Architecture::qk_v_apart`](super::Architecture::qk_v_apart)): `attn.qk` and `attn.v` take the place of
    /// `attn.qkv` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qk_dim: Option<i64>,
}

impl BlockConfig {
    /// Returns a standard block: its attention scale is 1/√`head_dim`.
    pub fn new(heads: i64, head_dim: i64, hidden_dim: i64) -> Self {
        Self { heads, head_dim, hidden_dim, scale_dim: head_dim, qk_dim: None }
    }

    /// Returns number and channels of the heads.
    pub(in crate::models) fn head_sizes(&self) -> HeadSizes {
        HeadSizes { heads: self.heads, head_dim: self.head_dim, qk_dim: self.qk_dim }
    }

    /// Returns the width of the concatenated heads, which the output projection reads.
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
    pub(in crate::models) fn attention_scale(&self) -> f64 {
        1.0 / (self.scale_dim as f64).sqrt()
    }

    /// Refuses sizes that cannot be built; the error names them after `block`.
    pub(in crate::models) fn check(&self, block: &str) -> Result<()> {
        // Heads that do not divide the embedding are reported as such, 0 heads as 0 heads.
        if self.has_attention() || self.head_dim == 0 {
            check_size(&format!("{block}.heads"), self.heads)?;
        }
        if self.head_dim == 0 {
            let expected = "positive; make embed_dim a multiple of heads";
            return Err(Error::invalid(format!("{block}.head_dim"), expected, 0));
        }
        let queries = self.head_sizes().queries();
        for (name, value, exists) in [
            ("head_dim", self.head_dim, true),
            ("hidden_dim", self.hidden_dim, self.has_mlp()),
            ("scale_dim", self.scale_dim, true),
            ("heads × head_dim", self.attention_dim(), self.has_attention()),
            ("qk_dim", self.qk_dim.unwrap_or(0), self.qk_dim.is_some()),
            ("heads × qk_dim", self.heads.saturating_mul(queries), self.has_attention()),
        ] {
            if exists {
                check_size(&format!("{block}.{name}"), value)?;
            }
        }
        Ok(())
    }

    /// Returns the block's sizes by the names of its dimensions.
    pub(in crate::models) fn sizes(
        &self,
        block: &str,
        style: &BlockStyle,
    ) -> impl Iterator<Item = (String, Size)> {
        let present = |exists, size| if exists { size } else { Size::REMOVED };
        let attention = present(self.has_attention(), self.attention_size(style));
        let hidden = present(self.has_mlp(), Size::flat(self.hidden_dim));
        let queries = |own| (queries_name(block), present(self.has_attention(), Size::flat(own)));
        let queries = self.qk_dim.map(queries);
        let both = [(attention_name(block), attention), (hidden_name(block), hidden)];
        both.into_iter().chain(queries)
    }

    /// Returns the heads, and the prunable units of a head.
    fn attention_size(&self, style: &BlockStyle) -> Size {
        Size { heads: self.heads, channels: self.head_dim / style.unit() }
    }

    /// Sets those of the block's sizes that are in `sizes`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for heads of a dimension without.
    pub(in crate::models) fn resize(
        &mut self,
        block: &str,
        style: &BlockStyle,
        sizes: &Sizes,
    ) -> Result<()> {
        if let Some(size) = sizes.get(&attention_name(block)) {
            (self.heads, self.head_dim) = (size.heads, size.channels.saturating_mul(style.unit()));
        }
        if let Some(width) = width_in(sizes, &queries_name(block))? {
            self.qk_dim = self.qk_dim.and(Some(width));
        }
        if !self.has_attention() {
            // The channels of a head have no meaning then: a valid number, the same whatever was pruned before.
            self.head_dim = self.scale_dim;
            self.qk_dim = self.qk_dim.and(Some(self.scale_dim));
        }
        if let Some(width) = width_in(sizes, &hidden_name(block))? {
            self.hidden_dim = width;
        }
        Ok(())
    }

    /// Multiplies q, of D channels a head, by √(D/scale_dim), and makes the block a standard one:
    /// q·k/√scale_dim = (q·√(D/scale_dim))·k/√D. The factor goes into the layer that
    /// makes q: its norm, if there is one, or else its part of qkv or of qk.
    pub(in crate::models) fn fold_attention_scale(
        &mut self,
        block: &str,
        style: &BlockStyle,
        weights: &mut Weights,
    ) -> Result<()> {
        if !self.has_attention() {
            return Ok(());
        }
        let (attention, width) = (attention_name(block), self.head_sizes().queries());
        let factor = (width as f64 / self.scale_dim as f64).sqrt();
        let folded: Vec<(String, i64)> = match style.qk_norm {
            Some(norm) => {
                let parameters = norm.parameters().iter();
                parameters.map(|own| (format!("q_norm.{own}"), self.head_dim)).collect()
            }
            None => {
                let variables = self.qkv_variables(style).into_iter();
                let queries = variables.filter(|own| own.queries);
                queries.map(|own| (own.name.clone(), own.query_rows())).collect()
            }
        };
        for (own, rows) in folded {
            scale_rows(weights, &format!("{attention}.{own}"), rows, factor)?;
        }
        self.scale_dim = width;
        Ok(())
    }
}

/// Adds names and shapes of a linear map with bias.
pub(in crate::models) fn linear(shapes: &mut Shapes, name: &str, inputs: i64, outputs: i64) {
    shapes.insert(format!("{name}.weight"), vec![outputs, inputs]);
    shapes.insert(format!("{name}.bias"), vec![outputs]);
}

/// Adds names and shapes of a norm.
pub(in crate::models) fn norm(shapes: &mut Shapes, name: &str, width: i64, norm: Norm) {
    for parameter in norm.parameters() {
        shapes.insert(format!("{name}.{parameter}"), vec![width]);
    }
}

pub(in crate::models) fn attention_name(block: &str) -> String {
    format!("{block}.attn")
}

/// Returns the name of the dimension of the channels of queries and keys.
pub(in crate::models) fn queries_name(block: &str) -> String {
    format!("{}.qk", attention_name(block))
}

pub(in crate::models) fn hidden_name(block: &str) -> String {
    format!("{block}.mlp")
}

/// Returns the stochastic depth rate of a block, which rises linearly from 0 at the first of
/// `blocks` to `last` at the last.
pub(in crate::models) fn drop_path_of(block: usize, blocks: usize, last: f64) -> f64 {
    last * block as f64 / blocks.saturating_sub(1).max(1) as f64
}

/// Replaces a weight by a copy whose first `rows` rows are multiplied by `factor`.
pub(in crate::models) fn scale_rows(
    weights: &mut Weights,
    name: &str,
    rows: i64,
    factor: f64,
) -> Result<()> {
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
