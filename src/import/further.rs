//! Prefixes that a part of a checkpoint's names seems to have, and the others have not.

use super::family::{Pretrained, Translation};
use super::prefix::{bare, first, LISTED};
use super::Naming;
use crate::error::ImportError;
use crate::tensors::Weights;
use crate::Error;
use std::collections::BTreeSet;

/// Parts of such a prefix, at most.
const MAX_PARTS: usize = 3;

/// Prefixes that a part of the names seems to have: without one, its names begin as others do, and none is there twice.
/// Names alone do not tell such a prefix from a part of the network, as `blocks.0.mlp.fc1` beside `mlp.0`.
#[derive(Debug, Default)]
pub(super) struct FurtherPrefixes {
    names: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl FurtherPrefixes {
    /// Finds them in the names without `prefix`, which all have.
    pub(super) fn of<A: Pretrained>(weights: &Weights, prefix: &str, naming: Naming) -> Self {
        let is_left_out = |name: &String| {
            matches!(A::translate(naming, name), Translation::Unused | Translation::Computed)
        };
        let names = weights.keys().filter_map(|name| bare(name, prefix));
        let names: BTreeSet<String> = names.filter(|name| !is_left_out(name)).collect();
        let tops: BTreeSet<&str> = names.iter().filter_map(|name| top(name)).collect();
        let further = |name: &String| {
            let ends = name.match_indices('.').take(MAX_PARTS).map(|(at, _)| at + 1);
            let mut shared =
                ends.filter(|&end| top(&name[end..]).is_some_and(|top| tops.contains(top)));
            shared.next().map(|end| name[..end].to_owned())
        };
        let is_once = |prefix: &String| {
            let mut inside = names.iter().filter_map(|name| name.strip_prefix(&**prefix));
            inside.all(|name| !names.contains(name))
        };
        let prefixes: BTreeSet<String> = names.iter().filter_map(further).take(LISTED).collect();
        let prefixes = prefixes.into_iter().filter(is_once).collect();
        Self { names, prefixes }
    }

    /// Refuses a checkpoint that seems to have one.
    pub(super) fn expect_none(&self) -> Result<(), ImportError> {
        self.prefixes.first().map_or(Ok(()), |prefix| Err(self.refused(prefix)))
    }

    /// Returns the error of such a prefix in place of one that follows from it: of a variable without a tensor, or of a
    /// tensor without a variable, where no name under the prefix is that of a variable.
    pub(super) fn explained<A: Pretrained>(
        &self,
        error: Error,
        naming: Naming,
        is_variable: impl Fn(&str) -> bool,
    ) -> Error {
        let Error::Import(ImportError::Missing { .. } | ImportError::Unplaced { .. }) = error
        else {
            return error;
        };
        let is_used = |name: &String| match A::translate(naming, name) {
            Translation::Variable(variable)
            | Translation::Transposed(variable)
            | Translation::Unsqueezed { variable, .. }
            | Translation::Part { variable, .. } => is_variable(&variable),
            Translation::Split(shares) => shares.iter().any(|(variable, _)| is_variable(variable)),
            Translation::Unused | Translation::Computed | Translation::Unknown => false,
        };
        let is_outside = |prefix: &&String| {
            !self.names.iter().any(|name| name.starts_with(&***prefix) && is_used(name))
        };
        match self.prefixes.iter().find(is_outside) {
            Some(prefix) => self.refused(prefix).into(),
            None => error,
        }
    }

    fn refused(&self, prefix: &str) -> ImportError {
        let (inside, outside): (Vec<_>, Vec<_>) =
            self.names.iter().partition(|name| name.starts_with(prefix));
        let [inside, outside] = [inside, outside].map(|names| first(names.into_iter()));
        ImportError::PrefixOfSome { prefix: prefix.into(), inside, outside }
    }
}

/// The first part of a name of several.
fn top(name: &str) -> Option<&str> {
    name.split_once('.').map(|(top, _)| top)
}
