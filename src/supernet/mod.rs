//! The network under search: a plain model whose weights are θ ⊙ gates.
//!
//! A step is: [`Supernet::materialise`], the model's own forward and backward,
//! [`Supernet::pull_back`]. See design section 3 in docs/method.md.

mod expansion;
mod fade_out;
mod flat;
mod gates;
mod gating;
mod in_place;
mod narrowing;
mod parameters;
mod pmim_modules;
mod reshaping;
mod state;
mod weights;

pub use fade_out::FadeOut;
pub use narrowing::Narrowing;
pub use parameters::{Parameter, ParameterKind};
pub use pmim_modules::PmimModules;
pub use state::DimensionState;

use crate::components::{BiMask, Mask};
use crate::cost::CostModel;
use crate::models::{Architecture, Logits, Network};
use crate::space::{ActiveSet, SearchSpace, Sizes};
use crate::tensors::widened;
pub use crate::tensors::Weights;
use crate::{Error, Result};
use gating::Gating;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// A model under search.
#[derive(Debug)]
pub struct Supernet<A: Architecture> {
    architecture: A,
    network: A::Network,
    reconstruction: Option<PmimModules>,
    variables: Weights,
    space: SearchSpace,
    cost: CostModel,
    states: Vec<DimensionState>,
    gating: Gating,
    can_narrow: bool,
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
            pmim_modules::bind(&architecture, &mut space)?;
        }
        let (network, reconstruction, variables) =
            reshaping::assemble(&architecture, pmim, device)?;
        let shapes = variables.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        space.validate(&shapes)?;
        let states = space.dimensions.iter().map(|d| DimensionState::new(d, device));
        Ok(Self {
            cost: architecture.cost_model(),
            states: states.collect::<Result<_>>()?,
            gating: Gating::new(&space, &vec![false; space.dimensions.len()], &variables)?,
            can_narrow: in_place::can_narrow(&architecture, &space)?,
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

    /// The same, to change scores, α or active candidates.
    pub fn states_mut(&mut self) -> &mut [DimensionState] {
        &mut self.states
    }

    /// Replaces the bi-mask of all dimensions, by default the paper's.
    pub fn set_bi_mask(&mut self, bi_mask: Arc<dyn BiMask>) {
        self.states.iter_mut().for_each(|state| state.bi_mask = Arc::clone(&bi_mask));
    }

    /// Active candidates by dimension.
    pub fn active(&self) -> Vec<&ActiveSet> {
        self.states.iter().map(|state| &state.active).collect()
    }

    /// Mask token and decoder, while there is PMIM.
    pub fn reconstruction(&self) -> Option<&PmimModules> {
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
            if let Some(fade_out) = state.fade_out.as_ref().filter(|fade_out| fade_out.in_place) {
                sizes.insert(state.name.clone(), fade_out.size);
            }
        }
        sizes
    }

    /// Whether every dimension has a single candidate left.
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
        let hidden = reconstruction.masked_tokens(mask);
        let (logits, features) = self.network.forward_masked(images, &hidden, train)?;
        let painted = widened(&reconstruction.decode(&features)?)?;
        Ok(Output { logits: logits.widened()?, reconstruction: Some(painted) })
    }

    /// All trainable parameters, by name.
    pub fn parameters(&self) -> Vec<Parameter> {
        let weights =
            self.variables.iter().filter(|(_, leaf)| leaf.requires_grad()).map(|(name, leaf)| {
                let kind = if pmim_modules::owns(name) && self.reconstruction.is_some() {
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

    /// The space without what PMIM adds to it.
    pub(crate) fn declared_space(&self) -> SearchSpace {
        let mut space = self.space.clone();
        for dimension in &mut space.dimensions {
            dimension.bindings.retain(|binding| !pmim_modules::owns(&binding.variable));
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
}
