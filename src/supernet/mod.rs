//! The network under search: a plain model whose weights are θ ⊙ gates.
//!
//! A step is: [`Supernet::materialise`], the model's own forward and backward,
//! [`Supernet::pull_back`]. See design section 3 in docs/method.md.

mod expansion;
mod flat;
mod gating;
mod in_place;
mod landing;
mod narrowing;
mod parameters;
mod reconstruction;
mod state;
mod weights;

pub use landing::Landing;
pub use narrowing::Narrowing;
pub use parameters::{Parameter, ParameterKind};
pub use reconstruction::Reconstruction;
pub use state::DimensionState;

use crate::cost::CostModel;
use crate::error::expect_shape;
use crate::mask::{BiMask, Mask};
use crate::models::{Architecture, Logits, Network};
use crate::space::{ActiveSet, Role, SearchSpace, Size, Sizes};
use crate::tensors::widened;
pub use crate::tensors::Weights;
use crate::{Error, Result};
use gating::{Factors, Gating};
use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{nn, Device, Kind, Tensor};

/// A model under search.
#[derive(Debug)]
pub struct Supernet<A: Architecture> {
    architecture: A,
    network: A::Network,
    reconstruction: Option<Reconstruction>,
    variables: Weights,
    space: SearchSpace,
    cost: CostModel,
    states: Vec<DimensionState>,
    gating: Gating,
    shrinks: bool,
    /// What the network computes in; θ is f32.
    compute: Kind,
    device: Device,
}

/// What the supernet makes of a batch.
#[derive(Debug)]
pub struct Output {
    /// Logits of the classifier.
    pub logits: Logits,
    /// Predicted pixels, `[B, C, H, W]`, where tokens were hidden.
    pub reconstruction: Option<Tensor>,
}

impl<A: Architecture> Supernet<A> {
    /// A freshly initialised network under search in `space`; with `pmim`, a mask token and a
    /// decoder join its variables.
    ///
    /// # Errors
    /// Those of building the model and of [`SearchSpace::validate`].
    pub fn new(
        architecture: A,
        mut space: SearchSpace,
        pmim: bool,
        device: Device,
    ) -> Result<Self> {
        if pmim {
            reconstruction::bind(&architecture, &mut space)?;
        }
        let (network, reconstruction, variables) = assemble(&architecture, pmim, device)?;
        let shapes = variables.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        space.validate(&shapes)?;
        let states = space.dimensions.iter().map(|d| DimensionState::new(d, device));
        Ok(Self {
            cost: architecture.cost_model(),
            states: states.collect::<Result<_>>()?,
            gating: Gating::new(&space, &vec![false; space.dimensions.len()], &variables)?,
            shrinks: in_place::shrinks(&architecture, &space)?,
            compute: Kind::Float,
            architecture,
            network,
            reconstruction,
            variables,
            space,
            device,
        })
    }

    /// A supernet whose search is under way: `dense` are the sizes it began with.
    pub(crate) fn restore(
        architecture: A,
        space: SearchSpace,
        dense: Sizes,
        pmim: bool,
        device: Device,
    ) -> Result<Self> {
        let mut supernet = Self::new(architecture, space, pmim, device)?;
        supernet.cost.dense = dense;
        Ok(supernet)
    }

    /// The description of the network at its present sizes.
    pub fn architecture(&self) -> &A {
        &self.architecture
    }

    /// The plain model, whose weights are θ ⊙ gates as of the last [`materialise`](Self::materialise).
    pub fn network(&self) -> &A::Network {
        &self.network
    }

    /// The search space at its present sizes.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// Costs of the family; `dense` are the sizes the search began with.
    pub fn cost_model(&self) -> &CostModel {
        &self.cost
    }

    /// What is known of every dimension, in the order of the space.
    pub fn states(&self) -> &[DimensionState] {
        &self.states
    }

    /// The same, to change scores, α or active cells.
    pub fn states_mut(&mut self) -> &mut [DimensionState] {
        &mut self.states
    }

    /// Weighs units by another bi-mask than the paper's.
    pub fn weigh_by(&mut self, bi_mask: Rc<dyn BiMask>) {
        self.states.iter_mut().for_each(|state| state.bi_mask = Rc::clone(&bi_mask));
    }

    /// Active cells by dimension.
    pub fn active(&self) -> Vec<&ActiveSet> {
        self.states.iter().map(|state| &state.active).collect()
    }

    /// Mask token and decoder, while there is PMIM.
    pub fn reconstruction(&self) -> Option<&Reconstruction> {
        self.reconstruction.as_ref()
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Present sizes of all dimensions; units that stay in place as zeros do not count.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = self.space.full_sizes();
        for state in &self.states {
            if let Some(landing) = state.landing.as_ref().filter(|landing| landing.in_place) {
                sizes.insert(state.name.clone(), landing.size);
            }
        }
        sizes
    }

