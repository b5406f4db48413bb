//! Changes of a supernet's structure: fade-out, narrowing, removal of PMIM, compute kind.

use super::gating::Gating;
use super::{trainable, FadeOut, Narrowing, PmimModules, Supernet, UnitOrder, Weights};
use crate::models::Architecture;
use crate::space::Size;
use crate::tensors::{convert, to_host};
use crate::{Error, Result};
use tch::{nn, Device, Kind, Tensor};

impl<A: Architecture> Supernet<A> {
    /// Begins the gate fade-out of dimensions, given as (index, size after pruning), from the
    /// present `gates`. The units with the highest importance are kept.
    ///
    /// The caller lowers [`FadeOut::remaining`] from 1 to 0 over the steps that follow. At 0 the
    /// gates of the units to prune are zero, and [`narrow`](Self::narrow) does not change the
    /// logits, except through the norms over a narrowed embedding.
    ///
    /// # Errors
    /// [`Error::Candidates`] if no candidate fits into a size; [`Error::Invalid`] for a dimension
    /// index or size out of range, or another number of gates than dimensions; [`Error::Shape`] for
    /// gates of another shape.
    pub fn begin_fade_out(
        &mut self,
        sizes: &[(usize, Size)],
        gates: &[Tensor],
        since: u64,
    ) -> Result<()> {
        self.expect_dimensions(sizes)?;
        let kept = self.kept_on_host(sizes)?;
        self.begin_fade_out_to(sizes, &kept, gates, since)
    }

    /// [`begin_fade_out`](Self::begin_fade_out) to these units of each dimension.
    pub(crate) fn begin_fade_out_to(
        &mut self,
        sizes: &[(usize, Size)],
        kept: &[Vec<i64>],
        gates: &[Tensor],
        since: u64,
    ) -> Result<()> {
        self.expect_dimensions(sizes)?;
        self.expect_gates(gates)?;
        let weights = self.raw_weights();
        for (&(at, size), kept) in sizes.iter().zip(kept) {
            let active = &self.states[at].active;
            self.states[at].fade_out = Some(FadeOut::new(active, kept, size, &gates[at], since)?);
        }
        self.rebuild_gating(&weights)
    }

    /// Returns the units that pruning to these sizes keeps, in one transfer from the device.
    pub(super) fn kept_on_host(&self, sizes: &[(usize, Size)]) -> Result<Vec<Vec<i64>>> {
        let known = |at: usize, size: Size| {
            let fade_out = self.states[at].fade_out.as_ref();
            fade_out.filter(|own| own.size == size).map(|own| own.kept().to_vec())
        };
        let open = sizes.iter().filter(|&&(at, size)| known(at, size).is_none());
        let ranks = open.map(|&(at, _)| UnitOrder::ranks(&self.states[at]));
        let ranks = crate::autograd::no_grad(|| ranks.collect::<Result<Vec<_>>>())?;
        let numbers = match ranks.is_empty() {
            true => Vec::new(),
            false => to_host(&Tensor::f_cat(&ranks, 0)?)?,
        };
        let mut rest = &numbers[..];
        let own = sizes.iter().map(|&(at, size)| {
            known(at, size).unwrap_or_else(|| {
                let state = &self.states[at];
                let (own, others) = rest.split_at(UnitOrder::length(state).min(rest.len()));
                rest = others;
                UnitOrder::from_host(own, state.candidates().heads()).kept(size)
            })
        });
        Ok(own.collect())
    }

    /// Restores a fade-out from a checkpoint.
    ///
    /// # Errors
    /// [`Error::Candidates`] if no candidate fits into the size.
    pub(crate) fn restore_fade_out(
        &mut self,
        at: usize,
        kept: &[i64],
        size: Size,
        from: &Tensor,
        since: u64,
        in_place: bool,
    ) -> Result<()> {
        let weights = self.raw_weights();
        let mut fade_out = FadeOut::new(&self.states[at].active, kept, size, from, since)?;
        if in_place {
            (fade_out.remaining, fade_out.in_place) = (0.0, true);
        }
        self.states[at].fade_out = Some(fade_out);
        self.rebuild_gating(&weights)
    }

