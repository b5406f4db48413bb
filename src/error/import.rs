//! Errors of fitting a checkpoint's weights to a network.

/// Mismatch between the tensors of a checkpoint and the variables of a network. A wrong shape is
/// [`Error::Shape`](super::Error::Shape).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Tensor names that are none of the family's.
    #[error(
        "names of the checkpoint: got {found:?} and others, which the family {family} does not \
         know; expected for vit and swin those of timm (patch_embed.proj.weight) or of \
         transformers (embeddings.patch_embeddings.projection.weight); rename the tensors"
    )]
    Naming {
        /// Family of the network.
        family: &'static str,
        /// The first names, at most five.
        found: Vec<String>,
    },

    /// A variable without a tensor in the checkpoint.
    #[error("{variable}: expected a tensor, got none; load another checkpoint or configuration")]
    Missing {
        /// Name of the variable in the network.
        variable: String,
    },

    /// A tensor without a variable in the network: without it, the network would compute another
    /// function.
    #[error(
        "{name}: got a tensor for which the network has no variable; change the configuration, \
         or add the name to the option skip to leave it out"
    )]
    Unplaced {
        /// Its name in the checkpoint.
        name: String,
    },

    /// Two tensors for one variable.
    #[error("{variable}: got two tensors, {first} and {second}; leave one out by the option skip")]
    Ambiguous {
        /// Name of the variable in the network.
        variable: String,
        /// Name of the first tensor.
        first: String,
        /// Name of the second tensor.
        second: String,
    },

    /// A weight that is not made of floats.
    #[error("element type of {name}: got {found}, expected a float type")]
    NotFloat {
        /// The variable.
        name: String,
        /// Its element type.
        found: String,
    },

    /// A position table without a square grid behind the prefix tokens.
    #[error("rows of {name}: got {tokens}, expected {prefix} and a square number of patches")]
    Positions {
        /// The variable.
        name: String,
        /// Its rows.
        tokens: i64,
        /// Rows of prefix tokens, such as class and distillation token.
        prefix: i64,
    },

    /// Input channels that cannot be adapted.
    #[error("input channels of {name}: got {from}, expected 3, which can be adapted to {to}")]
    Channels {
        /// The variable.
        name: String,
        /// Channels in the checkpoint.
        from: i64,
        /// Channels of the network.
        to: i64,
    },

    /// Strict import of a checkpoint that does not fit exactly.
    #[error(
        "strict import: {name} would be {fate}, expected loaded; change the configuration, or set \
         strict to false"
    )]
    Strict {
        /// The first such tensor or variable.
        name: String,
        /// skipped, resized, replaced or missing.
        fate: &'static str,
    },
}
