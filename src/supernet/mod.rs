//! The supernet: the dense architecture with weights θ ⊙ gates.
//!
//! # Weight-space gates
//! The paper multiplies activations by the bi-mask. Every unit is an output channel of a linear map
//! y = W·x + b or an entry of a token parameter, and multiplying channel i of y by the gate m_i is
//! the same as multiplying row i of W and entry i of b by m_i. So no activation is masked here: the
//! network is the plain one, with other weights. One step is
//! 1. *materialise* ([`Supernet::materialise`]): write θ ⊙ gates into the network's own variables,
//!    without autograd. θ is a separate f32 copy, which the optimiser updates;
//! 2. the network's own forward and backward pass, which give g = ∂L/∂(θ ⊙ gates);
//! 3. *pull back* ([`Supernet::pull_back`]): ∂L/∂θ = g ⊙ gates, and ∂L/∂gate = Σ g ⊙ θ over all
//!    entries that the gate multiplies. Autograd takes ∂L/∂gate on to scores and α through the
//!    bi-mask ([`Supernet::masks`]).
//!
//! Steps 1 and 3 cost a few passes over the gated weights, whatever the batch size.
//!
//! | dimension | multiplied by the bi-mask | sliced when units are pruned |
//! |---|---|---|
//! | embedding | patch projection, tokens, positions | these, and all other axes it indexes |
//! | attention | rows of q, k, v | these, and columns of proj |
//! | channels of queries and keys that are apart from values | these channels of all heads | these |
//! | hidden width | rows of fc1 | these, and columns of fc2 |
//!
//! # Gate fade-out
//! Before units are pruned their gates go linearly to zero ([`FadeOut`]): with the remaining share
//! r falling from 1 to 0, m = r·m₀ + (1 − r)·m₁, with m₀ the gates at the first step and m₁ the
//! bi-mask of the dimension at its size after pruning, 0 for the units to prune.
//!
//! In attention and hidden dimensions a unit with gate 0 has no effect, so this is enough. An
//! embedding channel is also written by layers that the bi-mask does not multiply. During the
//! fade-out of an embedding with k of d channels kept, a variable with the role
//! - [`Written`](crate::space::Role::Written) (rows of proj and fc2, biases of norms) is multiplied
//!   by r for channels to prune, and by 1 for kept ones;
//! - [`Scaled`](crate::space::Role::Scaled) (scales of norms) is multiplied by r for channels to
//!   prune, and by √((k + r²·(d − k))/d) for kept ones: a norm divides by the standard deviation
//!   over all d channels, which falls by about this factor as d − k of them fade;
//! - [`GatedNorm`](crate::space::Role::GatedNorm) (scale of a norm whose output is gated) is
//!   multiplied by both the bi-mask and the factor of `Scaled`;
//! - [`Narrowed`](crate::space::Role::Narrowed) is not multiplied.
//!
//! # Narrowing
//! At the end of a fade-out, [`Supernet::narrow`] removes the units: weights, scores and α are
//! sliced to the kept units, and the network is rebuilt at its new sizes, where every later step
//! costs less. The returned [`Narrowing`] slices optimiser moments and EMA in the same way. In
//! attention and hidden dimensions this leaves the logits unchanged up to rounding; in an
//! embedding, norms then run over k instead of d channels, and their scales lose the factor √(k/d).
//! A network that cannot be rebuilt at other sizes ([`Supernet::can_narrow`]) keeps pruned units,
//! with gates at zero.

mod expansion;
mod fade_out;
mod flat;
mod forward;
mod gate_order;
mod gate_rows;
mod gates;
mod gating;
mod in_place;
mod learned;
mod masks;
mod narrowing;
mod parameters;
mod pmim_modules;
mod reshaping;
mod state;
mod trainable;
mod trial;
mod unit_order;
mod weights;

pub use fade_out::FadeOut;
pub use forward::Output;
pub use narrowing::Narrowing;
pub(crate) use parameters::decays;
pub use parameters::{Parameter, ParameterKind};
pub(crate) use pmim_modules::declared;
pub use pmim_modules::PmimModules;
pub use state::DimensionState;
pub(crate) use trainable::Recorded;
pub(crate) use unit_order::UnitOrder;

