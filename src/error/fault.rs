//! What is wrong with a declared search space.

use std::fmt;

/// One thing that [`crate::check::self_check`] has found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Reordering the units of a dimension in everything bound to it changes the logits.
    #[error(
        "reordering the units of {dimension} changes the logits by {difference:.1e} of their \
         scale: {}{}",
        if *explained { "" } else { "more than one axis is wrong, these help most: " },
        listed(suspects)
    )]
    Order {
        /// The dimension.
        dimension: String,
        /// Root mean square of the change, as a share of that of the logits.
        difference: f64,
        /// Where to look.
        suspects: Vec<Suspect>,
        /// Whether following the advice would leave the logits as they are; otherwise, the
        /// suspects are what helps most, and a guess.
        explained: bool,
    },

    /// Gates at zero leave something of the units.
    #[error(
        "units of {dimension} with gates at zero still change the logits by {difference:.1e} of \
         their scale: {}",
        listed(suspects)
    )]
    Gates {
        /// The dimension.
        dimension: String,
        /// Root mean square of the change, as a share of that of the logits.
        difference: f64,
        /// Where to look.
        suspects: Vec<Suspect>,
    },

    /// Nothing in a dimension is gated, so its importance would never be learned.
    #[error("no binding of {dimension} is gated")]
    NoGate {
        /// The dimension.
        dimension: String,
    },

    /// The network at other sizes has a variable that is not what slicing makes of it.
    #[error(
        "with {dimension} at {heads} × {channels}, axis {axis} of {variable} is {actual} long \
         where the bindings make it {expected}: {}",
        if expected > actual { "bind it, if it follows the dimension" }
        else { "resized ignores the dimension there, or the binding is wrong" }
    )]
    Length {
        /// The dimension.
        dimension: String,
        /// Heads of the size it was given, 1 where the dimension is flat.
        heads: i64,
        /// Channels of a head, or units.
        channels: i64,
        /// The variable.
        variable: String,
        /// Its axis.
        axis: usize,
        /// What slicing by the bindings leaves.
        expected: i64,
        /// What `build` makes at that size; 0 where the variable or the axis is missing.
        actual: i64,
    },

    /// All lengths are right, and yet the narrowed network is another one than the masked.
    #[error(
        "with {dimension} at {heads} × {channels} the narrowed network differs from the masked one \
         by {difference:.1e} of the logits' scale: what `build` makes of the size beside the \
         weights (axis {axis} of {variable} is right), such as heads or the scale of attention"
    )]
    Narrowing {
        /// The dimension.
        dimension: String,
        /// Heads of the size it was given, 1 where the dimension is flat.
        heads: i64,
        /// Channels of a head, or units.
        channels: i64,
        /// A variable that the dimension gates: the layer to look at.
        variable: String,
        /// Its axis.
        axis: usize,
        /// Root mean square of the difference, as a share of that of the logits.
        difference: f64,
    },

    /// The cost model speaks of a dimension that neither the space nor its dense sizes have.
    #[error("the cost model names {dimension}, which is neither searched nor has a dense size")]
    UnknownCost {
        /// The name it uses.
        dimension: String,
    },

    /// A dimension that costs nothing: no budget could tell its sizes apart.
    #[error("{dimension} is searched, but the cost model does not depend on it")]
    Free {
        /// The dimension.
        dimension: String,
    },

    /// The cost model counts other parameters than the slices take away.
    #[error(
        "{dimension} at {heads} × {channels} saves {expected} parameters, {actual} by the cost model"
    )]
    Parameters {
        /// The dimension.
        dimension: String,
        /// Heads of the size it was given, 1 where the dimension is flat.
        heads: i64,
        /// Channels of a head, or units.
        channels: i64,
        /// Trainable numbers that the slices take away.
        expected: f64,
        /// What the cost model says.
        actual: f64,
    },
}

/// An axis to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// The variable.
    pub variable: String,
    /// Its axis.
    pub axis: usize,
    /// What would explain the fault.
    pub advice: Advice,
}

/// What would explain a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// The axis follows the dimension, and is not bound to it.
    Bind {
        /// Repetitions outside the units.
        outer: i64,
        /// Repetitions inside a unit.
        inner: i64,
    },
    /// The axis has an entry for every head, and is not bound to the dimension.
    BindHeads,
    /// The axis is bound, and does not follow the dimension.
    Unbind,
    /// Another axis follows the dimension in its place.
    BindInstead {
        /// The other variable.
        variable: String,
        /// The other axis.
        axis: usize,
    },
    /// The axis is laid out in another way.
    Layout {
        /// Repetitions outside the units.
        outer: i64,
        /// Repetitions inside a unit.
        inner: i64,
    },
    /// The units form another grid.
    Grid {
        /// Heads.
        heads: i64,
        /// Channels of a head.
        channels: i64,
    },
    /// Heads and channels lie the other way round in memory: channel by channel.
    ChannelsOutside,
    /// The axis has to be gated (or written, in an embedding), not only narrowed.
    Gate,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { variable, axis, advice } = self;
        match advice {
            Advice::Bind { outer, inner } => {
                write!(f, "axis {axis} of {variable} is not bound (outer {outer}, inner {inner})")
            }
            Advice::BindHeads => write!(f, "axis {axis} of {variable} is not bound (over heads)"),
            Advice::Unbind => write!(f, "axis {axis} of {variable} should not be bound"),
            Advice::BindInstead { variable: other, axis: at } => {
                write!(f, "not axis {axis} of {variable} but axis {at} of {other} follows")
            }
            Advice::Layout { outer, inner } => {
                write!(f, "axis {axis} of {variable} has outer {outer} and inner {inner}")
            }
            Advice::Grid { heads, channels } => {
                write!(f, "axis {axis} of {variable} is a grid of {heads} × {channels}")
            }
            Advice::ChannelsOutside => {
                write!(f, "axis {axis} of {variable} has channels outside, heads inside")
            }
            Advice::Gate => write!(f, "axis {axis} of {variable} has to be gated or written"),
        }
    }
}

/// Suspects in a sentence.
fn listed(suspects: &[Suspect]) -> String {
    if suspects.is_empty() {
        return "no change of one axis helps".into();
    }
    suspects.iter().map(Suspect::to_string).collect::<Vec<_>>().join(", ")
}