    /// Whether every dimension has a single cell left.
    pub fn is_decided(&self) -> bool {
        self.states.iter().all(|state| state.active.decided().is_some())
    }

    /// Bi-masks of all dimensions at λ, with gradients to scores and α.
    ///
    /// # Errors
    /// [`Error::Invalid`] if λ is outside [0, 1].
    pub fn masks(&self, lambda: f64) -> Result<Vec<Mask>> {
        self.states.iter().map(|state| state.mask(lambda)).collect()
    }

    /// Writes θ ⊙ gates into the model's variables, outside autograd.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Shape`] unless there is one gate of its shape a dimension.
    pub fn materialise(&self, gates: &[Tensor]) -> Result<()> {
        self.expect_gates(gates)?;
        self.gating.materialise(&self.factors(gates)?)
    }

    /// Divides θ by the gates, so that the network at these gates is the one there was.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Shape`] unless there is one gate of its shape a dimension.
    pub fn absorb(&self, gates: &[Tensor]) -> Result<()> {
        self.expect_gates(gates)?;
        self.gating.absorb(&self.factors(gates)?)
    }

    /// Turns gradients of the model's variables into gradients of θ, in place; returns the
    /// gradients of the gates.
    ///
    /// # Errors
    /// [`Error::Torch`] if a gradient has another shape than its variable.
    pub fn pull_back(&self, gradients: &mut Weights, gates: &[Tensor]) -> Result<Vec<Tensor>> {
        self.expect_gates(gates)?;
        self.gating.pull_back(gradients, &self.factors(gates)?)
    }

