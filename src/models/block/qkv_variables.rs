//! The variables of the layers that make queries, keys and values.

use super::BlockConfig;
use crate::models::options::{BlockStyle, QkvBias};

/// Weight or bias of a layer that makes queries, keys or values.
pub(super) struct QkvVariable {
    /// Its name below that of the attention.
    pub(super) name: String,
    /// Axes of outputs: one of rows, by part, head and channel, or one for each of the three.
    pub(super) outputs: Vec<i64>,
    /// How many of queries, keys and values it makes.
    pub(super) parts: i64,
    /// Whether the first of them are queries.
    pub(super) queries: bool,
    /// Whether an axis of inputs comes after those of outputs.
    pub(super) is_weight: bool,
}

impl QkvVariable {
    /// Returns whether parts, heads and channels are axes of their own: it makes queries and keys apart from values.
    pub(super) fn has_axes(&self) -> bool {
        self.outputs.len() > 1
    }

    /// Returns how many entries of the first axis make queries, which come first; 0 for a variable of values alone.
    pub(super) fn query_rows(&self) -> i64 {
        match self.queries {
            true => self.outputs[0] / self.parts,
            false => 0,
        }
    }
}

impl BlockConfig {
    /// Returns the variables of the layers that make queries, keys and values.
    pub(super) fn qkv_variables(&self, style: &BlockStyle) -> Vec<QkvVariable> {
        let kinds = match style.qkv_bias {
            QkvBias::Full => &[("weight", true), ("bias", false)][..],
            QkvBias::None | QkvBias::QueryValue => &[("weight", true)],
        };
        let mut variables = Vec::new();
        for own in self.head_sizes().projections() {
            variables.extend(kinds.iter().map(|&(kind, is_weight)| QkvVariable {
                name: format!("{}.{kind}", own.name),
                outputs: own.outputs.clone(),
                parts: own.parts,
                queries: own.queries,
                is_weight,
            }));
        }
        if style.qkv_bias == QkvBias::QueryValue {
            let bias = |(name, queries): (&str, bool)| QkvVariable {
                name: name.into(),
                outputs: vec![self.attention_dim()],
                parts: 1,
                queries,
                is_weight: false,
            };
            variables.extend([("q_bias", true), ("v_bias", false)].map(bias));
        }
        variables
    }
}
