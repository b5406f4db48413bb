//! Weights of a network from the tensors of a checkpoint.

use super::family::{PositionTable, Pretrained};
use super::finite::expect_finite;
use super::named::{named, Named, Stored};
use super::positions::{rows, Tables};
use super::recognise::{joint, part, rotary};
use super::report::{Import, ImportReport, Resized};
use super::{adapt, ImportOptions};
use crate::error::ImportError;
use crate::models::Architecture;
use crate::randomness::{seed_torch, Purpose};
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::{nn, Device, Kind, Tensor};

/// Fits the tensors of a checkpoint to the network of `config`.
///
/// The rules are those of [the module](super). Variables without a tensor get the network's own
/// initial values, which depend on the option `seed` alone; libtorch's global generator is seeded
/// for that.
///
/// # Errors
/// [`Error::Import`] or [`Error::Shape`], naming the variable; [`Error::Invalid`] if `config`
/// cannot be built.
pub fn into<A: Pretrained>(
    weights: &Weights,
    config: &A,
    options: &ImportOptions,
) -> Result<Import> {
    let named = named::<A>(weights, options)?;
    let fresh = fresh_weights(config, options.seed)?;
    let is_variable = |name: &str| fresh.contains_key(name);
    place(&named, &fresh, config, options)
        .map_err(|error| named.further.explained::<A>(error, named.naming, is_variable))
}

fn place<A: Pretrained>(
    named: &Named,
    fresh: &Weights,
    config: &A,
    options: &ImportOptions,
) -> Result<Import> {
    let mut placing = Placing {
        config,
        named,
        fresh,
        identity_head: options.identity_head,
        folded: vec![],
        report: ImportReport::new(named, config.assumptions(named.naming)),
    };
    placing.check_head()?;
    placing.check_unplaced()?;
    let mut placed = Weights::new();
    for (name, fresh) in fresh {
        placed.insert(name.clone(), own(&placing.variable(name, fresh)?)?);
    }
    for (token, row) in &placing.folded {
        if let Some(token) = placed.get_mut(*token) {
            *token = token.f_add(row)?;
        }
    }
    if options.strict {
        placing.report.expect_exact()?;
    }
    Ok(Import { weights: placed, report: placing.report })
}

/// All variables of the network, freshly initialised.
fn fresh_weights(config: &impl Architecture, seed: u64) -> Result<Weights> {
    seed_torch(seed, 0, Purpose::Initialise);
    let store = nn::VarStore::new(Device::Cpu);
    config.build(&store.root())?;
    let variables = store.variables().into_iter();
    variables.map(|(name, variable)| Ok((name, variable.f_detach()?))).collect()
}

/// A contiguous f32 copy: a view of the checkpoint's storage would keep all of it in memory.
fn own(tensor: &Tensor) -> Result<Tensor> {
    let mut own = Tensor::f_empty(tensor.size(), (Kind::Float, Device::Cpu))?;
    own.f_copy_(tensor)?;
    Ok(own)
}

struct Placing<'a, A> {
    config: &'a A,
    named: &'a Named,
    /// All variables of the network, freshly initialised.
    fresh: &'a Weights,
    /// Whether heads are the identity.
    identity_head: bool,
    /// Rows of the checkpoint's position table that are added to tokens.
    folded: Vec<(&'static str, Tensor)>,
    report: ImportReport,
}

