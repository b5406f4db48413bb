//! What a search is made of.

use super::events::Phase;
use super::init::initialise;
use super::latency::SearchLatency;
use super::options::SearchOptions;
use super::step::Search;
use crate::components::{
    AdaptiveOneHotLoss, BiMask, ComponentIds, Components, Importance, PmimRegularizer, Task,
    Teacher,
};
use crate::cost::Budget;
use crate::distributed::{Collective, SingleProcess};
use crate::error::During;
use crate::latency::{LatencyModel, Meter};
use crate::models::{expect_readable, Architecture};
use crate::randomness::{seed_torch, Purpose};
use crate::space::SearchSpace;
use crate::supernet::{Supernet, Weights};
use crate::{Error, Result};
use serde_json::Value;
use std::sync::Arc;
use tch::Device;

/// Builder of a [`Search`].
///
/// ```
/// use once_for_both::prelude::*;
///
/// # fn main() -> once_for_both::Result<()> {
/// let vit = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(10);
/// let search = Search::of(vit).budget(Budget::macs_share(0.5)).steps(60, 40).build()?;
/// assert_eq!(search.steps_done(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SearchBuilder<A: Architecture> {
    pub(super) architecture: A,
    pub(super) space: Option<SearchSpace>,
    weights: Option<Weights>,
    pub(super) budgets: Vec<Budget>,
    pub(super) options: Option<SearchOptions>,
    pub(super) components: Components,
    device: Device,
    group: Arc<dyn Collective>,
    pub(super) latency: Option<LatencyModel>,
    pub(super) meter: Option<Arc<dyn Meter<A>>>,
}

impl<A: Architecture> Search<A> {
    /// Begins to build a search of `architecture`.
    pub fn of(architecture: A) -> SearchBuilder<A> {
        SearchBuilder {
            architecture,
            space: None,
            weights: None,
            budgets: Vec::new(),
            options: None,
            components: Components::default(),
            device: Device::Cpu,
            group: Arc::new(SingleProcess),
            latency: None,
            meter: None,
        }
    }

    /// Begins to build plain training of `architecture` for `steps` optimiser steps: nothing is
    /// searched, nothing is pruned.
    pub fn training(architecture: A, steps: u64) -> SearchBuilder<A> {
        Self::of(architecture).options(SearchOptions::training(steps))
    }
}

impl<A: Architecture> SearchBuilder<A> {
    /// Weights to start from, by variable name. Default: freshly initialised ones.
    pub fn weights(mut self, weights: &Weights) -> Self {
        let own = weights.iter().map(|(name, weight)| (name.clone(), weight.shallow_clone()));
        self.weights = Some(own.collect());
        self
    }

    /// Search space. Default: [`Architecture::space`].
    pub fn space(mut self, space: SearchSpace) -> Self {
        self.space = Some(space);
        self
    }

