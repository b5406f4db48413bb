//! Errors of fitting a checkpoint's weights to a network.

/// The first names, and the number of the others.
fn listed(found: &[String], others: usize) -> String {
    match others {
        0 => found.join(", "),
        others => format!("{} and {others} more", found.join(", ")),
    }
}

/// The message of [`ImportError::Naming`], without what it is about.
fn naming(found: &[String], others: usize, family: &str, recognised: Option<&str>) -> String {
    if found.is_empty() {
        return "got no tensor, expected those of the network; give the file with the weights, or correct \
                the option skip"
            .into();
    }
    let found = listed(found, others);
    match recognised {
        Some(words) => {
            format!("got {found}, recognised as {words}; the family {family} does not support it")
        }
        None => format!(
            "got {found}, which the family {family} does not know; expected for vit and swin those of timm \
             (patch_embed.proj.weight) or of transformers \
             (embeddings.patch_embeddings.projection.weight); rename the tensors"
        ),
    }
}

/// The end of the message of [`ImportError::Unplaced`].
fn unplaced(part: Option<&str>) -> String {
    match part {
        Some(words) => format!("a tensor of {words}; without it, another function is computed"),
        None => "a tensor for which the network has no variable; change the configuration, or, if \
                 it takes no part in the classification, leave it out by the option skip"
            .into(),
    }
}

/// Mismatch between the tensors of a checkpoint and the variables of a network. A wrong shape is
/// [`Error::Shape`](super::Error::Shape).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Tensor names that are none of the family's.
    #[error("names of the checkpoint: {}", naming(found, *others, family, *recognised))]
    Naming {
        /// Family of the network.
        family: &'static str,
        /// The first names, at most five.
        found: Vec<String>,
        /// Number of other names.
        others: usize,
        /// What the checkpoint is, where its names are known: an adapter of PEFT, BEiT.
        recognised: Option<&'static str>,
    },

    /// A network under a prefix that not all names have.
    #[error(
        "names of the checkpoint: got a network under each of the prefixes {}, and outside \
         the first {}; expected one prefix for all; choose the network by the option prefix, which \
         leaves out all others",
        prefixes.join(", "), outside.join(", ")
    )]
    Prefix {
        /// The prefixes, at most five.
        prefixes: Vec<String>,
        /// The first names without the first prefix, at most five.
        outside: Vec<String>,
    },

    /// A prefix that a part of the network's tensors has, and the others have not.
    #[error(
        "names of the checkpoint: got {} with the prefix {prefix} and {} without it, expected the \
         prefix before all names or none; remove it in Python, or leave these names out by the option \
         skip",
        inside.join(", "), outside.join(", ")
    )]
    PrefixOfSome {
        /// The prefix, with a dot at its end.
        prefix: String,
        /// The first names with it, at most five.
        inside: Vec<String>,
        /// The first names without it, at most five.
        outside: Vec<String>,
    },

    /// The option `prefix` is that of no tensor.
    #[error(
        "option prefix: got {prefix}, expected that of some of the names {}",
        if found.is_empty() { "(there are none)".into() } else { listed(found, *others) }
    )]
    PrefixUnknown {
        /// The option's value, with a dot at its end.
        prefix: String,
        /// The first names, at most five.
        found: Vec<String>,
        /// Number of other names.
        others: usize,
    },

    /// A variable without a tensor in the checkpoint.
    #[error("{variable}: expected a tensor, got none; load another checkpoint or configuration")]
    Missing {
        /// Name of the variable in the network.
        variable: String,
    },

    /// A tensor without a variable in the network.
    #[error("{name}: got {}", unplaced(*part))]
    Unplaced {
        /// Its name in the checkpoint.
        name: String,
        /// What it is of, where it is known to change what the network computes.
        part: Option<&'static str>,
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

    /// A weight that is not a finite number in f32.
    #[error("{name}: got {found}, expected finite numbers; load another checkpoint")]
    NotFinite {
        /// The tensor.
        name: String,
        /// A NaN, an infinity, or a number beyond the range.
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
