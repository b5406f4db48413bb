//! Tensors of a checkpoint under the names of the network's variables.

use super::family::{Pretrained, Translation};
use super::finite::to_f32;
use super::further::FurtherPrefixes;
use super::prefix::{strip, Renamed, Stripped};
use super::recognise::part;
use super::{ImportOptions, Naming};
use crate::error::{expect_shape, ImportError};
use crate::tensors::Weights;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

/// Tensors of a checkpoint by the name of the variable they are for.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) naming: Naming,
    /// What was removed from the start of every name.
    pub(super) prefix: String,
    pub(super) tensors: BTreeMap<String, Stored>,
    /// Checkpoint names of tensors that the options leave out.
    pub(super) skipped: Vec<String>,
    /// Checkpoint names of tensors that the network's function does not use.
    pub(super) unused: Vec<String>,
    /// Checkpoint names of tensors that the network computes itself.
    pub(super) computed: Vec<String>,
    /// Checkpoint names that the family does not know, with and without prefix.
    pub(super) unknown: Vec<(String, String)>,
    /// Prefixes that a part of the names seems to have.
    pub(super) further: FurtherPrefixes,
}

/// The tensors of one variable: a single one, or parts of one shape, concatenated along axis 0.
#[derive(Debug)]
pub(super) struct Stored {
    /// Name in the checkpoint, and tensor, of each part.
    parts: Vec<(String, Tensor)>,
}

/// The parts found so far of a variable that is stored in several tensors.
#[derive(Debug)]
struct Incomplete {
    parts: &'static [&'static str],
    found: Vec<Option<(String, Tensor)>>,
}

/// Translates all names of a checkpoint, without their prefix; tensors that the options leave out are
/// listed as skipped.
///
/// # Errors
/// Those of [`strip`]; [`ImportError::Missing`] for a
/// part without the others, or [`ImportError::PrefixOfSome`] where they have another prefix;
/// [`ImportError::Ambiguous`] for two tensors of one variable;
/// [`Error::Shape`] if parts differ in shape; [`Error::Unknown`] for a part that is not in `parts`.
pub(super) fn named<A: Pretrained>(weights: &Weights, options: &ImportOptions) -> Result<Named> {
    let mut stripped = strip::<A>(weights, options)?;
    let further = std::mem::take(&mut stripped.further);
    let naming = stripped.naming;
    match translated::<A>(stripped) {
        Ok(named) => Ok(Named { further, ..named }),
        Err(error) => Err(further.explained::<A>(error, naming, |_| true)),
    }
}

/// [`named`] where no network shows which prefixes are parts of it: none is taken.
///
/// # Errors
/// Those of [`named`]; [`ImportError::PrefixOfSome`] if a part of the names seems to have a prefix.
pub(super) fn named_alike<A: Pretrained>(
    weights: &Weights,
    options: &ImportOptions,
) -> Result<Named> {
    let named = named::<A>(weights, options)?;
    named.further.expect_none()?;
    Ok(named)
}

fn translated<A: Pretrained>(stripped: Stripped) -> Result<Named> {
    let Stripped { prefix, naming, tensors, skipped, computed, further } = stripped;
    let (tensors_by_name, unused, unknown) = (BTreeMap::new(), vec![], vec![]);
    let mut named = Named {
        naming,
        prefix,
        tensors: tensors_by_name,
        skipped,
        unused,
        computed,
        unknown,
        further,
    };
    let mut incomplete: BTreeMap<String, Incomplete> = BTreeMap::new();
    for Renamed { bare, name, tensor } in tensors {
        match A::translate(naming, &bare) {
            Translation::Variable(variable) => named.insert(variable, vec![(name, tensor)])?,
            Translation::Unsqueezed { variable, axes } => {
                let shape = [vec![1; axes], tensor.size()].concat();
                named.insert(variable, vec![(name, tensor.f_reshape(&shape[..])?)])?;
            }
            Translation::Transposed(variable) => {
                expect_matrix(&name, &tensor)?;
                named.insert(variable, vec![(name, tensor.f_transpose(0, 1)?)])?;
            }
            Translation::Split(shares) => {
                for (variable, rows) in split(&name, &tensor, shares)? {
                    named.insert(variable, vec![(name.clone(), rows)])?;
                }
            }
            Translation::Part { variable, part, parts } => {
                let entry = incomplete.entry(variable.clone());
                let own = entry.or_insert_with(|| Incomplete::new(parts));
                if let Some((first, _)) = own.put(part, (name.clone(), tensor))? {
                    return Err(ambiguous(variable, first, &name));
                }
            }
            Translation::Unused => named.unused.push(name),
            Translation::Computed => named.computed.push(name),
            Translation::Unknown => named.unknown.push((name, bare)),
        }
    }
    for (variable, parts) in incomplete {
        match parts.alone::<A>(&variable) {
            Some(alone) => {
                for (variable, own) in alone {
                    named.insert(variable, vec![own])?;
                }
            }
            None => {
                let whole = parts.complete(&variable)?;
                named.insert(variable, whole)?;
            }
        }
    }
    Ok(named)
}

/// The rows of each variable.
fn split(name: &str, tensor: &Tensor, shares: Vec<(String, i64)>) -> Result<Vec<(String, Tensor)>> {
    let all = shares.iter().map(|(_, share)| share).sum::<i64>().max(1);
    let rows = tensor.size().first().copied().unwrap_or(0);
    if rows % all != 0 {
        let expected = format!("a multiple of {all}");
        return Err(Error::invalid(format!("rows of {name}"), expected, rows));
    }
    let mut first = 0;
    let part = shares.into_iter().map(|(variable, share)| {
        let own = tensor.f_narrow(0, first, share * rows / all)?;
        first += share * rows / all;
        Ok((variable, own))
    });
    part.collect()
}

