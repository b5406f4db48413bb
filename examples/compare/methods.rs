//! The methods, by name.

use crate::protocol::Protocol;
use crate::unsearched::unsearched;
use crate::AnyError;
use clap::ValueEnum;
use once_for_both::components::{Components, EntropyVarianceLoss, UnitImportance};
use once_for_both::search::{AlphaInit, SearchOptions};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A method to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Named {
    /// The defaults of the crate.
    Ours,
    /// α learned through the bi-mask, with masked image modeling.
    Learned,
    /// The paper's setting, with learning rates of scores and α that decide in a short search.
    Paper,
    /// Learned α without masked image modeling.
    NoPmim,
    /// Ours without distillation, whatever the others have.
    NoTeacher,
    /// Importance first, sparsity after.
    TwoStage,
    /// Sizes by the measured rise of the loss of each dimension alone, without a search.
    Sensitivity,
    /// Ours, with importance by weight norms, never learned.
    Magnitude,
    /// Ours, with importance by first-order Taylor expansion.
    Taylor,
    /// Sizes drawn at random, without a search.
    RandomSizes,
    /// An even narrowing, without a search.
    Even,
    /// An even narrowing, trained from scratch for as many steps in all.
    Scratch,
    /// Learned α, with the one-hot loss without its tangent term.
    NoTangent,
    /// Learned α that starts uniform in [0, 1).
    UniformAlpha,
    /// Learned α that starts with its peak at an even narrowing.
    EvenAlpha,
}

impl Named {
    /// Returns the methods of these names.
    pub fn parse_all(names: &[String]) -> Result<Vec<Self>, String> {
        let all = Self::value_variants();
        if names == ["all"] {
            return Ok(all.to_vec());
        }
        let find = |wanted: &String| {
            let found = all.iter().find(|method| method.to_string() == *wanted);
            found.copied().ok_or_else(|| {
                let known: Vec<String> = all.iter().map(Self::to_string).collect();
                let known = known.join(", ");
                format!("--methods: got {wanted}, expected all, or some of {known}")
            })
        };
        names.iter().map(find).collect()
    }

    /// Returns whether its rows depend on a draw of sizes.
    pub fn draws(self) -> bool {
        self == Self::RandomSizes
    }

    /// Returns whether it begins with the dense network, and searches.
    pub fn is_searched(self) -> bool {
        self != Self::Scratch
    }

    /// Returns its components.
    pub fn components(self) -> Components {
        let (mean, std) = (2.0, 0.5);
        let ours = Components::default();
        let importance = |importance: UnitImportance| Components {
            importance: Arc::new(importance),
            ..Components::default()
        };
        match self {
            Self::Paper => Components::paper(),
            Self::NoTangent => {
                let loss = EntropyVarianceLoss { delta: 1e-3, ..EntropyVarianceLoss::paper() };
                let loss = EntropyVarianceLoss { tangent: false, ..loss };
                Components { one_hot: Arc::new(loss), ..ours }
            }
            Self::Magnitude => importance(UnitImportance::Magnitude { mean, std }),
            Self::Taylor => importance(UnitImportance::Taylor { mean, std, momentum: 0.9 }),
            _ => ours,
        }
    }

    /// Returns its options under the protocol: they differ only in what makes the method.
    pub fn options(self, protocol: &Protocol, seed: u64) -> Result<SearchOptions, AnyError> {
        let options = match self {
            Self::Scratch => from_scratch(protocol),
            Self::NoTeacher => {
                Protocol { distil: Some(0.0), ..protocol.clone() }.apply(self.own(protocol))?
            }
            _ => protocol.apply(self.own(protocol))?,
        };
        Ok(options.seed(seed))
    }

    /// Its options before those of the protocol.
    fn own(self, protocol: &Protocol) -> SearchOptions {
        let (total, search) = (protocol.total_steps(), protocol.search_steps);
        let mut own = match self {
            Self::Ours | Self::NoTeacher | Self::Magnitude | Self::Taylor | Self::Scratch => {
                SearchOptions::new(total, search)
            }
            Self::Learned
            | Self::NoPmim
            | Self::NoTangent
            | Self::UniformAlpha
            | Self::EvenAlpha => SearchOptions::learned(total, search),
            Self::Paper => SearchOptions::paper(total, search),
            Self::TwoStage => SearchOptions::two_stage(total, search),
            Self::Sensitivity | Self::RandomSizes | Self::Even => {
                unsearched(total, search, protocol.fade_out)
            }
        };
        match self {
            Self::NoPmim => own.pmim = None,
            Self::UniformAlpha => own.init.alpha = AlphaInit::Uniform,
            Self::EvenAlpha => own.init.alpha = AlphaInit::Even { spread: 0.3 },
            Self::Even => own.init.alpha = AlphaInit::Even { spread: 0.1 },
            Self::Paper => {
                let learned = SearchOptions::learned(total, search).optimiser;
                own.optimiser.alpha_rate = learned.alpha_rate;
                own.optimiser.score_rate = learned.score_rate;
            }
            _ => {}
        }
        own
    }
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let name = self.to_possible_value();
        formatter.pad(name.as_ref().map_or("", |name| name.get_name()))
    }
}

/// Plain training for as many steps as dense training, search and fine-tuning together, at the
/// learning rate of dense training.
fn from_scratch(protocol: &Protocol) -> SearchOptions {
    let steps = protocol.dense_steps + protocol.total_steps();
    let mut own = SearchOptions::training(steps).peak_rate(protocol.dense_lr);
    own.training.precision = protocol.precision();
    own
}
