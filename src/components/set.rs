//! The set of components of a search, and their ids.

use super::{
    AdaptiveOneHotLoss, BiMask, Classification, ComponentId, Contrastive, EntropyVarianceLoss,
    FeatureMatching, Importance, PmimRegularizer, RankedBiMask, Task, Teacher, UnitImportance,
    WindowNorm, WindowedPixels,
};
use crate::models::Architecture;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::{Arc, Mutex};

/// The components of a search.
///
/// [`SearchBuilder`](crate::search::SearchBuilder) has a method to replace each of them.
///
/// ```
/// use once_for_both::components::{Components, UnitImportance};
/// use std::sync::Arc;
///
/// let taylor = UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.9 };
/// let components = Components { importance: Arc::new(taylor), ..Components::default() };
/// assert_eq!(components.ids().importance.name, "taylor");
/// ```
#[derive(Debug, Clone)]
pub struct Components {
    /// Importance scores.
    pub importance: Arc<dyn Importance>,
    /// Bi-mask of every dimension.
    pub bi_mask: Arc<dyn BiMask>,
    /// Adaptive one-hot loss of every undecided dimension.
    pub one_hot: Arc<dyn AdaptiveOneHotLoss>,
    /// Reconstruction target and loss of masked image modeling.
    pub pmim: Arc<dyn PmimRegularizer>,
    /// What search and fine-tuning optimise.
    pub task: Arc<dyn Task>,
    /// Distillation teacher, if there is one.
    pub teacher: Option<Arc<Mutex<dyn Teacher>>>,
}

/// The ids of all components of a search, as a checkpoint stores them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentIds {
    /// Importance scores.
    pub importance: ComponentId,
    /// Bi-mask.
    pub bi_mask: ComponentId,
    /// Adaptive one-hot loss.
    pub one_hot: ComponentId,
    /// Masked image modeling.
    pub pmim: ComponentId,
    /// Task.
    #[serde(default = "classification")]
    pub task: ComponentId,
    /// Distillation teacher.
    pub teacher: Option<ComponentId>,
}

impl ComponentIds {
    fn all(&self) -> impl Iterator<Item = &ComponentId> {
        let Self { importance, bi_mask, one_hot, pmim, task, teacher } = self;
        [importance, bi_mask, one_hot, pmim, task].into_iter().chain(teacher)
    }
}

/// The task of searches that were saved before there were others.
fn classification() -> ComponentId {
    Classification.id()
}

impl Default for Components {
    /// Scores learned from the magnitude of the weights, and the paper's other components, with
    /// `delta` 1e-3 instead of 1e-4 in the one-hot loss.
    fn default() -> Self {
        Self {
            importance: Arc::new(UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 }),
            one_hot: Arc::new(EntropyVarianceLoss { delta: 1e-3, ..EntropyVarianceLoss::paper() }),
            ..Self::paper()
        }
    }
}

impl Components {
    /// The paper's components: scores learned from random initial values, bi-mask, one-hot loss and
    /// reconstruction of window-normalised pixels (sections 3.2 to 3.4); classification; no teacher.
    pub fn paper() -> Self {
        Self {
            importance: Arc::new(UnitImportance::Learned),
            bi_mask: Arc::new(RankedBiMask),
            one_hot: Arc::new(EntropyVarianceLoss::paper()),
            pmim: Arc::new(WindowedPixels::paper()),
            task: Arc::new(Classification),
            teacher: None,
        }
    }

    /// Replaces the teacher.
    pub fn with_teacher(mut self, teacher: impl Teacher + 'static) -> Self {
        self.teacher = Some(Arc::new(Mutex::new(teacher)));
        self
    }

    /// Returns the ids of all components.
    pub fn ids(&self) -> ComponentIds {
        ComponentIds {
            importance: self.importance.id(),
            bi_mask: self.bi_mask.id(),
            one_hot: self.one_hot.id(),
            pmim: self.pmim.id(),
            task: self.task.id(),
            teacher: self.teacher.as_ref().map(|teacher| lock_teacher(teacher).id()),
        }
    }

    /// Checks names and parameters of all components, and the tokens that the task compares.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter; [`Error::Component`] for a component of another type with the
    /// name of one of this crate.
    pub(crate) fn check<A: Architecture>(&self, architecture: &A) -> Result<()> {
        self.expect_own_names()?;
        if let Some(tokens) = architecture.output_tokens() {
            self.task.check_tokens(tokens)?;
        }
        self.importance.check()?;
        self.one_hot.check()?;
        self.task.check()
    }

    /// Refuses names of this crate's components for those of another type, which a resume by the ids alone
    /// would replace.
    pub(crate) fn expect_own_names(&self) -> Result<()> {
        let [importance, bi_mask]: [&dyn Any; 2] = [&*self.importance, &*self.bi_mask];
        let [one_hot, pmim, task]: [&dyn Any; 3] = [&*self.one_hot, &*self.pmim, &*self.task];
        let ready = task.is::<Classification>() || task.is::<FeatureMatching>();
        let own = [
            importance.is::<UnitImportance>(),
            bi_mask.is::<RankedBiMask>(),
            one_hot.is::<EntropyVarianceLoss>(),
            pmim.is::<WindowedPixels>(),
            ready || task.is::<Contrastive>(),
        ];
        let ids = self.ids();
        if let Some(id) = ids.all().find(|id| id.parameters.contains_key("name")) {
            let expected = "another name: a checkpoint has the component's own under this one";
            return Err(Error::invalid(
                format!("parameter of the component {}", id.name),
                expected,
                "name",
            ));
        }
        let ids = [&ids.importance, &ids.bi_mask, &ids.one_hot, &ids.pmim, &ids.task];
        let names = names();
        for (((component, names), id), own) in names.iter().zip(ids).zip(own) {
            if !own && names.contains(&id.name.as_str()) {
                let expected = "another name: this one is that of a component of this crate";
                return Err(unknown(component, id, expected));
            }
        }
        Ok(())
    }

