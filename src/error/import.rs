//! Why weights do not fit a network.

/// What keeps the tensors of a checkpoint from becoming a network's weights. A wrong shape is
/// [`Error::Shape`](super::Error::Shape).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Names of neither convention.
    #[error(
        "neither timm's names (patch_embed.proj.weight) nor those of transformers \
         (embeddings.patch_embeddings.projection.weight); the first are {found:?}"
    )]
    Naming {
        /// The first names.
        found: Vec<String>,
    },

    /// A variable the checkpoint does not have, and that cannot start fresh.
    #[error("the checkpoint has no {variable}")]
    Missing {
        /// Its name in the network (timm's).
        variable: String,
    },

    /// A tensor the network has no place for: without it, it would compute something else.
    #[error(
        "the network has no place for {name}; if it may be left out, add it to the option skip"
    )]
    Unplaced {
        /// Its name in the checkpoint.
        name: String,
    },

    /// Two tensors for one variable.
    #[error("{first} and {second} are both {variable}")]
    Ambiguous {
        /// The variable's name in the network.
        variable: String,
        /// The tensor that came first.
        first: String,
        /// The tensor that came second.
        second: String,
    },

    /// A weight that is not made of floats.
    #[error("{name} holds {found}, expected floats")]
    NotFloat {
        /// The variable.
        name: String,
        /// Its element type.
        found: String,
    },

    /// A position table that is no square grid behind the prefix tokens.
    #[error("{name} has {tokens} positions, expected {prefix} and a square number")]
    Positions {
        /// The variable.
        name: String,
        /// Its positions.
        tokens: i64,
        /// Class and distillation tokens.
        prefix: i64,
    },

    /// Input channels that timm's rule does not cover.
    #[error("{name} takes {from} channels, expected 3 to make {to} of them")]
    Channels {
        /// The variable.
        name: String,
        /// Channels in the checkpoint.
        from: i64,
        /// Channels of the network.
        to: i64,
    },

    /// Strict import of a checkpoint that does not fit exactly.
    #[error("strict import: {name} would be {fate}, expected loaded")]
    Strict {
        /// The first such tensor.
        name: String,
        /// skipped, resized, replaced or missing.
        fate: &'static str,
    },
}
