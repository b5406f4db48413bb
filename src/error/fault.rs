//! Faults of a declared search space.

use std::fmt;

/// One fault that [`crate::check::self_check`] found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Reordering the units of a dimension in all axes bound to it changes the logits.
    #[error(
        "order of the units of {dimension}: reordering them changes the logits by \
         {difference:.1e} of their scale, expected no change; {}{}",
        if *explained { "" } else { "more than one axis is wrong, most likely: " },
        listed(suspects)
    )]
    Order {
        /// The dimension.
        dimension: String,
        /// Root mean square of the change, as a share of that of the logits.
        difference: f64,
        /// Axes to look at.
        suspects: Vec<Suspect>,
        /// Whether following the advice removes the difference; otherwise the suspects are the
        /// changes that reduce it most.
        explained: bool,
    },

    /// Units whose gates are zero still change the logits.
    #[error(
        "gates of {dimension}: at zero, the units still change the logits by {difference:.1e} of \
         their scale, expected no change; {}",
        listed(suspects)
    )]
    Gates {
        /// The dimension.
        dimension: String,
        /// Root mean square of the change, as a share of that of the logits.
        difference: f64,
        /// Axes to look at.
        suspects: Vec<Suspect>,
    },

    /// A dimension without a gated axis: its importance would get no gradient.
    #[error("gated bindings of {dimension}: got 0, expected at least 1")]
    NoGate {
        /// The dimension.
        dimension: String,
    },

    /// A variable of the network at a smaller size has another length than the sliced one.
    #[error(
        "length of axis {axis} of {variable} with {dimension} at {heads} × {channels}: got \
         {actual} from `resized`, expected {expected} from the bindings; {}",
        if expected > actual { "bind the axis, if it follows the dimension" }
        else { "let `resized` change it, or correct the binding" }
    )]
    Length {
        /// The dimension.
        dimension: String,
        /// Heads of the smaller size, 1 where the dimension is flat.
        heads: i64,
        /// Channels per head of the smaller size, or units.
        channels: i64,
        /// The variable.
        variable: String,
        /// Its axis.
        axis: usize,
        /// Length after slicing by the bindings.
        expected: i64,
        /// Length in the network built at that size; 0 where the variable or the axis is missing.
        actual: i64,
    },

    /// The network at a smaller size has the right lengths, but not the logits of the masked network.
    #[error(
        "logits of the network with {dimension} at {heads} × {channels}: they differ from those of \
         the masked network by {difference:.1e} of their scale, expected no difference; the \
         lengths are right (axis {axis} of {variable}), so check what else `build` computes from \
         the size, such as the number of heads or the scale of attention"
    )]
    Narrowing {
        /// The dimension.
        dimension: String,
        /// Heads of the smaller size, 1 where the dimension is flat.
        heads: i64,
        /// Channels per head of the smaller size, or units.
        channels: i64,
        /// A variable that the dimension gates, in the layer to look at.
        variable: String,
        /// Its axis.
        axis: usize,
        /// Root mean square of the difference, as a share of that of the logits.
        difference: f64,
    },

    /// A hidden dimension that is declared as an embedding: pruning it changes no logit.
    #[error(
        "kind of {dimension}: got embedding, expected hidden or attention, because pruning its units changes \
         no logit and no layer writes into it"
    )]
    Kind {
        /// The dimension.
        dimension: String,
    },

    /// The network at a smaller size panicked, or returned an error.
    #[error(
        "`{call}` with {dimension} at {heads} × {channels}: got {reason}, expected a network of that \
         size; correct what it does with the size"
    )]
    Failed {
        /// What was called: `resized`, `build` or `forward`.
        call: &'static str,
        /// The dimension.
        dimension: String,
        /// Heads of the smaller size, 1 where the dimension is flat.
        heads: i64,
        /// Channels per head of the smaller size, or units.
        channels: i64,
        /// The panic or the error.
        reason: String,
    },

    /// The cost model names a dimension that is not in the space and has no dense size.
    #[error(
        "dimension {dimension} of the cost model: got no dimension of that name in the space, and no \
         dense size; correct the name or add the size"
    )]
    UnknownCost {
        /// Name in the cost model.
        dimension: String,
    },

    /// A dimension that the cost model does not depend on: a budget could not limit its size.
    #[error(
        "cost of {dimension}: got no term in the cost model, expected one; add it or leave the \
         dimension out of the space"
    )]
    Free {
        /// The dimension.
        dimension: String,
    },

    /// The parameters of the cost model fall by another number than slicing removes.
    #[error(
        "parameters that {dimension} saves at {heads} × {channels}: got {actual} from the cost \
         model, expected {expected} from the sliced weights; correct the cost model"
    )]
    Parameters {
        /// The dimension.
        dimension: String,
        /// Heads of the smaller size, 1 where the dimension is flat.
        heads: i64,
        /// Channels per head of the smaller size, or units.
        channels: i64,
        /// Trained numbers that slicing removes.
        expected: f64,
        /// Difference in the cost model.
        actual: f64,
    },
}