fn expect_matrix(name: &str, tensor: &Tensor) -> Result<()> {
    match tensor.dim() {
        2 => Ok(()),
        // −1 stands for any length, as in PyTorch.
        _ => expect_shape("import", name, tensor, &[-1, -1]),
    }
}

impl Incomplete {
    fn new(parts: &'static [&'static str]) -> Self {
        Self { parts, found: parts.iter().map(|_| None).collect() }
    }

    /// Stores a part; returns the tensor that was stored for it before.
    fn put(&mut self, part: &str, source: (String, Tensor)) -> Result<Option<(String, Tensor)>> {
        let at = self.parts.iter().position(|known| *known == part).ok_or_else(|| {
            let known: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
            Error::unknown("part of a variable", part, &known)
        })?;
        Ok(self.found[at].replace(source))
    }

    /// The parts that there are, as variables of their own; `None` if all are there, or if the family
    /// knows no variable for one of them.
    fn alone<A: Pretrained>(&self, variable: &str) -> Option<Vec<(String, (String, Tensor))>> {
        if self.found.iter().all(Option::is_some) {
            return None;
        }
        let found = self.found.iter().zip(self.parts).filter_map(|(found, part)| {
            let (name, tensor) = found.as_ref()?;
            let own = A::part_alone(variable, part);
            Some(own.map(|own| (own, (name.clone(), tensor.shallow_clone()))))
        });
        found.collect()
    }

    /// All parts in order, each of the first one's shape.
    fn complete(self, variable: &str) -> Result<Vec<(String, Tensor)>> {
        let mut whole: Vec<(String, Tensor)> = Vec::with_capacity(self.parts.len());
        for (found, part) in self.found.into_iter().zip(self.parts) {
            let missing = || ImportError::Missing { variable: format!("{part} of {variable}") };
            let (name, tensor) = found.ok_or_else(missing)?;
            if let Some((_, first)) = whole.first() {
                expect_shape("import", &name, &tensor, &first.size())?;
            }
            whole.push((name, tensor));
        }
        Ok(whole)
    }
}

fn ambiguous(variable: String, first: String, second: &str) -> Error {
    ImportError::Ambiguous { variable, first, second: second.into() }.into()
}

impl Named {
    /// Refuses weights whose queries and keys are apart from values: their names do not say it.
    pub(super) fn expect_one_width(&self) -> Result<(), ImportError> {
        match self.tensors.keys().find(|name| name.contains(".attn.qk.")) {
            None => Ok(()),
            Some(name) => Err(ImportError::Unplaced { name: name.clone(), part: part(name) }),
        }
    }

    fn insert(&mut self, variable: String, parts: Vec<(String, Tensor)>) -> Result<()> {
        let second = parts.first().map(|(name, _)| name.clone()).unwrap_or_default();
        match self.tensors.insert(variable.clone(), Stored { parts }) {
            None => Ok(()),
            Some(first) => Err(ambiguous(variable, first.names().join(", "), &second)),
        }
    }

    pub(super) fn get(&self, variable: &str) -> Result<&Stored, ImportError> {
        let missing = || ImportError::Missing { variable: variable.into() };
        self.tensors.get(variable).ok_or_else(missing)
    }

    /// Whether there is a variable of this name.
    pub(super) fn has(&self, variable: &str) -> bool {
        self.tensors.contains_key(variable)
    }

    /// Whether there is a variable whose name starts with `prefix`.
    pub(super) fn has_any(&self, prefix: &str) -> bool {
        let next = self.tensors.range(prefix.to_owned()..).next();
        next.is_some_and(|(name, _)| name.starts_with(prefix))
    }

    pub(super) fn is_distilled(&self) -> bool {
        self.tensors.contains_key("dist_token")
    }
}

impl Stored {
    /// Names in the checkpoint.
    pub(super) fn names(&self) -> Vec<String> {
        self.parts.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The variable's name, followed by those of the checkpoint where they differ.
    pub(super) fn label(&self, variable: &str) -> String {
        match &self.parts[..] {
            [(name, _)] if name == variable => name.clone(),
            _ => format!("{variable} ({})", self.names().join(", ")),
        }
    }

    /// Shape of all parts concatenated.
    pub(super) fn shape(&self) -> Vec<i64> {
        let mut shape = self.parts.first().map(|(_, tensor)| tensor.size()).unwrap_or_default();
        if let Some(rows) = shape.first_mut() {
            *rows = rows.saturating_mul(self.parts.len() as i64);
        }
        shape
    }

    /// All parts concatenated, in f32 on the CPU.
    ///
    /// # Errors
    /// [`ImportError::NotFloat`], or [`ImportError::NotFinite`].
    pub(super) fn tensor(&self, variable: &str) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for (name, tensor) in &self.parts {
            if !tensor.is_floating_point() {
                let found = format!("{:?}", tensor.kind());
                return Err(ImportError::NotFloat { name: self.label(variable), found }.into());
            }
            parts.push(to_f32(name, tensor)?);
        }
        match &parts[..] {
            [whole] => Ok(whole.shallow_clone()),
            parts => Ok(Tensor::f_cat(parts, 0)?),
        }
    }
}