    /// Gates, and what multiplies the writers of dimensions that are landing.
    fn factors<'a>(&self, masks: &'a [Tensor]) -> Result<Factors<'a>> {
        let mut landing = BTreeMap::new();
        for (at, state) in self.states.iter().enumerate() {
            if let Some(under_way) = &state.landing {
                let roles = [Role::Written, Role::Scaled].map(|role| under_way.factor(role));
                let [written, scaled] = roles;
                landing.insert(at, [written?, scaled?]);
            }
        }
        Ok(Factors { masks, landing })
    }

    /// One gate a dimension, each shaped like its scores.
    fn expect_gates(&self, gates: &[Tensor]) -> Result<()> {
        if gates.len() != self.states.len() {
            let expected = self.states.len().to_string();
            return Err(Error::invalid("number of gates", expected, gates.len()));
        }
        gates.iter().zip(&self.states).try_for_each(|(gate, state)| {
            expect_shape("gates", &state.name, gate, &state.cells().unit_shape())
        })
    }

    /// Forward pass of the plain model at its present weights; with hidden tokens, also the
    /// reconstruction.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`; `token_mask`: `[B, N]`, 1 where hidden.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if tokens are to be hidden and the supernet has no PMIM.
    pub fn forward(
        &self,
        images: &Tensor,
        token_mask: Option<&Tensor>,
        train: bool,
    ) -> Result<Output> {
        let images = &images.f_to_kind(self.compute)?;
        let Some(mask) = token_mask else {
            let logits = self.network.forward(images, train)?.widened()?;
            return Ok(Output { logits, reconstruction: None });
        };
        let reconstruction = self.reconstruction.as_ref().ok_or_else(|| Error::Unsupported {
            model: A::FAMILY.into(),
            operation: "hidden tokens without PMIM",
        })?;
        let hidden = reconstruction.hide(mask);
        let (logits, features) = self.network.forward_masked(images, &hidden, train)?;
        let painted = widened(&reconstruction.decode(&features)?)?;
        Ok(Output { logits: logits.widened()?, reconstruction: Some(painted) })
    }

    /// All trainable parameters, by name.
    pub fn parameters(&self) -> Vec<Parameter> {
        let weights =
            self.variables.iter().filter(|(_, leaf)| leaf.requires_grad()).map(|(name, leaf)| {
                let kind = if reconstruction::owns(name) && self.reconstruction.is_some() {
                    ParameterKind::Reconstruction
                } else {
                    ParameterKind::Weight
                };
                let value = self.gating.raw(name).unwrap_or(leaf).shallow_clone();
                Parameter { name: name.clone(), kind, leaf: leaf.shallow_clone(), value }
            });
        let learned = |name: String, kind, leaf: &Tensor| Parameter {
            name,
            kind,
            value: leaf.shallow_clone(),
            leaf: leaf.shallow_clone(),
        };
        let scores =
            self.states.iter().map(|s| learned(s.score_name(), ParameterKind::Score, &s.score));
        let alphas = self.states.iter().filter(|state| state.active.decided().is_none());
        let alphas = alphas.map(|s| learned(s.alpha_name(), ParameterKind::Alpha, &s.alpha));
        weights.chain(scores).chain(alphas).collect()
    }

    /// Begins to bring dimensions down to the given sizes, keeping their most important units:
    /// gates go to those of the narrowed dimension as [`Landing::remaining`] falls from 1 to 0, and
    /// [`narrow`](Self::narrow) then changes nothing. `gates` are the present ones.
    ///
    /// # Errors
    /// [`Error::Cells`] if a size fits no cell.
    pub fn land(&mut self, sizes: &[(usize, Size)], gates: &[Tensor], since: u64) -> Result<()> {
        let weights = self.raw_weights();
        for &(at, size) in sizes {
            let kept = self.states[at].survivors(size)?;
            let active = &self.states[at].active;
            self.states[at].landing = Some(Landing::new(active, &kept, size, &gates[at], since)?);
        }
        self.regate(&weights)
    }

    /// Goes on with a landing that began before.
    ///
    /// # Errors
    /// [`Error::Cells`] if the size fits no cell.
    pub(crate) fn resume_landing(
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
        let mut landing = Landing::new(&self.states[at].active, &kept, size, from, since)?;
        landing.in_place = in_place;
        self.states[at].landing = Some(landing);
        self.regate(&weights)
    }

    /// Takes units out for good: dimensions shrink to the given sizes, keeping their most
    /// important units. The model is rebuilt at its new sizes with sliced weights; one that cannot
    /// be keeps its units, with gates at zero for good, and nothing is sliced.
    ///
    /// The returned slices have to be applied to whatever else is shaped like the parameters.
    ///
    /// # Errors
    /// [`Error::Cells`] if a size fits no cell; those of building the model.
    pub fn narrow(&mut self, sizes: &[(usize, Size)]) -> Result<Narrowing> {
        if !self.shrinks {
            self.keep_in_place(sizes)?;
            return Ok(Narrowing::default());
        }
        let narrowing = Narrowing::new(&self.space, &self.states, sizes)?;
        let raw = self.raw_weights();
        sizes.iter().for_each(|&(at, _)| self.states[at].landing = None);
        if narrowing.is_empty() {
            self.regate(&raw)?;
            return Ok(narrowing);
        }
        let weights: Weights = raw
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), narrowing.apply(name, tensor)?)))
            .collect::<Result<_>>()?;
        for (&at, (kept, size)) in &narrowing.kept {
            self.states[at] = self.states[at].narrowed(kept, *size)?;
            self.space.dimensions[at].cells = self.states[at].cells().clone();
        }
        self.architecture = self.architecture.resized(&self.sizes())?;
        self.rebuild(self.reconstruction.is_some(), &weights)?;
        Ok(narrowing)
    }

    /// Takes mask token and decoder out of the network.
    ///
    /// # Errors
    /// Those of building the model.
    pub fn drop_reconstruction(&mut self) -> Result<()> {
        let weights = self.raw_weights();
        self.space = self.declared_space();
        self.rebuild(false, &weights)
    }

    /// The space without what PMIM adds to it.
    pub(crate) fn declared_space(&self) -> SearchSpace {
        let mut space = self.space.clone();
        for dimension in &mut space.dimensions {
            dimension.bindings.retain(|binding| !reconstruction::owns(&binding.variable));
        }
        space
    }

    /// Prediction of the plain model in evaluation, `[B, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are not what the model takes.
    pub fn network_logits(&self, images: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.forward(images, None, false)?.logits.prediction())
    }

    fn rebuild(&mut self, pmim: bool, weights: &Weights) -> Result<()> {
        let (network, reconstruction, mut variables) =
            assemble(&self.architecture, pmim, self.device)?;
        for variable in variables.values_mut().filter(|v| v.kind() != self.compute) {
            let rounded = tch::no_grad(|| variable.f_to_kind(self.compute))?;
            variable.set_data(&rounded);
        }
        (self.network, self.reconstruction, self.variables) = (network, reconstruction, variables);
        self.regate(weights)
    }

    /// Lets the network compute in bf16, or in f32 again. θ, scores, moments and whatever is learned
    /// stay f32: materialising rounds θ ⊙ gates, and gradients are widened when they are pulled
    /// back. Works on every device, and asks nothing of the model but that it lets its variables'
    /// kind decide.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another kind.
    pub fn compute_in(&mut self, kind: Kind) -> Result<()> {
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
    fn regate(&mut self, weights: &Weights) -> Result<()> {
        let landing: Vec<bool> = self.states.iter().map(|state| state.landing.is_some()).collect();
        self.gating = Gating::new(&self.space, &landing, &self.variables)?;
        self.load_weights(weights)
    }
}

/// Builds model and reconstruction in a variable store of their own.
fn assemble<A: Architecture>(
    architecture: &A,
    pmim: bool,
    device: Device,
) -> Result<(A::Network, Option<Reconstruction>, Weights)> {
    let store = nn::VarStore::new(device);
    let network = architecture.build(&store.root())?;
    let reconstruction = match pmim {
        true => Some(Reconstruction::new(&store.root(), architecture)?),
        false => None,
    };
    let variables = store.variables().into_iter().collect();
    Ok((network, reconstruction, variables))
}
