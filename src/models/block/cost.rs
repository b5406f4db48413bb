//! MACs and parameters of a transformer block.

use super::{attention_name, hidden_name};
use crate::cost::Polynomial;
use crate::models::options::BlockStyle;

/// Numbers of tokens that the MACs of a block depend on.
pub(in crate::models) struct BlockTokens {
    /// Tokens that have queries, keys and values; in padded windows, those of the padding, too.
    pub(in crate::models) attention: f64,
    /// Tokens that each of them attends to.
    pub(in crate::models) context: f64,
    /// Tokens that go through the MLP.
    pub(in crate::models) mlp: f64,
}

/// Returns the MACs of a block.
pub(in crate::models) fn macs(
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
pub(in crate::models) fn params(
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
