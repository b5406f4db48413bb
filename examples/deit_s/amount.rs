//! Budgets as people write them.

use crate::AnyError;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};

/// A number with a suffix, or a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    Share(f64),
    Units(f64),
}

impl Amount {
    /// The budget that it is for this dense network.
    pub fn budget(self, metric: Metric, dense: &VitConfig) -> Result<Budget, AnyError> {
        match self {
            Self::Share(share) => Ok(Budget::share(metric, share, &dense.cost_model())?),
            Self::Units(limit) => Ok(Budget { metric, limit }),
        }
    }
}

/// "0.5" is a share; "1.3G", "8M", "250k", "4600000" are amounts.
pub fn amount(text: &str) -> Result<Amount, AnyError> {
    let (digits, factor) = match text.trim().char_indices().last() {
        Some((at, 'k' | 'K')) => (&text.trim()[..at], 1e3),
        Some((at, 'M')) => (&text.trim()[..at], 1e6),
        Some((at, 'G')) => (&text.trim()[..at], 1e9),
        _ => (text.trim(), 1.0),
    };
    let refused = || format!("budget {text:?}: expected a share such as 0.5, or 250k, 8M, 1.3G");
    match digits.parse::<f64>().map_err(|_| refused())? {
        value if !(value.is_finite() && value > 0.0) => Err(refused().into()),
        share if factor == 1.0 && share <= 1.0 => Ok(Amount::Share(share)),
        units => Ok(Amount::Units(units * factor)),
    }
}