use crate::components::BiMask;
use crate::cost::CostModel;
use crate::latency::LatencyModel;
use crate::models::Architecture;
use crate::space::{ActiveSet, ActiveSets, SearchSpace, Sizes};
pub use crate::tensors::Weights;
use crate::{Error, Result};
use gating::Gating;
use learned::Learned;
use masks::MaskPlan;
use std::cell::{Ref, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Network under search, with scores, α and active candidates of every dimension.
#[derive(Debug)]
pub struct Supernet<A: Architecture> {
    architecture: A,
    network: A::Network,
    reconstruction: Option<PmimModules>,
    variables: Weights,
    /// Variables that the network is built to learn.
    built: BTreeSet<String>,
    with_units: trainable::WithUnits,
    space: SearchSpace,
    cost: CostModel,
    states: Vec<DimensionState>,
    /// Buffers of which scores and α are views.
    learned: Learned,
    active_sets: RefCell<Option<ActiveSets>>,
    mask_plan: RefCell<Option<MaskPlan>>,
    gating: Gating,
    can_narrow: bool,
    /// Kind that the network computes in; θ is f32.
    compute: Kind,
    device: Device,
}

impl<A: Architecture> Supernet<A> {
    /// Creates a supernet with freshly initialised weights; with `pmim`, also mask token and
    /// decoder of masked image modeling.
    ///
    /// # Errors
    /// Those of building the network and of [`SearchSpace::validate`]; [`Error::Invalid`] for a variable with the name of
    /// scores or α; for `pmim`, those of [`pmim_ports`](Architecture::pmim_ports).
    pub fn new(
        architecture: A,
        mut space: SearchSpace,
        pmim: bool,
        device: Device,
    ) -> Result<Self> {
        if pmim {
            pmim_modules::bind(&architecture, &mut space)?;
        }
        let (network, reconstruction, variables) =
            reshaping::assemble(&architecture, pmim, device)?;
        let shapes = variables.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        space.validate(&shapes)?;
        state::expect_free_names(&space, &shapes)?;
        let states = space.dimensions.iter().map(|d| DimensionState::new(d, device));
        let fade_out = vec![false; space.dimensions.len()];
        let built = trainable::learned(&variables);
        let own = built.clone();
        let gating = Gating::new(&space, &fade_out, &variables, own, Kind::Float, device)?;
        Ok(Self {
            cost: architecture.cost_model(),
            states: states.collect::<Result<_>>()?,
            gating,
            learned: Learned::new(device)?,
            active_sets: RefCell::new(None),
            mask_plan: RefCell::new(None),
            can_narrow: in_place::can_narrow(&architecture, &space)?,
            compute: Kind::Float,
            architecture,
            network,
            reconstruction,
            built,
            with_units: trainable::WithUnits::of(&space),
            variables,
            space,
            device,
        })
    }

    /// Creates a supernet for the state of a checkpoint; `dense` are the sizes of the dense
    /// network.
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

    /// Architecture at the present sizes.
    pub fn architecture(&self) -> &A {
        &self.architecture
    }

    /// The network, whose variables are θ ⊙ gates of the last [`materialise`](Self::materialise).
    pub fn network(&self) -> &A::Network {
        &self.network
    }

    /// Search space at the present sizes.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// Cost model; its `dense` sizes are those of the dense network.
    pub fn cost_model(&self) -> &CostModel {
        &self.cost
    }

    /// Sets the latency in the cost model.
    pub(crate) fn set_latency(&mut self, model: Option<&LatencyModel>) {
        self.cost.latency = model.map(|model| model.cost.clone());
    }

    /// State of every dimension, in the order of the search space.
    pub fn states(&self) -> &[DimensionState] {
        &self.states
    }

    /// State of every dimension, to set scores, α or active candidates.
    pub fn states_mut(&mut self) -> &mut [DimensionState] {
        &mut self.states
    }

    /// Sets the bi-mask component of all dimensions. Default: the paper's.
    pub fn set_bi_mask(&mut self, bi_mask: Arc<dyn BiMask>) {
        self.states.iter_mut().for_each(|state| state.bi_mask = Arc::clone(&bi_mask));
    }

    /// Returns the active candidates of all dimensions.
    ///
    /// # Errors
    /// [`Error::Torch`] if the device has no memory left.
    pub fn active_sets(&self) -> Result<Ref<'_, ActiveSets>> {
        let active: Vec<&ActiveSet> = self.states.iter().map(|state| &state.active).collect();
        let known = self.active_sets.borrow().as_ref().is_some_and(|own| own.are_of(&active));
        if !known {
            *self.active_sets.borrow_mut() = Some(ActiveSets::new(&active, self.device)?);
        }
        let sets = Ref::filter_map(self.active_sets.borrow(), Option::as_ref);
        sets.map_err(|_| Error::missing("active candidates", "all dimensions"))
    }

    /// Returns α of all dimensions.
    pub(crate) fn all_alphas(&self) -> Vec<&Tensor> {
        self.states.iter().map(|state| &state.alpha).collect()
    }

    /// Mask token and decoder of masked image modeling; `None` without it.
    pub fn reconstruction(&self) -> Option<&PmimModules> {
        self.reconstruction.as_ref()
    }

    /// Device of all tensors.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Present sizes of all dimensions, without units pruned in place.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = self.space.full_sizes();
        for state in &self.states {
            if let Some(fade_out) = state.fade_out.as_ref().filter(|fade_out| fade_out.in_place) {
                sizes.insert(state.name.clone(), fade_out.size);
            }
        }
        sizes
    }

    /// Whether every dimension is decided.
    pub fn is_decided(&self) -> bool {
        self.states.iter().all(|state| state.active.decided().is_some())
    }

    /// Returns the kind of a parameter of this name.
    pub(crate) fn kind_of(&self, name: &str) -> ParameterKind {
        if self.reconstruction.is_some() && pmim_modules::owns(name) {
            return ParameterKind::Reconstruction;
        }
        match self.variables.contains_key(name) {
            true => ParameterKind::Weight,
            false if self.learned.is_score(name) => ParameterKind::Score,
            false => ParameterKind::Alpha,
        }
    }

    /// Returns all trainable parameters: weights, scores, and α of undecided dimensions.
    pub fn parameters(&self) -> Vec<Parameter> {
        let weights = self.variables.iter().filter(|(_, leaf)| leaf.requires_grad());
        let weights = weights.map(|(name, leaf)| Parameter {
            name: name.clone(),
            kind: self.kind_of(name),
            value: self.gating.raw(name).unwrap_or(leaf).shallow_clone(),
            leaf: leaf.shallow_clone(),
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
}