impl<A: Pretrained> Placing<'_, A> {
    /// Whether a variable is of a head that is the identity.
    fn is_identity(&self, name: &str) -> bool {
        self.identity_head && part_of(A::HEADS, name).is_some()
    }

    /// Refuses the option `identity_head` for a network without a head.
    fn check_head(&self) -> Result<()> {
        match self.identity_head && !self.fresh.keys().any(|name| self.is_identity(name)) {
            true => {
                let expected = "false for a network without a head (Pretrained::HEADS)";
                Err(Error::invalid("identity_head", expected, true))
            }
            false => Ok(()),
        }
    }

    /// Refuses tensors without a variable, except those that are left out, which are reported as skipped.
    fn check_unplaced(&mut self) -> Result<(), ImportError> {
        let part = |name: &str| joint(name, self.fresh).or_else(|| part(name));
        if let Some((name, bare)) = self.named.unknown.first() {
            return Err(ImportError::Unplaced { name: name.clone(), part: part(bare) });
        }
        let constant = self.named.computed.iter().find_map(|name| Some((name, rotary(name)?)));
        if let Some((name, part)) = constant {
            if !self.fresh.keys().any(|own| A::is_computed(own)) {
                return Err(ImportError::Unplaced { name: name.clone(), part: Some(part) });
            }
        }
        for (name, stored) in &self.named.tensors {
            if self.fresh.contains_key(name) && !self.is_identity(name) {
                continue;
            }
            let optional = part_of(A::OPTIONAL, name).is_some() || self.config.is_left_out(name);
            if !optional && !self.is_identity(name) {
                let names = stored.names().join(", ");
                return Err(ImportError::Unplaced { name: names, part: part(name) });
            }
            // Queries, keys and values of one tensor are several variables.
            for name in stored.names() {
                if !self.report.skipped.contains(&name) {
                    self.report.skipped.push(name);
                }
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, fresh: &Tensor) -> Result<Tensor> {
        if self.is_identity(name) {
            return self.identity(name, fresh);
        }
        let Some(stored) = self.named.tensors.get(name) else {
            if A::is_computed(name) {
                self.report.computed.push(name.into());
                return Ok(fresh.shallow_clone());
            }
            if !self.may_be_missing(name) {
                return Err(ImportError::Missing { variable: name.into() }.into());
            }
            self.report.missing.push(name.into());
            return Ok(fresh.shallow_clone());
        };
        if stored.shape() == fresh.size() {
            let tensor = stored.tensor(name)?;
            self.report.loaded.push(name.into());
            let is_own = self.named.tensors.keys().any(|name| A::is_computed(name));
            return if is_own { Ok(tensor) } else { self.config.arranged(name, tensor) };
        }
        let table = self.config.position_table().filter(|table| table.variable == name);
        if let Some(table) = table {
            return self.positions(stored, fresh, table);
        }
        if A::PATCH_PROJECTION == Some(name) {
            return self.channels(name, stored, fresh);
        }
        match part_of(A::HEADS, name) {
            Some(_) => self.head(name, stored, fresh),
            None => Err(misshapen(name, stored, fresh)),
        }
    }

    /// Whether a variable is initialised afresh without a tensor: the checkpoint has none of the
    /// variables of its head or optional part.
    fn may_be_missing(&self, name: &str) -> bool {
        let part = part_of(A::HEADS, name).or_else(|| part_of(A::OPTIONAL, name));
        part.is_some_and(|part| !self.named.has_any(&format!("{part}.")))
    }

    fn positions(&mut self, stored: &Stored, fresh: &Tensor, to: PositionTable) -> Result<Tensor> {
        let name = to.variable;
        match (&stored.shape()[..], &fresh.size()[..]) {
            ([1, _, width], [_, _, expected]) if width == expected => {}
            _ => return Err(misshapen(name, stored, fresh)),
        }
        let count = |shape: Option<Vec<i64>>| shape?.get(1).copied();
        let tokens = to.prefix_tokens.iter().copied();
        let own = tokens
            .clone()
            .filter_map(|token| Some((token, count(self.fresh.get(token).map(Tensor::size))?)));
        let of_checkpoint = tokens.filter_map(|token| {
            Some((token, count(self.named.tensors.get(token).map(Stored::shape))?))
        });
        let tables = Tables { to, own: rows(own), stored: rows(of_checkpoint), fresh };
        let adapted = tables.adapt(&stored.label(name), &stored.tensor(name)?)?;
        let tensor = expect_finite(name, adapted.table)?;
        let row = |row| format!("{name}[:, {row}]");
        match adapted.is_exact {
            true => self.report.loaded.push(name.into()),
            false => self.report.resized.push(change(name, stored, fresh)),
        }
        self.report.skipped.extend(adapted.skipped.into_iter().map(row));
        self.report.missing.extend(adapted.missing.into_iter().map(row));
        self.folded.extend(adapted.folded);
        Ok(tensor)
    }

    fn channels(&mut self, name: &str, stored: &Stored, fresh: &Tensor) -> Result<Tensor> {
        match (&stored.shape()[..], &fresh.size()[..]) {
            ([width, _, patch @ ..], [expected, channels, size @ ..])
                if width == expected && patch == size =>
            {
                let weight = stored.tensor(name)?;
                let adapted = adapt::channels(&stored.label(name), &weight, *channels)?;
                let adapted = expect_finite(name, adapted)?;
                self.report.resized.push(change(name, stored, fresh));
                Ok(adapted)
            }
            _ => Err(misshapen(name, stored, fresh)),
        }
    }

    /// The identity as the weight of a head, zeros as its bias.
    fn identity(&mut self, name: &str, fresh: &Tensor) -> Result<Tensor> {
        let shape = fresh.size();
        let value = match shape[..] {
            [outputs, inputs] if outputs == inputs => {
                Tensor::f_eye(inputs, (Kind::Float, Device::Cpu))?
            }
            [_] => fresh.f_zeros_like()?,
            _ => {
                let expected = "as many outputs as inputs with the option identity_head; call VitConfig::features";
                return Err(Error::invalid(name, expected, format!("{shape:?}")));
            }
        };
        self.report.computed.push(name.into());
        Ok(value)
    }

    /// A newly initialised classifier, if the checkpoint's differs in its number of classes alone.
    fn head(&mut self, name: &str, stored: &Stored, fresh: &Tensor) -> Result<Tensor> {
        let (shape, expected) = (stored.shape(), fresh.size());
        if shape.len() != expected.len() || shape.get(1) != expected.get(1) {
            return Err(misshapen(name, stored, fresh));
        }
        self.report.replaced.push(change(name, stored, fresh));
        Ok(fresh.shallow_clone())
    }
}

/// The entry of `parts` that a variable belongs to: its name, or that of its layer.
fn part_of(parts: &[&'static str], name: &str) -> Option<&'static str> {
    let layer = name.rsplit_once('.').map_or(name, |(layer, _)| layer);
    parts.iter().copied().find(|part| *part == name || *part == layer)
}

fn change(name: &str, stored: &Stored, fresh: &Tensor) -> Resized {
    Resized { name: name.into(), from: stored.shape(), to: fresh.size() }
}

fn misshapen(name: &str, stored: &Stored, fresh: &Tensor) -> Error {
    Error::Shape {
        operation: "import",
        name: stored.label(name),
        expected: fresh.size(),
        actual: stored.shape(),
    }
}
