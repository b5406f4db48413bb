//! The variables that make queries, keys and values.

use super::BlockConfig;
use crate::models::options::{BlockStyle, QkvBias};

/// A variable that makes some of queries, keys and values.
pub(super) struct Maker {
    /// Its name below that of the attention.
    pub(super) name: String,
    /// Axes of outputs: one of rows, by part, head and channel, or one for each of the three.
    pub(super) outputs: Vec<i64>,
    /// How many of queries, keys and values it makes.
    pub(super) parts: i64,
}

impl Maker {
    /// Returns whether it is a weight, with an axis of inputs after those of outputs.
    pub(super) fn is_weight(&self) -> bool {
        self.name.ends_with(".weight")
    }

    /// Returns whether parts, heads and channels are axes of their own: it makes queries and keys apart from values.
    pub(super) fn has_axes(&self) -> bool {
        self.outputs.len() > 1
    }

    /// Returns how many entries of the first axis make queries, which come first; 0 for a variable of values alone.
    pub(super) fn queries(&self) -> i64 {
        match self.name.starts_with('v') {
            true => 0,
            false => self.outputs[0] / self.parts,
        }
    }
}

impl BlockConfig {
    /// Returns the variables that make queries, keys and values.
    pub(super) fn makers(&self, style: &BlockStyle) -> Vec<Maker> {
        let kinds = match style.qkv_bias {
            QkvBias::Full => &["weight", "bias"][..],
            QkvBias::None | QkvBias::QueryValue => &["weight"],
        };
        let mut makers = Vec::new();
        for own in self.head_sizes().projections() {
            makers.extend(kinds.iter().map(|kind| Maker {
                name: format!("{}.{kind}", own.name),
                outputs: own.outputs.clone(),
                parts: own.parts,
            }));
        }
        if style.qkv_bias == QkvBias::QueryValue {
            let bias = |name: &str| Maker {
                name: name.into(),
                outputs: vec![self.attention_dim()],
                parts: 1,
            };
            makers.extend(["q_bias", "v_bias"].map(bias));
        }
        makers
    }
}