/// An axis that may be declared wrongly, with the change that would explain the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// The variable.
    pub variable: String,
    /// Its axis.
    pub axis: usize,
    /// Change that would explain the fault.
    pub advice: Advice,
}

/// Change of a declaration that would explain a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Bind the axis: it follows the dimension.
    Bind {
        /// Repetitions outside the units.
        outer: i64,
        /// Repetitions inside a unit.
        inner: i64,
    },
    /// Bind the axis: it has pairs of channels half a head apart.
    BindHalfSplit {
        /// Repetitions outside the units.
        outer: i64,
    },
    /// Pairs of channels are half a head apart instead of next to each other.
    HalfSplit {
        /// Repetitions outside the units.
        outer: i64,
        /// Repetitions inside an entry.
        inner: i64,
    },
    /// Bind the axis over heads: it has one entry per head.
    BindHeads,
    /// Remove the binding: the axis does not follow the dimension.
    Unbind,
    /// Bind another axis instead.
    BindInstead {
        /// The other variable.
        variable: String,
        /// The other axis.
        axis: usize,
    },
    /// Change outer and inner repetitions.
    Layout {
        /// Repetitions outside the units.
        outer: i64,
        /// Repetitions inside a unit.
        inner: i64,
    },
    /// Change the grid of the units.
    Grid {
        /// Number of heads.
        heads: i64,
        /// Number of channels per head.
        channels: i64,
    },
    /// Heads and channels are exchanged in memory: the axis has the heads of each channel together.
    ChannelsOutside,
    /// Declare the axis as gated (or written, in an embedding) instead of narrowed.
    Gate,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { variable, axis, advice } = self;
        match advice {
            Advice::Bind { outer, inner } => {
                write!(f, "bind axis {axis} of {variable} (outer {outer}, inner {inner})")
            }
            Advice::BindHalfSplit { outer } => {
                write!(f, "bind axis {axis} of {variable} half-split (outer {outer})")
            }
            Advice::HalfSplit { outer, inner } => {
                write!(
                    f,
                    "set half_split, outer {outer} and inner {inner} for axis {axis} of {variable}"
                )
            }
            Advice::BindHeads => write!(f, "bind axis {axis} of {variable} over heads"),
            Advice::Unbind => write!(f, "do not bind axis {axis} of {variable}"),
            Advice::BindInstead { variable: other, axis: at } => {
                write!(f, "bind axis {at} of {other} instead of axis {axis} of {variable}")
            }
            Advice::Layout { outer, inner } => {
                write!(f, "set outer {outer} and inner {inner} for axis {axis} of {variable}")
            }
            Advice::Grid { heads, channels } => {
                write!(
                    f,
                    "declare {heads} heads × {channels} channels for axis {axis} of {variable}"
                )
            }
            Advice::ChannelsOutside => {
                write!(f, "axis {axis} of {variable} has the heads of each channel together: reorder it in `build`")
            }
            Advice::Gate => write!(f, "declare axis {axis} of {variable} as gated or written"),
        }
    }
}

/// Returns one fault a line; a single one without a line of its own.
pub(crate) fn lines(faults: &[Fault]) -> String {
    match faults {
        [only] => only.to_string(),
        _ => {
            let line = |fault: &Fault| format!("\n- {fault}");
            format!("{} faults{}", faults.len(), faults.iter().map(line).collect::<String>())
        }
    }
}

/// Returns the suspects as a list in words.
fn listed(suspects: &[Suspect]) -> String {
    if suspects.is_empty() {
        return "no change of a single axis removes the difference".into();
    }
    suspects.iter().map(Suspect::to_string).collect::<Vec<_>>().join(", ")
}
