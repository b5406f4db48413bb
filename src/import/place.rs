//! Tensors of a checkpoint become weights of a network.

use super::family::{Family, Positions, Pretrained};
use super::naming::{named, Named, Stored};
use super::report::{Import, ImportReport, Resized};
use super::{adapt, ImportOptions};
use crate::error::ImportError;
use crate::models::Architecture;
use crate::randomness::{seed_torch, Purpose};
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::{nn, Device, Kind, Tensor};

/// Position of the distillation token, as the report calls it.
const DISTILLATION_POSITION: &str = "pos_embed[:, 1]";

/// Fits the tensors of a checkpoint to the network of `config`.
///
/// The rules are those of [the module](super). Fresh values are those of the network's own
/// initialisation, a function of the option `seed`; libtorch's generator is seeded for it.
///
/// # Errors
/// [`Error::Import`] or [`Error::Shape`], naming the variable; [`Error::Invalid`] if `config`
/// cannot be built.
pub fn into<A: Pretrained>(
    weights: &Weights,
    config: &A,
    options: &ImportOptions,
) -> Result<Import> {
    let named = named::<A>(weights, &options.skip)?;
    let fresh = fresh_weights(config, options.seed)?;
    let mut placing = Placing {
        config,
        named: &named,
        report: ImportReport::new(named.naming, named.skipped.clone(), named.computed.clone()),
    };
    placing.pass_over(&fresh)?;
    let mut placed = Weights::new();
    for (name, fresh) in &fresh {
        placed.insert(name.clone(), own(&placing.variable(name, fresh)?)?);
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

/// A contiguous f32 copy: checkpoints have views that keep a larger storage alive.
fn own(tensor: &Tensor) -> Result<Tensor> {
    let mut own = Tensor::f_empty(tensor.size(), (Kind::Float, Device::Cpu))?;
    own.f_copy_(tensor)?;
    Ok(own)
}

struct Placing<'a, A> {
    config: &'a A,
    named: &'a Named,
    report: ImportReport,
}

impl<A: Pretrained> Placing<'_, A> {
    /// Reports tensors that have no place in the network, if they may be left out.
    fn pass_over(&mut self, variables: &Weights) -> Result<(), ImportError> {
        if let Some(name) = self.named.unknown.first() {
            return Err(ImportError::Unplaced { name: name.clone() });
        }
        for (name, stored) in &self.named.tensors {
            if variables.contains_key(name) {
                continue;
            }
            // The network being without it, only a distilled checkpoint in a plain one remains.
            if name != "dist_token" && !name.starts_with("head_dist.") {
                return Err(ImportError::Unplaced { name: stored.names().join(", ") });
            }
            self.report.skipped.extend(stored.names());
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, fresh: &Tensor) -> Result<Tensor> {
        let Some(stored) = self.named.tensors.get(name) else {
            if !self.may_be_missing(name) {
                return Err(ImportError::Missing { variable: name.into() }.into());
            }
            self.report.missing.push(name.into());
            return Ok(fresh.shallow_clone());
        };
        if stored.shape() == fresh.size() {
            let tensor = stored.tensor(name)?;
            self.report.loaded.push(name.into());
            return Ok(tensor);
        }
        match name {
            "pos_embed" => match self.config.positions() {
                Some(wanted) => self.positions(stored, fresh, wanted),
                None => Err(misshapen(name, stored, fresh)),
            },
            "patch_embed.proj.weight" => self.channels(stored, fresh),
            _ if is_head::<A>(name) => self.head(name, stored, fresh),
            _ => Err(misshapen(name, stored, fresh)),
        }
    }

    /// A head the checkpoint has nothing of, or what distillation adds to a plain one.
    fn may_be_missing(&self, name: &str) -> bool {
        let (layer, _) = name.rsplit_once('.').unwrap_or((name, ""));
        let has = |part: &str| self.named.tensors.contains_key(&format!("{layer}.{part}"));
        name == "dist_token" || (is_head::<A>(name) && !has("weight") && !has("bias"))
    }

    fn positions(&mut self, stored: &Stored, fresh: &Tensor, wanted: Positions) -> Result<Tensor> {
        let name = "pos_embed";
        let tokens = match (&stored.shape()[..], &fresh.size()[..]) {
            (&[1, tokens, width], &[_, _, wanted]) if width == wanted => tokens,
            _ => return Err(misshapen(name, stored, fresh)),
        };
        let prefix = 1 + i64::from(self.named.is_distilled());
        let side = adapt::grid_side(&stored.label(name), tokens, prefix)?;
        let table = stored.tensor(name)?;
        let resized =
            adapt::positions(&table, (prefix, side), fresh, (wanted.prefix, wanted.side))?;
        match prefix - wanted.prefix {
            0 => {}
            1.. => self.report.skipped.push(DISTILLATION_POSITION.into()),
            _ => self.report.missing.push(DISTILLATION_POSITION.into()),
        }
        self.report.resized.push(change(name, stored, fresh));
        Ok(resized)
    }

    fn channels(&mut self, stored: &Stored, fresh: &Tensor) -> Result<Tensor> {
        let name = "patch_embed.proj.weight";
        match (&stored.shape()[..], &fresh.size()[..]) {
            ([width, _, patch @ ..], [wanted, channels, size @ ..])
                if width == wanted && patch == size =>
            {
                let weight = stored.tensor(name)?;
                let adapted = adapt::channels(&stored.label(name), &weight, *channels)?;
                self.report.resized.push(change(name, stored, fresh));
                Ok(adapted)
            }
            _ => Err(misshapen(name, stored, fresh)),
        }
    }

    /// A head for another number of classes starts afresh.
    fn head(&mut self, name: &str, stored: &Stored, fresh: &Tensor) -> Result<Tensor> {
        let (shape, wanted) = (stored.shape(), fresh.size());
        if shape.len() != wanted.len() || shape.get(1) != wanted.get(1) {
            return Err(misshapen(name, stored, fresh));
        }
        self.report.replaced.push(change(name, stored, fresh));
        Ok(fresh.shallow_clone())
    }
}

fn is_head<A: Family>(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(layer, _)| A::HEADS.contains(&layer))
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
