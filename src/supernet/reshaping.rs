//! What builds the network anew: fade-out, narrowing, the end of PMIM, another precision.

use super::gating::Gating;
use super::{flat, FadeOut, Narrowing, PmimModules, Supernet, Weights};
use crate::models::Architecture;
use crate::space::Size;
use crate::{Error, Result};
use tch::{nn, Device, Kind, Tensor};

impl<A: Architecture> Supernet<A> {
    /// Begins to bring dimensions down to the given sizes, keeping their most important units:
    /// gates go to those of the narrowed dimension as [`FadeOut::remaining`] falls from 1 to 0, and
    /// [`narrow`](Self::narrow) then changes nothing. `gates` are the present ones.
    ///
    /// # Errors
    /// [`Error::Candidates`] if a size fits no candidate; [`Error::Invalid`] for a dimension or size there is
    /// not, or gates of another number; [`Error::Shape`] for gates of another shape.
    pub fn begin_fade_out(
        &mut self,
        sizes: &[(usize, Size)],
        gates: &[Tensor],
        since: u64,
    ) -> Result<()> {
        self.expect_dimensions(sizes)?;
        self.expect_gates(gates)?;
        let weights = self.raw_weights();
        for &(at, size) in sizes {
            let kept = self.states[at].kept_units(size)?;
            let active = &self.states[at].active;
            self.states[at].fade_out = Some(FadeOut::new(active, &kept, size, &gates[at], since)?);
        }
        self.rebuild_gating(&weights)
    }

    /// Goes on with a fade-out that began before.
    ///
    /// # Errors
    /// [`Error::Candidates`] if the size fits no candidate.
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
        let kept = flat::indices(kept, self.device)?;
        let mut fade_out = FadeOut::new(&self.states[at].active, &kept, size, from, since)?;
        fade_out.in_place = in_place;
        self.states[at].fade_out = Some(fade_out);
        self.rebuild_gating(&weights)
    }

    /// Takes units out for good: dimensions shrink to the given sizes, keeping their most
    /// important units. The model is rebuilt at its new sizes with sliced weights; one that cannot
    /// be keeps its units, with gates at zero for good, and nothing is sliced.
    ///
    /// The returned slices have to be applied to whatever else is shaped like the parameters.
    ///
    /// # Errors
    /// [`Error::Candidates`] if a size fits no candidate; [`Error::Invalid`] for a dimension or size there is
    /// not; those of building the model.
    pub fn narrow(&mut self, sizes: &[(usize, Size)]) -> Result<Narrowing> {
        self.expect_dimensions(sizes)?;
        if !self.can_narrow {
            self.keep_in_place(sizes)?;
            return Ok(Narrowing::default());
        }
        let narrowing = Narrowing::new(&self.space, &self.states, sizes)?;
        let raw = self.raw_weights();
        sizes.iter().for_each(|&(at, _)| self.states[at].fade_out = None);
        if narrowing.is_empty() {
            self.rebuild_gating(&raw)?;
            return Ok(narrowing);
        }
        let weights: Weights = raw
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), narrowing.apply(name, tensor)?)))
            .collect::<Result<_>>()?;
        for (&at, (kept, size)) in &narrowing.kept {
            self.states[at] = self.states[at].narrowed(kept, *size)?;
            self.space.dimensions[at].candidates = self.states[at].candidates().clone();
        }
        self.architecture = self.architecture.resized(&self.sizes())?;
        self.rebuild(self.reconstruction.is_some(), &weights)?;
        Ok(narrowing)
    }

    /// Numbers of dimensions there are, and sizes within them.
    fn expect_dimensions(&self, sizes: &[(usize, Size)]) -> Result<()> {
        for &(at, size) in sizes {
            let Some(state) = self.states.get(at) else {
                let expected = format!("below {}", self.states.len());
                return Err(Error::invalid("number of a dimension", expected, at));
            };
            let full = state.candidates().full();
            let within = (1..=full.heads).contains(&size.heads)
                && (1..=full.channels).contains(&size.channels);
            if !within {
                let (name, expected) =
                    (format!("size of {}", state.name), format!("within {full:?}"));
                return Err(Error::invalid(name, expected, format!("{size:?}")));
            }
        }
        Ok(())
    }

    /// Takes mask token and decoder out of the network.
    ///
    /// # Errors
    /// Those of building the model.
    pub fn remove_reconstruction(&mut self) -> Result<()> {
        if self.reconstruction.is_none() {
            return Ok(());
        }
        let weights = self.raw_weights();
        self.space = self.declared_space();
        self.rebuild(false, &weights)
    }

    fn rebuild(&mut self, pmim: bool, weights: &Weights) -> Result<()> {
        let (network, reconstruction, mut variables) =
            assemble(&self.architecture, pmim, self.device)?;
        let floats = variables.values_mut().filter(|v| v.is_floating_point());
        for variable in floats.filter(|v| v.kind() != self.compute) {
            let rounded = tch::no_grad(|| variable.f_to_kind(self.compute))?;
            variable.f_set_data(&rounded)?;
        }
        let shapes = variables.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        self.space.validate(&shapes)?;
        (self.network, self.reconstruction, self.variables) = (network, reconstruction, variables);
        self.rebuild_gating(weights)
    }

    /// Lets the network compute in bf16, or in f32 again. θ, scores, moments and whatever is learned
    /// stay f32: materialising rounds θ ⊙ gates, and gradients are widened when they are pulled
    /// back. Works on every device, and asks nothing of the model but that it lets its variables'
    /// kind decide.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another kind.
    pub fn set_compute_kind(&mut self, kind: Kind) -> Result<()> {
        if !matches!(kind, Kind::Float | Kind::BFloat16) {
            let actual = format!("{kind:?}");
            return Err(Error::invalid("kind to compute in", "Float or BFloat16", actual));
        }
        if kind == self.compute {
            return Ok(());
        }
        let weights = self.raw_weights();
        self.compute = kind;
        self.rebuild(self.reconstruction.is_some(), &weights)
    }

    /// Lays the gates out anew, with θ from `weights`.
    pub(super) fn rebuild_gating(&mut self, weights: &Weights) -> Result<()> {
        let fade_out: Vec<bool> =
            self.states.iter().map(|state| state.fade_out.is_some()).collect();
        self.gating = Gating::new(&self.space, &fade_out, &self.variables)?;
        self.load_weights(weights)
    }
}

/// Builds model and reconstruction in a variable store of their own.
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