    /// Prunes dimensions to the given sizes, as (index, size): keeps the units of the fade-out to
    /// that size, or those with the highest importance, and rebuilds the network with sliced
    /// weights; a branch of size [`Size::REMOVED`] is built no more.
    ///
    /// Returns the slices; the caller applies them to other tensors shaped like the parameters,
    /// and forgets those of [variables that vanished](Narrowing::vanished). If
    /// the network cannot be rebuilt at other sizes ([`can_narrow`](Self::can_narrow)), the gates
    /// of pruned units stay at zero, and the returned set of slices is empty.
    ///
    /// # Errors
    /// [`Error::Candidates`] if no candidate fits into a size; [`Error::Invalid`] for a dimension
    /// index or size out of range; those of building the network.
    pub fn narrow(&mut self, sizes: &[(usize, Size)]) -> Result<Narrowing> {
        self.expect_dimensions(sizes)?;
        if !self.can_narrow {
            self.prune_in_place(sizes)?;
            return Ok(Narrowing::default());
        }
        let smaller = self.smaller(sizes);
        let kept = self.kept_on_host(&smaller)?;
        let mut narrowing = Narrowing::new(&self.space, &self.states, &smaller, &kept)?;
        let raw = self.raw_weights();
        sizes.iter().for_each(|&(at, _)| self.states[at].fade_out = None);
        if narrowing.is_empty() {
            self.rebuild_gating(&raw)?;
            return Ok(narrowing);
        }
        let mut weights: Weights = raw
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), narrowing.apply(name, tensor)?)))
            .collect::<Result<_>>()?;
        for (&(at, size), on_host) in smaller.iter().zip(&kept) {
            self.states[at] = self.states[at].narrowed(on_host, size)?;
            self.space.dimensions[at].candidates = self.states[at].candidates().clone();
        }
        self.architecture = self.architecture.resized(&self.sizes())?;
        let pmim = self.reconstruction.is_some();
        if smaller.iter().any(|(_, size)| size.is_removed()) {
            let left = Self::shapes(&self.architecture, pmim)?;
            let gone = weights.keys().filter(|name| !left.contains_key(*name));
            narrowing.vanished = gone.cloned().collect();
            weights.retain(|name, _| left.contains_key(name));
        }
        self.rebuild(pmim, &weights)?;
        Ok(narrowing)
    }

    /// Returns the dimensions that do not have the size yet.
    pub(super) fn smaller(&self, sizes: &[(usize, Size)]) -> Vec<(usize, Size)> {
        let smaller = |(at, size): &&(usize, Size)| self.states[*at].candidates().full() != *size;
        sizes.iter().filter(smaller).copied().collect()
    }

    /// Checks that dimension indices and sizes are in range.
    pub(super) fn expect_dimensions(&self, sizes: &[(usize, Size)]) -> Result<()> {
        for &(at, size) in sizes {
            let Some(state) = self.states.get(at) else {
                let expected = format!("below {}", self.states.len());
                return Err(Error::invalid("index of a dimension", expected, at));
            };
            if !state.candidates().may_become(size) {
                let dimension = &self.space.dimensions[at];
                let full = dimension.in_channels(state.candidates().full());
                let (name, expected) =
                    (format!("size of {}", state.name), format!("within {full}"));
                return Err(Error::invalid(name, expected, dimension.in_channels(size)));
            }
        }
        Ok(())
    }

    /// Removes mask token and decoder of masked image modeling.
    ///
    /// # Errors
    /// Those of building the network.
    pub fn remove_reconstruction(&mut self) -> Result<()> {
        if self.reconstruction.is_none() {
            return Ok(());
        }
        let weights = self.raw_weights();
        self.space = self.declared_space();
        self.rebuild(false, &weights)
    }

    fn rebuild(&mut self, pmim: bool, weights: &Weights) -> Result<()> {
        let (network, reconstruction, variables) = assemble(&self.architecture, pmim, self.device)?;
        self.built = trainable::learned(&variables);
        convert(variables.values(), self.compute)?;
        trainable::carry_over(&self.variables, &variables)?;
        let shapes = variables.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        self.space.validate(&shapes)?;
        (self.network, self.reconstruction, self.variables) = (network, reconstruction, variables);
        self.rebuild_gating(weights)
    }

    /// Sets the kind that the network computes in: f32 or bf16.
    ///
    /// θ, scores, α and optimiser moments stay f32: [`materialise`](Self::materialise) rounds θ ⊙
    /// gates to the compute kind, and [`pull_back`](Self::pull_back) converts gradients to f32. No
    /// autocast is used; the network has to compute in the kind of its variables.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another kind.
    pub fn set_compute_kind(&mut self, kind: Kind) -> Result<()> {
        if !matches!(kind, Kind::Float | Kind::BFloat16) {
            let actual = format!("{kind:?}");
            return Err(Error::invalid("compute kind", "Float or BFloat16", actual));
        }
        if kind == self.compute {
            return Ok(());
        }
        let weights = self.raw_weights();
        self.compute = kind;
        self.rebuild(self.reconstruction.is_some(), &weights)
    }

    /// Rebuilds the gates for the present space and fade-outs, with θ from `weights`.
    pub(super) fn rebuild_gating(&mut self, weights: &Weights) -> Result<()> {
        self.mask_plan.take();
        self.with_units = trainable::WithUnits::of(&self.space);
        let dimensions = 0..self.states.len();
        let fade_out: Vec<bool> = dimensions.map(|at| self.has_fade_out_factors(at)).collect();
        let (variables, learned) = (&self.variables, self.ever_learned().cloned().collect());
        let (compute, device) = (self.compute, self.device);
        self.gating = Gating::new(&self.space, &fade_out, variables, learned, compute, device)?;
        self.load_weights(weights)
    }
}

/// Builds network, and mask token and decoder if `pmim`, in one variable store.
pub(super) fn assemble<A: Architecture>(
    architecture: &A,
    pmim: bool,
    device: Device,
) -> Result<(A::Network, Option<PmimModules>, Weights)> {
    let store = nn::VarStore::new(device);
    let network = architecture.build(&store.root())?;
    let reconstruction = match pmim {
        true => Some(PmimModules::new(&store.root(), architecture)?),
        false => None,
    };
    let variables = store.variables().into_iter().collect();
    Ok((network, reconstruction, variables))
}