    /// Adds a budget; all budgets hold together. A search needs at least one.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budgets.push(budget);
        self
    }

    /// Adds several budgets.
    pub fn budgets(mut self, budgets: impl IntoIterator<Item = Budget>) -> Self {
        self.budgets.extend(budgets);
        self
    }

    /// The default options for `total` optimiser steps of which the first `search` search; the rest
    /// is fine-tuning.
    pub fn steps(self, total: u64, search: u64) -> Self {
        self.options(SearchOptions::new(total, search))
    }

    /// The paper's options and components for so many steps.
    pub fn paper(self, total: u64, search: u64) -> Self {
        self.options(SearchOptions::paper(total, search)).components(Components::paper())
    }

    /// Options; they replace those of [`steps`](Self::steps).
    pub fn options(mut self, options: SearchOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// All components.
    pub fn components(mut self, components: Components) -> Self {
        self.components = components;
        self
    }

    /// Importance scores. Default: learned, starting from the weights' magnitude.
    pub fn importance(mut self, importance: impl Importance + 'static) -> Self {
        self.components.importance = Arc::new(importance);
        self
    }

    /// Bi-mask. Default: the paper's.
    pub fn bi_mask(mut self, bi_mask: impl BiMask + 'static) -> Self {
        self.components.bi_mask = Arc::new(bi_mask);
        self
    }

    /// Adaptive one-hot loss. Default: the paper's.
    pub fn one_hot(mut self, one_hot: impl AdaptiveOneHotLoss + 'static) -> Self {
        self.components.one_hot = Arc::new(one_hot);
        self
    }

    /// Masked image modeling. Default: the paper's.
    pub fn pmim(mut self, pmim: impl PmimRegularizer + 'static) -> Self {
        self.components.pmim = Arc::new(pmim);
        self
    }

    /// Task, which search and fine-tuning optimise. Default: classification.
    pub fn task(mut self, task: impl Task + 'static) -> Self {
        self.components.task = Arc::new(task);
        self
    }

    /// Distillation teacher, for [`TeacherSource::Component`](crate::components::TeacherSource) in `options.training.distillation`; with the
    /// default [`Distillation::dense`](crate::components::Distillation::dense) it has no effect. Default: none.
    pub fn teacher(mut self, teacher: impl Teacher + 'static) -> Self {
        self.components = self.components.with_teacher(teacher);
        self
    }

    /// Device of all tensors. Default: the CPU.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// The processes that train together, each with its [`Share`](crate::distributed::Share) of every
    /// batch. Default: this one alone.
    ///
    /// All ranks build the same search; one that was given something else is refused.
    pub fn distributed(mut self, group: Arc<dyn Collective>) -> Self {
        self.group = group;
        self
    }

    /// Builds the search, at step 0.
    ///
    /// # Errors
    /// Whatever would make it fail later: [`Error::Invalid`] for options out of range, a search
    /// without a budget or distillation without a teacher, and an architecture that is not read back from its JSON; [`Error::Infeasible`] or
    /// [`Error::Conflicting`] for budgets that the space cannot meet; [`Error::Latency`] for a latency
    /// model that is missing, of another architecture, or of other conditions than the meter; [`Error::Missing`], [`Error::Unknown`] or
    /// [`Error::Shape`] for weights, and those of [`SearchSpace::validate`] for bindings, that do
    /// not fit.
    pub fn build(self) -> Result<Search<A>> {
        let group = Arc::clone(&self.group);
        self.expect_alike()?;
        let search = group.agree(self.build_alone())?;
        search.expect_same_parameters()?;
        Ok(search)
    }

    fn build_alone(self) -> Result<Search<A>> {
        let (options, space, limits) = self.feasible()?;
        let origin = self.origin(&space)?;
        let Self { architecture, weights, components, device, group, latency, meter, .. } = self;
        let searching = !space.dimensions.is_empty();
        seed_torch(options.seed, 0, Purpose::Initialise);
        let pmim = searching && options.pmim.is_some();
        let mut supernet = Supernet::new(architecture.clone(), space, pmim, device)?;
        if let Some(weights) = &weights {
            supernet.load_weights(weights)?;
        }
        supernet.set_bi_mask(Arc::clone(&components.bi_mask));
        supernet.set_latency(latency.as_ref());
        initialise(&mut supernet, &options, &*components.importance, &limits)
            .during("preparing the search")?;
        let mut search = Search::assemble(supernet, limits, options, components, origin)?;
        search.phase = if searching { Phase::Search } else { Phase::Finetune };
        match &weights {
            Some(weights) => search.teach_by_dense(architecture, weights)?,
            None => search.expect_no_dense_target()?,
        }
        search.group = group;
        search.latency = latency.map(|model| SearchLatency { model, meter });
        Ok(search)
    }

    /// Returns architecture and search space as JSON, by which a resumed run recognises them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an architecture that is not read back from its JSON: no checkpoint of it could be resumed.
    pub(super) fn origin(&self, space: &SearchSpace) -> Result<Value> {
        expect_readable(&self.architecture)?;
        let json = |value: serde_json::Result<Value>| {
            value.map_err(|error| Error::invalid("architecture", "serialisable as JSON", error))
        };
        let architecture = json(serde_json::to_value(&self.architecture))?;
        let space = json(serde_json::to_value(space))?;
        Ok(serde_json::json!({ "architecture": architecture, "space": space }))
    }

    pub(super) fn group(&self) -> &Arc<dyn Collective> {
        &self.group
    }

    pub(super) fn given_budgets(&self) -> &[Budget] {
        &self.budgets
    }

    pub(super) fn component_ids(&self) -> ComponentIds {
        self.components.ids()
    }

    /// Components and device.
    pub(super) fn running_on(&self) -> (Components, Device) {
        (self.components.clone(), self.device)
    }

    pub(super) fn parts(self) -> (A, Vec<Budget>, Components, Device) {
        (self.architecture, self.budgets, self.components, self.device)
    }
}