    /// Builds the components with these ids, if all of them are this crate's.
    ///
    /// # Errors
    /// [`Error::Component`] if an id is not that of a component of this crate with its parameters, or if
    /// there is a teacher; build such a search with the component given to the builder.
    pub fn from_ids(ids: &ComponentIds) -> Result<Self> {
        let own = Self::from_partial(ids)?;
        own.expect(ids)?;
        Ok(own)
    }

    /// [`from_ids`](Self::from_ids), but parameters that a component does not have are left out, and those
    /// that have a default may be missing.
    pub(crate) fn from_partial(ids: &ComponentIds) -> Result<Self> {
        if let Some(teacher) = &ids.teacher {
            return Err(unknown("teacher", teacher, "none"));
        }
        if ids.bi_mask != RankedBiMask.id() {
            return Err(unknown("bi_mask", &ids.bi_mask, "ranked"));
        }
        let importance: UnitImportance = built_in("importance", &ids.importance)?;
        importance.check()?;
        for (component, id, name) in [
            ("one_hot", &ids.one_hot, EntropyVarianceLoss::NAME),
            ("pmim", &ids.pmim, WindowedPixels::NAME),
        ] {
            if id.name != name {
                return Err(unknown(component, id, name));
            }
        }
        let one_hot: EntropyVarianceLoss = built_in("one_hot", &ids.one_hot)?;
        one_hot.check()?;
        let pmim: WindowedPixels = built_in("pmim", &ids.pmim)?;
        WindowNorm::new(pmim.window())?;
        Ok(Self {
            importance: Arc::new(importance),
            one_hot: Arc::new(one_hot),
            pmim: Arc::new(pmim),
            task: built_in_task(&ids.task)?,
            ..Self::paper()
        })
    }

    /// Checks that the components have the ids in `saved`.
    ///
    /// # Errors
    /// [`Error::Component`] naming the first that differs, and both ids.
    pub(crate) fn expect(&self, saved: &ComponentIds) -> Result<()> {
        let own = self.ids();
        for (component, actual, expected) in [
            ("importance", &own.importance, &saved.importance),
            ("bi_mask", &own.bi_mask, &saved.bi_mask),
            ("one_hot", &own.one_hot, &saved.one_hot),
            ("pmim", &own.pmim, &saved.pmim),
            ("task", &own.task, &saved.task),
        ] {
            if actual != expected {
                let (actual, expected) = (actual.to_string(), expected.to_string());
                return Err(Error::Component { component, expected, actual });
            }
        }
        let same = match (&own.teacher, &saved.teacher) {
            (Some(own), Some(saved)) => own.is_teacher(saved),
            (own, saved) => own == saved,
        };
        if !same {
            let words = |id: &Option<ComponentId>| {
                id.as_ref().map_or_else(|| "no teacher".into(), ComponentId::to_string)
            };
            let (actual, expected) = (words(&own.teacher), words(&saved.teacher));
            return Err(Error::Component { component: "teacher", expected, actual });
        }
        Ok(())
    }
}

/// Returns the names of this crate's components, of every kind that a checkpoint may name.
fn names() -> [(&'static str, Vec<&'static str>); 5] {
    let tasks = vec![Classification::NAME, FeatureMatching::NAME, Contrastive::NAME];
    [
        ("importance", UnitImportance::NAMES.to_vec()),
        ("bi_mask", vec![RankedBiMask::NAME]),
        ("one_hot", vec![EntropyVarianceLoss::NAME]),
        ("pmim", vec![WindowedPixels::NAME]),
        ("task", tasks),
    ]
}

/// Locks the teacher; a lock poisoned by a panic in another thread is recovered.
pub(crate) fn lock_teacher<'a>(
    teacher: &'a Mutex<dyn Teacher + 'static>,
) -> std::sync::MutexGuard<'a, dyn Teacher + 'static> {
    teacher.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns the task with an id, if the id says all about it.
fn built_in_task(id: &ComponentId) -> Result<Arc<dyn Task>> {
    let task: Arc<dyn Task> = match id.name.as_str() {
        Classification::NAME if *id == Classification.id() => Arc::new(Classification),
        FeatureMatching::NAME => Arc::new(built_in::<FeatureMatching>("task", id)?),
        _ => {
            let known = format!(
                "{} or {}; give any other to the builder (build_or_resume) or to \
                 Search::resume_with",
                Classification::NAME,
                FeatureMatching::NAME
            );
            return Err(unknown("task", id, &known));
        }
    };
    task.check()?;
    Ok(task)
}

fn built_in<T: serde::de::DeserializeOwned>(
    component: &'static str,
    id: &ComponentId,
) -> Result<T> {
    let value = serde_json::to_value(id);
    value.and_then(serde_json::from_value).map_err(|_| {
        let expected =
            "a component of this crate with its parameters; give one of your own to the \
                            builder (build_or_resume) or to Search::resume_with";
        unknown(component, id, expected)
    })
}

fn unknown(component: &'static str, id: &ComponentId, expected: &str) -> Error {
    Error::Component { component, expected: expected.into(), actual: id.to_string() }
}
