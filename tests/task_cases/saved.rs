//! Tasks in checkpoints, runs and artifacts.

use super::{contrastive, invalid, own_task, search_of, texts, tower};
use crate::assert_refused;
use crate::support::tiny_run::{alone, batch};
use crate::support::{test_device, tiny_run, TestResult};
use once_for_both::components::{
    Classification, ComponentId, Components, Contrastive, ContrastiveLoss, FeatureMatching,
    Importance, Task, UnitImportance,
};
use once_for_both::models::VitConfig;
use once_for_both::search::{Checkpoints, Search, SearchOptions};
use once_for_both::space::Dimension;
use once_for_both::subnet::{Export, Subnet};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

#[test]
fn run_and_artifact_store_the_task_and_another_is_refused() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let tower = tower()?;
    let options = || SearchOptions::new(4, 3).seed(1);
    let of = |task: Contrastive| search_of(&tower, task, options());
    let mut search = of(contrastive(ContrastiveLoss::Softmax)?).build()?;
    let mut source = |step| batch(step).map_err(|_| invalid("batch"));
    search.run_in(folder.path())?.train(&mut source)?;
    let resumed = of(contrastive(ContrastiveLoss::Softmax)?).build_or_resume(folder.path())?;
    assert_eq!(resumed.search.steps_done(), 4);
    let others = [
        Contrastive::new(&texts()?.f_add_scalar(1e-3)?, 0.5, ContrastiveLoss::Softmax)?,
        Contrastive::new(&texts()?, 0.4, ContrastiveLoss::Softmax)?,
        contrastive(ContrastiveLoss::Sigmoid { bias: 0.0 })?,
    ];
    for other in others {
        assert_refused!(
            of(other).build_or_resume(folder.path()),
            Error::Component { component: "task", .. }
        );
    }
    // The text embeddings are in no file: the id alone does not make the task.
    let ids = search.components().ids();
    assert_refused!(Components::from_ids(&ids), Error::Component { component: "task", .. });
    let artifact = folder.path().join("subnet");
    let subnet = search.extract(&batch(0)?.images)?;
    subnet.save(&artifact, &Export::default())?;
    let text = std::fs::read_to_string(artifact.join("config.json"))?;
    assert!(text.contains("\"contrastive\""), "{text}");
    Subnet::<VitConfig>::load(&artifact, test_device())?;
    Ok(())
}

#[test]
fn ids_of_tasks_without_tensors_make_the_task_again() -> TestResult {
    let task = FeatureMatching { class_token: false, registers: 4, class_share: 0.3, probe: 0.0 };
    let own = Components { task: std::sync::Arc::new(task), ..Components::default() };
    let json = serde_json::to_string(&own.ids())?;
    assert_eq!(Components::from_ids(&serde_json::from_str(&json)?)?.ids(), own.ids());
    // Files from before there were tasks.
    let mut old = serde_json::to_value(Components::default().ids())?;
    old.as_object_mut().ok_or("no object")?.remove("task");
    let old = Components::from_ids(&serde_json::from_value(old)?)?;
    assert_eq!(old.ids().task, Classification.id());
    let mut wrong = own.ids();
    wrong.task.parameters.insert("probe".into(), 2.0.into());
    assert_refused!(Components::from_ids(&wrong), Error::Invalid { ref name, .. }
        if name == "task.probe");
    Ok(())
}

#[test]
fn contrastive_search_resumed_without_its_embeddings_is_refused_with_what_to_do() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let task = contrastive(ContrastiveLoss::Softmax)?;
    let search = search_of(&tower()?, task, SearchOptions::new(8, 4)).build()?;
    let path = Checkpoints::new(folder.path(), 1).save(&search)?;
    let refused = Search::<VitConfig>::resume(&path, test_device());
    assert_refused!(refused, Error::Component { component: "task", ref expected, .. }
        if expected.contains("Search::resume_with"));
    let own = std::sync::Arc::new(contrastive(ContrastiveLoss::Softmax)?);
    let components = Components { task: own, ..Components::default() };
    Search::<VitConfig>::resume_with(&components, &path, test_device())?;
    Ok(())
}

#[test]
fn ids_with_other_parameters_than_those_of_the_component_are_refused() -> TestResult {
    let mut ids = Components::default().ids();
    ids.importance.parameters.insert("temperature".into(), 2.0.into());
    assert_refused!(Components::from_ids(&ids), Error::Component { component: "importance", ref actual, .. }
        if !actual.contains("temperature"));
    Ok(())
}

/// A component of one's own with the name of one of the crate.
#[derive(Debug)]
struct Impostor(&'static str);

impl Importance for Impostor {
    fn id(&self) -> ComponentId {
        ComponentId::new(self.0)
    }

    fn initial(&self, dimension: &Dimension, _: &Weights) -> once_for_both::Result<Tensor> {
        Ok(Tensor::f_zeros(dimension.candidates.unit_shape(), (Kind::Float, Device::Cpu))?)
    }
}

#[test]
fn component_of_ones_own_with_a_name_of_the_crate_is_refused() -> TestResult {
    let _alone = alone();
    let builder = || tiny_run::builder(tiny_run::options(), 0.5);
    for name in ["classification", "feature_matching", "contrastive"] {
        assert_refused!(builder().task(own_task(name)).build(),
            Error::Component { component: "task", ref actual, .. } if actual == name);
    }
    for name in ["learned", "learned_from_magnitude", "magnitude", "taylor", "random"] {
        assert_refused!(builder().importance(Impostor(name)).build(),
            Error::Component { component: "importance", ref actual, .. } if actual == name);
    }
    builder().importance(Impostor("mine")).build()?;
    // A checkpoint of the crate's component is not resumed with another one of the name.
    let folder = tempfile::tempdir()?;
    let options = tiny_run::options().with(|o| o.training.distillation = None);
    let search = tiny_run::builder(options, 0.5).importance(UnitImportance::Learned).build()?;
    let checkpoint = Checkpoints::new(folder.path(), 1).save(&search)?;
    let others =
        Components { importance: Arc::new(Impostor("learned")), ..search.components().clone() };
    assert_refused!(
        Search::<VitConfig>::resume_with(&others, &checkpoint, test_device()),
        Error::Component { component: "importance", .. }
    );
    Search::<VitConfig>::resume(&checkpoint, test_device())?;
    Ok(())
}
