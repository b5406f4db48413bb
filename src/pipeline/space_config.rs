//! Section `[space]`: what a search may change, and which candidate sizes it chooses from.

use crate::latency::LatencyModel;
use crate::models::Architecture;
use crate::range::Range;
use crate::space::{DimensionKind, SearchSpace};
use crate::subnet::Subnet;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

const FACTOR: Range<i64> = Range::closed(1, 1 << 16);

/// Section `[space]`: what a search may change, and which candidate sizes it chooses from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpaceConfig {
    /// Whether attentions and MLPs may be removed ([`SearchSpace::removable_branches`]).
    pub depth: bool,
    /// Whether queries and keys have a width of their own, apart from values: the network to search is turned into one
    /// that computes the same ([`Architecture::qk_v_apart`]).
    pub qk_v_apart: bool,
    /// Widths are multiples of these, or dense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<MultipleOf>,
    /// Which of them are candidates.
    pub candidates: CandidateChoice,
}

/// Factors of the widths: one, or one for each kind of dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, or a table of numbers: embedding, attention, hidden"
)]
pub enum MultipleOf {
    /// Of the embedding, the channels of a head (those of queries and keys too, where they are apart from values), and the
    /// hidden widths.
    All(i64),
    /// Of each kind apart; a kind without a factor keeps all its candidates.
    Kinds(Factors),
}

/// A factor for each kind of dimension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Factors {
    /// Of embedding channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<i64>,
    /// Of the channels of a head, and of those of queries and keys where they are apart from values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<i64>,
    /// Of hidden neurons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<i64>,
}

impl Factors {
    fn named(self) -> [(&'static str, DimensionKind, Option<i64>); 3] {
        [
            ("embedding", DimensionKind::Embedding, self.embedding),
            ("attention", DimensionKind::Attention, self.attention),
            ("hidden", DimensionKind::Hidden, self.hidden),
        ]
    }
}

/// Candidates that the search chooses from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateChoice {
    /// All.
    #[default]
    All,
    /// Those at which the measured latency steps ([`LatencyModel::stepped`]).
    LatencySteps,
}

impl SpaceConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn factors(&self) -> Factors {
        match self.multiple_of {
            None => Factors::default(),
            Some(MultipleOf::Kinds(own)) => own,
            Some(MultipleOf::All(all)) => {
                Factors { embedding: Some(all), attention: Some(all), hidden: Some(all) }
            }
        }
    }

    /// Refuses options out of range, and steps of a latency that is not measured.
    pub(super) fn check(&self, limits_latency: bool) -> Result<()> {
        if self.candidates == CandidateChoice::LatencySteps && !limits_latency {
            let expected = "all, or budget.latency beside it, for which latency is measured";
            return Err(Error::invalid("space.candidates", expected, "latency_steps"));
        }
        let one = matches!(self.multiple_of, Some(MultipleOf::All(_)));
        for (kind, _, factor) in self.factors().named() {
            let name = match one {
                true => "space.multiple_of".into(),
                false => format!("space.multiple_of.{kind}"),
            };
            factor.map_or(Ok(()), |own| FACTOR.check(name, own))?;
        }
        Ok(())
    }

    /// Returns the architecture that is searched: that of a trained network, or the same with queries and keys apart from
    /// values.
    ///
    /// # Errors
    /// Those of [`Architecture::qk_v_apart`].
    pub fn searched<A: Architecture>(&self, network: &A) -> Result<A> {
        match self.qk_v_apart {
            true => network.qk_v_apart().map_err(|error| error.of_section("space")),
            false => Ok(network.clone()),
        }
    }

    /// Returns the network of [`searched`](Self::searched), with weights that compute the same; `None` if it is the given
    /// one.
    pub(super) fn apart<A: Architecture>(&self, network: &Subnet<A>) -> Result<Option<Subnet<A>>> {
        let apart = self.qk_v_apart.then(|| network.qk_v_apart()).transpose();
        apart.map_err(|error| error.of_section("space"))
    }

    /// Returns the search space of a network whose latency is measured: of its candidates, none is left out because
    /// the latency does not step there.
    ///
    /// # Errors
    /// Those of [`searched`](Self::searched), [`Architecture::space`] and [`SearchSpace::multiple_of`].
    pub fn measured<A: Architecture>(&self, network: &A) -> Result<SearchSpace> {
        let given = self.factors().named().into_iter();
        let mut given = given.filter_map(|(_, kind, factor)| Some((kind, factor?)));
        let space = self.searched(network)?.space()?;
        let space = if self.depth { space.removable_branches() } else { space };
        given.try_fold(space, |space, (kind, factor)| space.multiple_of(kind, factor))
    }

    /// Returns the search space of a network. Before its latency is measured, its steps are not known.
    ///
    /// # Errors
    /// Those of [`measured`](Self::measured) and [`LatencyModel::stepped`].
    pub fn of<A: Architecture>(
        &self,
        network: &A,
        latency: Option<&LatencyModel>,
    ) -> Result<SearchSpace> {
        let space = self.measured(network)?;
        match (self.candidates, latency) {
            (CandidateChoice::LatencySteps, Some(model)) => model.stepped(space),
            _ => Ok(space),
        }
    }
}
