//! Names of a checkpoint without what wrappers of the network put before them.

use super::family::Pretrained;
use super::further::FurtherPrefixes;
use super::recognise::other_family;
use super::{ImportOptions, Naming};
use crate::error::ImportError;
use crate::tensors::Weights;
use tch::Tensor;

/// Modules that wrap others, wherever they are: `torch.compile`, FSDP, activation checkpoints.
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
/// Number of averaged models, which `torch.optim.swa_utils.AveragedModel` saves beside the weights.
const COUNTER: &str = "n_averaged";
/// Parts of a prefix, at most: each is tried on all names.
const MAX_PARTS: usize = 16;
/// Characters of a name in a message, at most.
const MAX_SHOWN: usize = 120;
/// Names in a message, at most.
pub(super) const LISTED: usize = 5;

/// Tensors of a checkpoint under the names that the network's author gave them.
#[derive(Debug)]
pub(super) struct Stripped {
    /// What was removed from the start of every name.
    pub(super) prefix: String,
    pub(super) naming: Naming,
    pub(super) tensors: Vec<Renamed>,
    /// Checkpoint names of tensors that the options leave out.
    pub(super) skipped: Vec<String>,
    /// Checkpoint names of tensors that are no part of the network's function.
    pub(super) computed: Vec<String>,
    /// Prefixes that a part of the names seems to have.
    pub(super) further: FurtherPrefixes,
}

/// A tensor under its name without prefix and wrappers.
#[derive(Debug)]
pub(super) struct Renamed {
    pub(super) bare: String,
    /// Name in the checkpoint.
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

/// Removes the prefix that the options name, or else the one that all names share, if there is one
/// without which the family knows the names.
///
/// # Errors
/// [`ImportError::Naming`] for names that are none of the family's; [`ImportError::Prefix`] if they
/// have several prefixes; [`ImportError::PrefixUnknown`] if no name has that of the options.
pub(super) fn strip<A: Pretrained>(
    weights: &Weights,
    options: &ImportOptions,
) -> Result<Stripped, ImportError> {
    let (mut kept, mut skipped, mut computed) = (Weights::new(), vec![], vec![]);
    for (name, tensor) in weights {
        if options.skip.iter().any(|prefix| name.starts_with(prefix)) {
            skipped.push(name.clone());
        } else if name == COUNTER && tensor.numel() == 1 && !tensor.is_floating_point() {
            computed.push(name.clone());
        } else {
            kept.insert(name.clone(), tensor.shallow_clone());
        }
    }
    let (prefix, naming) = match &options.prefix {
        Some(prefix) => chosen::<A>(&kept, prefix)?,
        None => shared::<A>(&kept)?,
    };
    let further = FurtherPrefixes::of::<A>(&kept, &prefix, naming);
    let mut tensors = Vec::with_capacity(kept.len());
    for (name, tensor) in kept {
        match bare(&name, &prefix) {
            Some(bare) => tensors.push(Renamed { bare, name, tensor }),
            None => skipped.push(name),
        }
    }
    Ok(Stripped { prefix, naming, tensors, skipped, computed, further })
}

/// The prefix of the options, with a dot at its end.
fn chosen<A: Pretrained>(weights: &Weights, prefix: &str) -> Result<(String, Naming), ImportError> {
    let is_whole = prefix.is_empty() || prefix.ends_with('.');
    let prefix = if is_whole { prefix.to_owned() } else { format!("{prefix}.") };
    let inside = without(weights, &prefix);
    if inside.is_empty() {
        let (found, others) = listed(weights);
        return Err(ImportError::PrefixUnknown { prefix, found, others });
    }
    match A::naming(&inside) {
        Some(naming) => Ok((prefix, naming)),
        None => Err(unknown::<A>(&inside)),
    }
}

/// The shortest prefix of all names without which the family knows them.
fn shared<A: Pretrained>(weights: &Weights) -> Result<(String, Naming), ImportError> {
    // Names are sorted: what the first and the last share, all share.
    let (first_name, last) = match (weights.keys().next(), weights.keys().next_back()) {
        (Some(first), Some(last)) => (first.as_str(), last.as_str()),
        _ => ("", ""),
    };
    let same = first_name.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
    let dots = first_name.bytes().take(same).enumerate().filter(|(_, byte)| *byte == b'.');
    let ends = std::iter::once(0).chain(dots.map(|(at, _)| at + 1));
    let ends: Vec<usize> = ends.take(MAX_PARTS).collect();
    for (at, &end) in ends.iter().enumerate() {
        let prefix = first_name.get(..end).unwrap_or_default();
        let Some(naming) = A::naming(&without(weights, prefix)) else { continue };
        // Wrappers that follow are of the prefix, too.
        let further = ends.windows(2).skip(at);
        let is_wrapper = |pair: &&[usize]| {
            let part = first_name.get(pair[0]..pair[1] - 1);
            part.is_some_and(|part| WRAPPERS.contains(&part))
        };
        let end = further.take_while(is_wrapper).last().map_or(end, |pair| pair[1]);
        return Ok((first_name.get(..end).unwrap_or_default().to_owned(), naming));
    }
    let prefixes = Naming::prefixes(weights);
    match (other_family(weights, A::FAMILY), prefixes.first()) {
        (None, Some(prefix)) => {
            let outside = first(weights.keys().filter(|name| !name.starts_with(prefix)));
            match outside.is_empty() {
                // All names share it, but it has more parts than are tried.
                true => chosen::<A>(weights, prefix),
                false => Err(ImportError::Prefix { prefixes, outside }),
            }
        }
        _ => Err(unknown::<A>(weights)),
    }
}

fn unknown<A: Pretrained>(weights: &Weights) -> ImportError {
    let recognised = other_family(weights, A::FAMILY);
    let (found, others) = listed(weights);
    ImportError::Naming { family: A::FAMILY, found, others, recognised }
}

/// The first names, and the number of the others.
fn listed(weights: &Weights) -> (Vec<String>, usize) {
    let found = first(weights.keys());
    let others = weights.len() - found.len();
    (found, others)
}

pub(super) fn first<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.take(LISTED).map(|name| name.chars().take(MAX_SHOWN).collect()).collect()
}

/// The tensors whose names have the prefix, without it and without wrappers.
fn without(weights: &Weights, prefix: &str) -> Weights {
    weights
        .iter()
        .filter_map(|(name, tensor)| Some((bare(name, prefix)?, tensor.shallow_clone())))
        .collect()
}

/// Returns a name without the prefix, which it has, and without wrappers.
pub(super) fn bare(name: &str, prefix: &str) -> Option<String> {
    let parts = name.strip_prefix(prefix)?.split('.');
    Some(parts.filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join("."))
}
