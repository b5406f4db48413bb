//! A change of a declaration, with what to tell about it.

use super::claim::Claim;
use crate::error::{Advice, Suspect};
use crate::space::Binding;

/// A declaration with one change, and what was changed.
pub(super) struct Change {
    pub(super) claim: Claim,
    pub(super) suspects: Vec<Suspect>,
}

pub(super) fn suspect(binding: &Binding, advice: Advice) -> Suspect {
    Suspect { variable: binding.variable.clone(), axis: binding.axis, advice }
}
