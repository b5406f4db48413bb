//! The methods, by name.

use crate::Options;
use once_for_both::components::{
    Components, Distillation, DistillationKind, EntropyVarianceLoss, UnitImportance,
};
use once_for_both::search::{AlphaInit, SearchOptions};
use std::sync::Arc;

/// A method to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The defaults of the crate.
    Ours,
    /// No masked image modeling.
    NoPmim,
    /// The one-hot loss without its tangent term.
    NoTangent,
    /// Units pruned at once, without a gate fade-out.
    NoFadeOut,
    /// α starts equal.
    EqualAlpha,
    /// α starts uniform in [0, 1).
    UniformAlpha,
    /// α starts with its peak at an even narrowing.
    EvenAlpha,
    /// An even narrowing, not searched.
    Even,
    /// The paper's setting, with learning rates of scores and α that decide in a short search.
    Paper,
    /// Importance first, sparsity after.
    TwoStage,
    /// Importance by weight norms, never learned.
    Magnitude,
    /// Importance by first-order Taylor expansion.
    Taylor,
    /// Importance drawn at random and kept.
    RandomImportance,
    /// Sizes drawn at random, everything else alike.
    RandomSizes,
    /// Sizes decided by the estimated rise of the loss.
    Estimated,
    /// An even narrowing, trained from scratch for as many steps in all.
    Scratch,
}

const ALL: [(&str, Named); 16] = [
    ("ours", Named::Ours),
    ("no-pmim", Named::NoPmim),
    ("no-tangent", Named::NoTangent),
    ("no-fade-out", Named::NoFadeOut),
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
    ("estimated", Named::Estimated),
    ("scratch", Named::Scratch),
];

impl Named {
    /// Returns the methods of these names.
    pub fn parse_all(names: &[String]) -> Result<Vec<Self>, String> {
        if names == ["all"] {
            return Ok(ALL.iter().map(|(_, method)| *method).collect());
        }
        let known = || ALL.map(|(name, _)| name).join(", ");
        let find = |wanted: &String| {
            let found = ALL.iter().find(|(name, _)| name == wanted);
            found
                .map(|(_, method)| *method)
                .ok_or_else(|| format!("method: got {wanted}, expected one of {}", known()))
        };
        names.iter().map(find).collect()
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
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
            Self::RandomImportance => importance(UnitImportance::Random { mean, std }),
            _ => ours,
        }
    }

    /// Returns its options. They differ only in what makes the method.
    pub fn options(self, options: &Options, seed: u64) -> SearchOptions {
        if self == Self::Scratch {
            return from_scratch(options, seed);
        }
        let (total, search) = (options.steps, (options.steps as f64 * options.search) as u64);
        let mut own = match self {
            Self::Paper => SearchOptions::paper(total, search),
            Self::TwoStage => SearchOptions::two_stage(total, search),
            Self::Estimated => SearchOptions::estimated(total, search),
            _ => SearchOptions::new(total, search),
        };
        match self {
            Self::NoPmim => own.pmim = None,
            Self::NoFadeOut => own.pruning.fade_out_steps = 0,
            Self::EqualAlpha => own.init.alpha = AlphaInit::Equal,
            Self::UniformAlpha => own.init.alpha = AlphaInit::Uniform,
            Self::EvenAlpha => own.init.alpha = AlphaInit::Even { spread: 0.3 },
            Self::Even => {
                own.init.alpha = AlphaInit::Even { spread: 0.1 };
                own.optimiser.alpha_rate = 0.0;
                own.pruning.drop_share = 0.0;
            }
            Self::Paper => {
                let ours = SearchOptions::new(total, search).optimiser;
                own.optimiser.alpha_rate = ours.alpha_rate;
                own.optimiser.score_rate = ours.score_rate;
            }
            Self::RandomSizes => own.optimiser.alpha_rate = 0.0,
            _ => {}
        }
        own.pruning.fade_out_steps = options.fade_out.unwrap_or(own.pruning.fade_out_steps);
        own.training.precision = options.precision();
        if options.distil > 0.0 {
            let kind = DistillationKind::Soft { temperature: 2.0 };
            own.training.distillation = Some(Distillation::new(kind, options.distil));
        }
        own.peak_rate(options.lr).seed(seed)
    }
}

/// Plain training for as many steps as dense training, search and fine-tuning together, at the
/// learning rate of dense training.
fn from_scratch(options: &Options, seed: u64) -> SearchOptions {
    let mut own = SearchOptions::training(options.dense_steps + options.steps);
    own.training.precision = options.precision();
    own.peak_rate(options.dense_lr).seed(seed)
}
