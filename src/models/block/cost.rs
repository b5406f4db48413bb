//! MACs and parameters of a transformer block.

use super::{attention_name, hidden_name, queries_name, BlockConfig};
use crate::cost::Polynomial;
use crate::models::options::{BlockStyle, QkvBias};

/// Numbers of tokens that the MACs of a block depend on.
pub(in crate::models) struct BlockTokens {
    /// Tokens that have queries, keys and values; in padded windows, those of the padding, too.
    pub(in crate::models) attention: f64,
    /// Tokens that each of them attends to.
    pub(in crate::models) context: f64,
    /// Tokens that go through the MLP.
    pub(in crate::models) mlp: f64,
}

impl BlockConfig {
    /// Returns the MACs of the block of this name.
    pub(in crate::models) fn macs(
        &self,
        block: &str,
        style: &BlockStyle,
        embed: &Polynomial,
        tokens: &BlockTokens,
    ) -> Polynomial {
        let Widths { queries, values, hidden } = self.widths(block, style);
        let BlockTokens { attention: mixed, context, mlp } = tokens;
        // q, k, v and the output projection; q·kᵀ and attention·v; the MLP.
        embed.clone() * (queries.clone() + values.clone()) * (2.0 * mixed)
            + (queries + values) * (mixed * context)
            + embed.clone() * hidden * ((style.mlp.parts() + 1) as f64 * mlp)
    }

    /// Returns the parameters of the block of this name. A norm of queries and keys is as long as a head, whose channels
    /// are not pruned then.
    pub(in crate::models) fn params(
        &self,
        block: &str,
        style: &BlockStyle,
        embed: &Polynomial,
    ) -> Polynomial {
        let Widths { queries, values, hidden } = self.widths(block, style);
        let biases = match style.qkv_bias {
            QkvBias::Full => queries.clone() * 2 + values.clone(),
            QkvBias::None => Polynomial::default(),
            QkvBias::QueryValue => queries.clone() + values.clone(),
        };
        // The norm before a branch goes with the branch.
        let (has_attention, has_mlp) =
            (Polynomial::branch(&attention_name(block)), Polynomial::branch(&hidden_name(block)));
        let norm = embed.clone() * style.norm.parameters().len() as i64;
        let scales = if style.layer_scale.is_some() { 2 } else { 0 };
        embed.clone() * (queries * 2 + values.clone())
            + biases
            + has_attention.clone() * (style.qk_norms().count() as i64 * self.head_dim)
            + embed.clone() * (values + 1)
            + (embed.clone() + 1) * hidden.clone() * style.mlp.parts()
            + embed.clone() * (hidden + 1)
            + norm.clone() * has_attention
            + norm * has_mlp
            + embed.clone() * scales
    }

    fn widths(&self, block: &str, style: &BlockStyle) -> Widths {
        let attention = attention_name(block);
        let values = Polynomial::units(&attention) * style.unit();
        let queries = match self.qk_dim {
            None => values.clone(),
            Some(_) => Polynomial::heads(&attention) * Polynomial::units(&queries_name(block)),
        };
        Widths { queries, values, hidden: Polynomial::units(&hidden_name(block)) }
    }
}

/// Widths of a block, all heads together.
struct Widths {
    /// Of queries, and of keys.
    queries: Polynomial,
    values: Polynomial,
    hidden: Polynomial,
}
