//! Networks from disk: run folders, artifacts, and checkpoints of other programs.

use super::config::TeacherConfig;
use super::families::{family_in, KnownFamily};
use super::{Family, Feed, Progress, RunFolder};
use crate::components::Teacher;
use crate::error::PipelineError;
use crate::import::{
    self, Import, ImportError, ImportOptions, ImportReport, KnownNetwork, Pretrained, Recognised,
};
use crate::models::{Architecture, SwinConfig, VitConfig};
use crate::report::StageSizes;
use crate::subnet::{Subnet, SubnetTeacher, ARTIFACT};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tch::Device;

/// A teacher, as [`Components`](crate::components::Components) has it.
pub(super) type SharedTeacher = Arc<Mutex<dyn Teacher>>;

/// An architecture that a pipeline trains: it classifies images of one shape.
pub trait ImageClassifier: Pretrained + 'static {
    /// Returns the shape of an image, `[C, H, W]`.
    fn image_shape(&self) -> [i64; 3];

    /// Returns the number of classes.
    fn class_count(&self) -> i64;

    /// Returns the sizes of the blocks, stage by stage, as a report draws them; none for a network that it cannot
    /// draw.
    fn drawn_stages(&self) -> Vec<StageSizes> {
        Vec::new()
    }
}

impl ImageClassifier for VitConfig {
    fn image_shape(&self) -> [i64; 3] {
        self.input_shape()
    }

    fn class_count(&self) -> i64 {
        self.classes
    }

    fn drawn_stages(&self) -> Vec<StageSizes> {
        vec![StageSizes::of_vit(self)]
    }
}

impl ImageClassifier for SwinConfig {
    fn image_shape(&self) -> [i64; 3] {
        [self.in_channels, self.image_size, self.image_size]
    }

    fn class_count(&self) -> i64 {
        self.classes
    }

    fn drawn_stages(&self) -> Vec<StageSizes> {
        StageSizes::of_swin(self)
    }
}

/// A network from disk.
pub(super) struct Loaded<A: ImageClassifier> {
    pub(super) network: Subnet<A>,
    /// Variables that were initialised afresh, because its checkpoint has none, or has them for other classes.
    pub(super) untrained: Vec<String>,
}

impl<A: ImageClassifier> Loaded<A> {
    /// Refuses a network with untrained variables. `name` is its name, `because` the reason.
    pub(super) fn expect_trained(&self, name: &str, because: &'static str) -> Result<()> {
        if self.untrained.is_empty() {
            return Ok(());
        }
        let (network, variables) = (name.into(), self.untrained.clone());
        Err(PipelineError::Untrained { network, variables, because }.into())
    }
}

