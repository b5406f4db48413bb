//! The methods, by name.

use crate::Options;
use once_for_both::components::UnitImportance;
use once_for_both::search::{AlphaStart, SearchOptions};

/// A method to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The defaults of the crate.
    Ours,
    /// No masked image modeling.
    NoPmim,
    /// The one-hot loss without its tangent.
    NoTangent,
    /// Units cut at once.
    NoFadeOut,
    /// α starts equal.
    EqualAlpha,
    /// α starts uniform in [0, 1).
    UniformAlpha,
    /// α starts around an even narrowing.
    EvenAlpha,
    /// An even narrowing, not searched.
    Even,
    /// The paper's setting, with rates that reach a decision in a short search.
    Paper,
    /// Importance first, sparsity after.
    TwoStage,
    /// Importance by weight norms, never learned.
    Magnitude,
    /// Importance by first-order Taylor.
    Taylor,
    /// Importance drawn at random and kept.
    RandomImportance,
    /// Sizes drawn at random, everything else alike.
    RandomSizes,
    /// An even narrowing that never saw the dense network, trained as long in all.
    Scratch,
}

const ALL: [(&str, Named); 15] = [
    ("ours", Named::Ours),
    ("no-pmim", Named::NoPmim),
    ("no-tangent", Named::NoTangent),
    ("no-fade_out", Named::NoFadeOut),
    ("equal-alpha", Named::EqualAlpha),
    ("uniform-alpha", Named::UniformAlpha),
    ("even-alpha", Named::EvenAlpha),
    ("even", Named::Even),
    ("paper", Named::Paper),
    ("two-stage", Named::TwoStage),
    ("magnitude", Named::Magnitude),
    ("taylor", Named::Taylor),
    ("random-importance", Named::RandomImportance),
    ("random-sizes", Named::RandomSizes),
    ("scratch", Named::Scratch),
];

impl Named {
    /// Methods by their names.
    pub fn parse_all(names: &[String]) -> Result<Vec<Self>, String> {
        if names == ["all"] {
            return Ok(ALL.iter().map(|(_, method)| *method).collect());
        }
        let known = || ALL.map(|(name, _)| name).join(", ");
        let find = |wanted: &String| {
            let found = ALL.iter().find(|(name, _)| name == wanted);
            found
                .map(|(_, method)| *method)
                .ok_or_else(|| format!("there is no method {wanted}; there are {}", known()))
        };
        names.iter().map(find).collect()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// Its options: only what makes the method differs.
    pub fn options(self, options: &Options, seed: u64) -> SearchOptions {
        if self == Self::Scratch {
            return from_nothing(options, seed);
        }
        let (total, search) = (options.steps, (options.steps as f64 * options.search) as u64);
        let (mean, std) = (2.0, 0.5);
        let mut own = match self {
            Self::Paper => SearchOptions::paper(total, search),
            Self::TwoStage => SearchOptions::two_stage(total, search),
            _ => SearchOptions::new(total, search),
        };
        match self {
            Self::NoPmim => own.pmim = None,
            Self::NoTangent => own.one_hot.loss.tangent = false,
            Self::NoFadeOut => own.fade_out_steps = 0,
            Self::EqualAlpha => own.alpha_start = AlphaStart::Equal,
            Self::UniformAlpha => own.alpha_start = AlphaStart::Uniform,
            Self::EvenAlpha => own.alpha_start = AlphaStart::Even { spread: 0.3 },
            Self::Even => {
                own.alpha_start = AlphaStart::Even { spread: 0.1 };
                own.optimiser.alpha_rate = 0.0;
                own.drop_share = 0.0;
            }
            Self::Paper => {
                let ours = SearchOptions::new(total, search).optimiser;
                own.optimiser.alpha_rate = ours.alpha_rate;
                own.optimiser.score_rate = ours.score_rate;
            }
            Self::Magnitude => own.importance = UnitImportance::Magnitude { mean, std },
            Self::Taylor => own.importance = UnitImportance::Taylor { mean, std, momentum: 0.9 },
            Self::RandomImportance => own.importance = UnitImportance::Random { mean, std },
            Self::RandomSizes => own.optimiser.alpha_rate = 0.0,
            Self::Ours | Self::TwoStage | Self::Scratch => {}
        }
        own.fade_out_steps = options.fade_out.unwrap_or(own.fade_out_steps);
        own.precision = options.precision();
        own.peak_rate(options.lr).seed(seed)
    }
}

/// As long as dense training, search and fine-tuning together, at dense training's rate.
fn from_nothing(options: &Options, seed: u64) -> SearchOptions {
    let mut own = SearchOptions::training(options.dense_steps + options.steps);
    own.precision = options.precision();
    own.peak_rate(options.dense_lr).seed(seed)
}
