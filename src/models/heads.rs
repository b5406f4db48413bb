//! Heads of an attention, and the layers that make their queries, keys and values.

/// Number of heads of an attention, and channels of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSizes {
    /// Number of heads.
    pub heads: i64,
    /// Channels of a head; with `qk_dim`, of its values alone.
    pub head_dim: i64,
    /// Channels of queries and keys of a head, where they have a width of their own.
    pub qk_dim: Option<i64>,
}

/// Layer that makes queries, keys or values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Projection {
    /// Its name below that of the attention.
    pub(crate) name: &'static str,
    /// How many of queries, keys and values it makes.
    pub(crate) parts: i64,
    /// Whether the first of them are queries.
    pub(crate) queries: bool,
    /// Channels of a head of each.
    pub(crate) channels: i64,
    /// Axes of its weight before that of the inputs, and axes of its bias.
    pub(crate) outputs: Vec<i64>,
}

impl HeadSizes {
    /// Returns the channels of queries and keys of a head.
    pub fn queries(self) -> i64 {
        self.qk_dim.unwrap_or(self.head_dim)
    }

    /// Returns the width at which libtorch computes q·kᵀ and attention·v. Narrower queries and keys, or values, are padded
    /// with zeros, which change nothing: its fused attention takes one width alone, and is several times faster.
    pub(crate) fn padded(self) -> i64 {
        self.queries().max(self.head_dim)
    }

    /// Returns the layers that make queries, keys and values, in this order: `qkv`; or `qk`, whose outputs have axes of
    /// their own for parts, heads and channels, and `v`.
    pub(crate) fn projections(self) -> Vec<Projection> {
        let Self { heads, head_dim, qk_dim } = self;
        let rows = |parts: i64| vec![parts.saturating_mul(heads.saturating_mul(head_dim))];
        let Some(own) = qk_dim else {
            let (name, parts, outputs) = ("qkv", 3, rows(3));
            return vec![Projection { name, parts, queries: true, channels: head_dim, outputs }];
        };
        vec![
            Projection {
                name: "qk",
                parts: 2,
                queries: true,
                channels: own,
                outputs: vec![2, heads, own],
            },
            Projection {
                name: "v",
                parts: 1,
                queries: false,
                channels: head_dim,
                outputs: rows(1),
            },
        ]
    }
}

impl Projection {
    /// Returns whether parts, heads and channels of its outputs are axes of their own, not one of rows.
    pub(crate) fn has_axes(&self) -> bool {
        self.outputs.len() > 1
    }
}