/// Loads a network: the newest of a run folder, an artifact, or a checkpoint that is fitted to
/// `dense`.
pub(super) fn load<A: ImageClassifier>(
    path: &Path,
    dense: &A,
    options: &ImportOptions,
    device: Device,
    progress: &dyn Fn(&Progress<'_>),
) -> Result<Loaded<A>> {
    if !import::is_checkpoint(path) {
        let network = Subnet::load(&artifact_at(path)?, device)?;
        return Ok(Loaded { network, untrained: Vec::new() });
    }
    let unfit = |error| unfit("weights", path, "import.entry, import.prefix, import.skip", error);
    let Import { weights, report } = import::load(path, dense, options).map_err(unfit)?;
    progress(&Progress::Imported { path, report: &report });
    let network = Subnet::new(dense.clone(), &weights, device)?;
    let replaced = report.replaced.into_iter().map(|own| own.name);
    Ok(Loaded { network, untrained: replaced.chain(report.missing).collect() })
}

fn artifact_at(path: &Path) -> Result<PathBuf> {
    RunFolder::new(path).artifact().ok_or_else(|| {
        let reason = match path.exists() {
            true => "got a folder without a network",
            false => "is not there",
        };
        let expected = "expected a run folder, an artifact, a checkpoint or hub:OWNER/NAME";
        Error::file(path, format!("{reason}; {expected}"))
    })
}

/// Returns the family of the network in a run folder or artifact, such as `vit`; `None` for a path
/// without an artifact, such as a checkpoint, and for an artifact without its `config.json`.
///
/// # Errors
/// [`Error::Io`] or [`Error::File`] if its description cannot be read.
pub fn stored_family(path: &Path) -> Result<Option<String>> {
    match RunFolder::new(path).artifact() {
        Some(folder) => family_in(&folder.join(ARTIFACT.mark.0)),
        None => Ok(None),
    }
}

/// Returns the family of the classifier in a run folder or artifact, if it is one of this crate; `None` for a path without
/// artifact and plan, such as a checkpoint.
///
/// # Errors
/// [`PipelineError::UnknownFamily`] for another family; [`Error::Io`] or [`Error::File`] if its description cannot be
/// read.
pub fn classifier_family(path: &Path) -> Result<Option<Family>> {
    let run = RunFolder::new(path);
    let artifact = run.artifact().map(|folder| folder.join(ARTIFACT.mark.0));
    let Some(file) = artifact.or_else(|| run.plans().into_iter().find(|path| path.is_file()))
    else {
        return Ok(None);
    };
    Ok(match family_in(&file)?.as_deref() {
        None => None,
        Some(VitConfig::FAMILY) => Some(Family::Vit),
        Some(SwinConfig::FAMILY) => Some(Family::Swin),
        Some(other) => {
            let (known, family) = (vec![VitConfig::FAMILY, SwinConfig::FAMILY], other.into());
            let advice = "use the library with the Architecture of that family";
            return Err(PipelineError::UnknownFamily { path: file, family, known, advice }.into());
        }
    })
}

/// Loads a teacher as it is: from a run folder or artifact of family `A`, ViT or Swin, or from a
/// checkpoint of a ViT or Swin, of which the report says what was assumed.
pub(super) fn load_teacher<A: ImageClassifier>(
    config: &TeacherConfig,
    feed: &Feed,
) -> Result<(SharedTeacher, Option<ImportReport>)> {
    let path = &config.weights;
    if import::is_checkpoint(path) {
        return teacher_of_checkpoint(config, feed).map(|(own, report)| (own, Some(report)));
    }
    let name = path.display().to_string();
    let (folder, device) = (artifact_at(path)?, feed.device());
    let advice = "give a teacher of one of these";
    let own = match KnownFamily::of::<A>(&folder.join(ARTIFACT.mark.0), advice)? {
        KnownFamily::Own => teacher(name, Subnet::<A>::load(&folder, device)?, feed),
        KnownFamily::Vit => teacher(name, Subnet::<VitConfig>::load(&folder, device)?, feed),
        KnownFamily::Swin => teacher(name, Subnet::<SwinConfig>::load(&folder, device)?, feed),
    };
    Ok((own?, None))
}

fn teacher_of_checkpoint(
    config: &TeacherConfig,
    feed: &Feed,
) -> Result<(SharedTeacher, ImportReport)> {
    let (name, device) = (config.weights.display().to_string(), feed.device());
    let Recognised { network, import, .. } = recognise_teacher(config)?;
    let own = match network {
        KnownNetwork::Vit(own) => teacher(name, Subnet::new(own, &import.weights, device)?, feed),
        KnownNetwork::Swin(own) => teacher(name, Subnet::new(own, &import.weights, device)?, feed),
    };
    Ok((own?, import.report))
}

/// Every tensor with the prefix has its place: what is left out would make another teacher.
fn recognise_teacher(config: &TeacherConfig) -> Result<Recognised> {
    let TeacherConfig { weights: path, entry, prefix, heads, .. } = config;
    let (entry, prefix) = (entry.clone(), prefix.clone());
    let options = ImportOptions { entry, prefix, ..ImportOptions::default() };
    let recognised = import::recognise_file(path, &options, *heads);
    let whole = recognised.and_then(|own| expect_whole(path, &own.import.report).map(|()| own));
    whole.map_err(|error| {
        unfit("teacher", path, "teacher.entry, teacher.prefix, teacher.heads", error)
    })
}

/// Refuses a teacher with variables that were initialised afresh, or without tensors of its checkpoint.
fn expect_whole(path: &Path, report: &ImportReport) -> Result<()> {
    if !report.missing.is_empty() {
        let (network, variables) = (format!("teacher {}", path.display()), report.missing.clone());
        let because =
            "it teaches as it is; train it first (command train), or give another teacher";
        return Err(PipelineError::Untrained { network, variables, because }.into());
    }
    // Tensors outside of the prefix are of other networks.
    match report.skipped.iter().find(|name| name.starts_with(&report.prefix)) {
        Some(name) => Err(ImportError::Unplaced { name: name.clone(), part: None }.into()),
        None => Ok(()),
    }
}

/// Adds the path and the network's options to an error of an import that names neither.
fn unfit(network: &'static str, path: &Path, options: &'static str, error: Error) -> Error {
    match error {
        Error::Import(_) | Error::Invalid { .. } | Error::Shape { .. } => {
            let (path, source) = (path.into(), Box::new(error));
            PipelineError::Weights { network, path, options, source }.into()
        }
        other => other,
    }
}

fn teacher<A: ImageClassifier>(
    name: String,
    network: Subnet<A>,
    feed: &Feed,
) -> Result<SharedTeacher> {
    expect_fits(network.architecture(), feed, "teacher")?;
    Ok(Arc::new(Mutex::new(SubnetTeacher::new(name, network).with_checksum()?)))
}

/// Refuses a network for other images or classes than those of the data. `name` is what the error calls it.
///
/// # Errors
/// [`PipelineError::Misfit`] with both shapes, or both numbers of classes.
pub fn expect_fits<A: ImageClassifier>(
    network: &A,
    feed: &Feed,
    name: &str,
) -> Result<(), PipelineError> {
    let misfit = |given, expected| PipelineError::Misfit { network: name.into(), given, expected };
    let (given, expected) = (network.image_shape(), feed.image_shape());
    if given != expected {
        let images = |shape: [i64; 3]| format!("images of {shape:?}");
        return Err(misfit(images(given), images(expected)));
    }
    let (given, expected) = (network.class_count(), feed.classes());
    if given != expected {
        let classes = |count: i64| format!("{count} classes");
        return Err(misfit(classes(given), classes(expected)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::in_words;
    use crate::import::Assumption;
    use crate::models::{Activation, Pooling};

    /// A mask token would make no other teacher.
    #[test]
    fn teacher_of_a_checkpoint_with_a_mask_token_is_taken() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/family");
        let teacher = TeacherConfig::new(root.join("hf_dinov2/model.safetensors"));
        let report = recognise_teacher(&teacher)?.import.report;
        assert_eq!(report.unused, ["dinov2.embeddings.mask_token"]);
        Ok(())
    }

    /// Its features have no classifier.
    #[test]
    fn teacher_of_a_checkpoint_without_a_head_is_refused_by_its_path() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/family");
        let teacher = TeacherConfig::new(root.join("hf_dinov2_backbone/model.safetensors"));
        let teacher = TeacherConfig { heads: Some(3), ..teacher };
        let refused = recognise_teacher(&teacher).map(drop).map_err(|error| in_words(&error));
        let named = format!("teacher {}: got a checkpoint without", teacher.weights.display());
        let is_named = |own: &String| own.contains(&named) && own.contains("head.weight");
        assert!(
            refused.as_ref().is_err_and(|own| is_named(own) && !own.contains("strict")),
            "{refused:?}"
        );
    }

    /// Of two towers, each under a prefix of its own.
    #[test]
    fn teacher_of_a_checkpoint_with_two_networks_is_the_one_of_the_prefix() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
        let tower = tch::Tensor::read_safetensors(root.join("timm_plain.safetensors"))?;
        let both = ["student.", "teacher."].into_iter().flat_map(|prefix| {
            tower.iter().map(move |(name, own)| (format!("{prefix}{name}"), own.shallow_clone()))
        });
        let folder = tempfile::tempdir().map_err(|e| Error::file("temporary folder", e))?;
        let path = folder.path().join("model.safetensors");
        tch::Tensor::write_safetensors(&both.collect::<Vec<_>>(), &path)?;
        let teacher = TeacherConfig { heads: Some(3), ..TeacherConfig::new(&path) };
        let refused = recognise_teacher(&teacher).map(drop).map_err(|error| in_words(&error));
        let is_named = |own: &String| {
            own.starts_with(&format!("teacher: cannot use the checkpoint {}", path.display()))
                && own.contains("teacher.prefix")
        };
        assert!(refused.as_ref().is_err_and(is_named), "{refused:?}");
        let teacher = TeacherConfig { prefix: Some("teacher".into()), ..teacher };
        let report = recognise_teacher(&teacher)?.import.report;
        assert_eq!((&*report.prefix, report.skipped.len()), ("teacher.", tower.len()));
        Ok(())
    }

    /// No published network is as narrow as that of this checkpoint.
    #[test]
    fn teacher_of_a_checkpoint_has_the_heads_that_are_set_or_is_refused_with_the_option(
    ) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
        let teacher = TeacherConfig::new(root.join("timm_plain.safetensors"));
        let refused = recognise_teacher(&teacher).err().map(|error| in_words(&error));
        assert!(refused.as_ref().is_some_and(|own| own.contains("teacher.heads")), "{refused:?}");
        let teacher = TeacherConfig { heads: Some(3), ..teacher };
        let KnownNetwork::Vit(own) = recognise_teacher(&teacher)?.network else {
            panic!("not a ViT")
        };
        assert_eq!(own.blocks[0].heads, 3);
        Ok(())
    }

    /// In the file alone, activation and pooling would be exact GELU and the class token.
    #[test]
    fn teacher_of_a_checkpoint_has_the_properties_of_the_config_beside_it() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/family");
        let folder = tempfile::tempdir().map_err(|e| Error::file("temporary folder", e))?;
        let path = folder.path().join("model.safetensors");
        let weights = root.join("timm_avg_no_fc_norm/model.safetensors");
        std::fs::copy(&weights, &path).map_err(|e| Error::io("copy", &weights, e))?;
        let config = r#"{"architecture": "vit_tiny_patch16_224", "global_pool": "avg",
            "model_args": {"num_heads": 3, "act_layer": "relu", "fc_norm": false}}"#;
        let beside = folder.path().join("config.json");
        std::fs::write(&beside, config).map_err(|e| Error::io("write", &beside, e))?;
        let teacher = TeacherConfig::new(path);
        let Recognised { network, import, .. } = recognise_teacher(&teacher)?;
        let KnownNetwork::Vit(own) = network else { panic!("not a ViT") };
        assert_eq!((own.activation, own.pooling), (Activation::Relu, Pooling::Mean));
        assert_eq!(own.blocks[0].heads, 3);
        let from_file = |own: &&Assumption| own.source.as_deref() == Some("config.json");
        let known = import.report.assumed.iter().filter(from_file);
        let properties: Vec<&str> = known.map(|own| own.property.as_str()).collect();
        assert_eq!(properties, ["heads", "activation", "pooling"]);
        Ok(())
    }

    #[test]
    fn teacher_of_a_checkpoint_with_several_state_dicts_is_the_one_of_the_entry() -> Result<()> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/deit_training.pth");
        let own = |entry: &str| TeacherConfig {
            entry: Some(entry.into()),
            heads: Some(3),
            ..TeacherConfig::new(path.clone())
        };
        let found = recognise_teacher(&own("model"))?.import.report;
        let entry = |own: &ImportReport| own.source.as_ref().and_then(|own| own.entry.clone());
        assert_eq!(entry(&found).as_deref(), Some("model"));
        let refused = recognise_teacher(&own("students"));
        assert!(matches!(refused, Err(Error::Checkpoint { .. })));
        Ok(())
    }
}
