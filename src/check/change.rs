//! One change of a declaration, with the suspects it is reported as.

use super::claim::Claim;
use crate::error::{Advice, Suspect};
use crate::space::Binding;

/// A changed declaration, and the axes that were changed.
pub(super) struct Change {
    pub(super) claim: Claim,
    pub(super) suspects: Vec<Suspect>,
}

pub(super) fn suspect(binding: &Binding, advice: Advice) -> Suspect {
    Suspect { variable: binding.variable.clone(), axis: binding.axis, advice }
}
