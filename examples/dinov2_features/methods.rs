//! The methods, by name: how sizes and units are chosen. All else is the same.

use crate::settings::with_settings;
use crate::unsearched::unsearched;
use crate::Options;
use clap::ValueEnum;
use once_for_both::components::{Components, UnitImportance};
use once_for_both::search::{AlphaInit, SearchOptions};
use once_for_both::Result;
use std::sync::Arc;

/// A method to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Named {
    /// Sizes by the estimated rise of the loss, units by learned importance.
    Default,
    /// Sizes by the measured rise of the loss, each dimension pruned alone; units by learned importance.
    Sensitivity,
    /// Sizes by the estimated rise of the loss, units by weight norms.
    Magnitude,
    /// Sizes drawn at random within the budget, units by learned importance.
    Random,
    /// The same share of every dimension, units by learned importance.
    Even,
}

impl Named {
    /// Returns its name.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
    }

    /// Returns its components.
    pub fn components(self) -> Components {
        match self {
            Self::Magnitude => {
                let norms = UnitImportance::Magnitude { mean: 2.0, std: 0.5 };
                Components { importance: Arc::new(norms), ..Components::default() }
            }
            _ => Components::default(),
        }
    }

    /// Returns its options.
    pub fn options(self, options: &Options, seed: u64) -> Result<SearchOptions> {
        let (total, search) = (options.steps, options.search_steps());
        let mut own = match self {
            Self::Default | Self::Magnitude => SearchOptions::new(total, search),
            Self::Sensitivity | Self::Random | Self::Even => unsearched(total, search, None),
        };
        if self == Self::Even {
            own.init.alpha = AlphaInit::Even { spread: 0.1 };
        }
        own.training.precision = options.precision();
        with_settings(own.peak_rate(options.lr).seed(seed), &options.settings)
    }
}
