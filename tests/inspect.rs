//! Inspection of a path: what it is, and whether the library takes it.

mod support;

use once_for_both::models::VitConfig;
use once_for_both::pipeline::{
    inspect, Finding, InspectOptions, Inspection, PipelineOutcome, Request, RunFolder,
};
use once_for_both::search::{Checkpoints, Event};
use once_for_both::space::Size;
use once_for_both::subnet::Subnet;
use once_for_both::Error;
use std::fs;
use std::path::{Path, PathBuf};
use support::small_run::{pipeline, PRESET, SETTINGS};
use support::tiny_run::{alone, batch, options, search_with};
use support::TestResult;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A copy of the artifact in the repository, which is of version 1.
fn copy_of_artifact() -> TestResult<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(file("examples/pretrained/fashion-mnist"))? {
        let path = entry?.path();
        fs::copy(&path, copy.path().join(path.file_name().ok_or("no name")?))?;
    }
    Ok(copy)
}

fn look(path: &Path) -> once_for_both::Result<Inspection> {
    inspect(path, &InspectOptions::default())
}

#[test]
fn run_folder_with_a_damaged_checkpoint_is_not_accepted_and_the_checkpoint_is_named() -> TestResult
{
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::new(folder.path().join("checkpoints"), 2);
    let mut search = search_with(options(), 0.5)?;
    for step in 0..2 {
        search.step(&[batch(step)?], &mut ())?;
        checkpoints.save(&search)?;
    }
    let found = look(folder.path())?;
    assert!(found.is_accepted(), "{found}");
    let Inspection::Run(run) = &found else { panic!("a run was taken for {found}") };
    assert_eq!(run.checkpoints.len(), 2);
    assert!(run.in_use.is_none(), "its own process does not count");

    let newest = checkpoints.newest()?.ok_or("no checkpoint")?;
    let single = look(&newest)?;
    assert!(single.to_string().contains("2 of"), "{single}");
    let tensors = newest.join("tensors.safetensors");
    let mut bytes = fs::read(&tensors)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&tensors, bytes)?;
    let found = look(folder.path())?;
    assert!(!found.is_accepted());
    assert!(found.to_string().contains("REFUSED       checkpoints/step-00000002: "), "{found}");
    assert!(look(&newest).is_err());
    Ok(())
}

#[test]
fn artifact_is_loaded_and_one_with_a_changed_weight_is_refused() -> TestResult {
    let found = look(&file("examples/pretrained/fashion-mnist"))?;
    let json = serde_json::to_value(&found)?;
    assert_eq!((&json["kind"], &json["family"]), (&"artifact".into(), &"vit".into()));
    assert_eq!(json["sizes"]["embed"]["channels"], 96);
    assert!(found.to_string().contains("checksums     right"), "{found}");

    let copy = copy_of_artifact()?;
    let weights = copy.path().join("model.safetensors");
    let mut bytes = fs::read(&weights)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes)?;
    assert!(matches!(look(copy.path()), Err(Error::Artifact { .. } | Error::Checksum { .. })));
    fs::write(copy.path().join("config.json"), "{")?;
    let refused = look(copy.path()).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|error| error.contains("config.json")));
    Ok(())
}

#[test]
fn run_folder_with_a_reference_lists_its_network() -> TestResult {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("config.toml"), "")?;
    let network = folder.path().join("reference/network");
    fs::create_dir_all(&network)?;
    for entry in fs::read_dir(file("examples/pretrained/fashion-mnist"))? {
        let path = entry?.path();
        fs::copy(&path, network.join(path.file_name().ok_or("no name")?))?;
    }
    let found = look(folder.path())?;
    let Inspection::Run(run) = &found else { panic!("a run was taken for {found}") };
    let paths: Vec<&str> = run.networks.iter().map(|network| network.path.as_str()).collect();
    assert_eq!(paths, ["reference/network"]);
    assert!(matches!(run.networks[0].found, Finding::Accepted(_)), "{found}");
    Ok(())
}

#[test]
fn run_with_rotary_positions_counts_channels_in_summary_decisions_and_inspection() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let own = ["rope.normalised.base=100.0", "registers=2", "pooling=mean_norm"];
    let own = own.map(|option| format!("network.{option}"));
    let settings = SETTINGS.map(String::from).into_iter().chain(own).collect();
    let request = Request { default_preset: PRESET.into(), settings, ..Request::default() };
    let config = Request { run: Some(run.clone()), ..request }.resolve()?;
    let PipelineOutcome::Finished { summary: Some(summary), .. } = pipeline(config, &run)?.run()?
    else {
        return Err("no summary".into());
    };
    let artifact = RunFolder::new(&run).subnet();
    let subnet = Subnet::<VitConfig>::load(&artifact, support::test_device())?;
    let [first, _] = subnet.architecture().blocks[..] else { return Err("two blocks".into()) };
    let kept = Size { heads: first.heads, channels: first.head_dim };
    let attention = summary.sizes.iter().find(|own| own.dimension == "blocks.0.attn");
    let attention = attention.ok_or("no attention")?;
    assert_eq!((attention.dense, attention.subnet), (Size { heads: 2, channels: 16 }, kept));

    let decided = fs::read_to_string(run.join("metrics.jsonl"))?.lines().find_map(|line| {
        match serde_json::from_str(line) {
            Ok(Event::Decided { dimension, heads, channels, .. })
                if dimension == "blocks.0.attn" =>
            {
                Some(Size { heads, channels })
            }
            _ => None,
        }
    });
    assert_eq!(decided, Some(kept));
    let told = look(&run)?.to_string();
    let size = format!("blocks.0.attn {kept},");
    let input = "input         28 × 28 pixels, 1 channel, patches of 14 × 14; 10 classes";
    for part in [
        size.as_str(),
        input,
        "option        registers = 2",
        "option        pooling = \"mean_norm\"",
        "option        rope = { normalised = { base = 100.0 } }",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    let newest = Checkpoints::new(run.join("checkpoints"), 2).newest()?.ok_or("no checkpoint")?;
    let told = look(&newest)?.to_string();
    assert!(told.contains(&size), "{told}");
    Ok(())
}

#[test]
fn weights_are_shown_with_naming_entry_prefix_and_assumptions() -> TestResult {
    let options = InspectOptions { heads: Some(2), ..InspectOptions::default() };
    let found = inspect(&file("tests/data/import/timm_distilled.safetensors"), &options)?;
    let json = serde_json::to_value(&found)?;
    assert_eq!((&json["kind"], &json["report"]["naming"]), (&"weights".into(), &"timm".into()));
    assert_eq!(json["report"]["source"]["container"], "safetensors");
    let text = found.to_string();
    for part in ["naming        timm", "prefix        none", "raw weights", "assumed       heads"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn weights_of_another_kind_are_refused_as_the_import_refuses_them() -> TestResult {
    let path = file("tests/data/import/whole_module.pth");
    let own = once_for_both::import::read(&path).map(drop).map_err(|error| error.to_string());
    let found = look(&path).map(drop).map_err(|error| error.to_string());
    assert!(own.is_err());
    assert_eq!(own, found);
    Ok(())
}

#[test]
fn data_folder_with_a_bad_image_is_not_accepted_and_the_image_is_named() -> TestResult {
    assert!(look(&file("examples/data"))?.is_accepted());
    let folder = tempfile::tempdir()?;
    let class = folder.path().join("cats");
    fs::create_dir(&class)?;
    fs::write(class.join("torn.jpg"), [0xff, 0xd8, 0xff])?;
    let found = look(folder.path())?;
    assert!(!found.is_accepted());
    assert!(found.to_string().contains("torn.jpg"), "{found}");
    let single = look(&class.join("torn.jpg"))?;
    assert!(!single.is_accepted() && single.to_string().starts_with("kind          image\n"));
    Ok(())
}

#[test]
fn tar_shards_are_decoded_and_every_torn_one_is_named() -> TestResult {
    let found = look(&file("tests/data/shards/webdataset-{000000..000001}.tar"))?;
    assert!(found.is_accepted());
    let text = found.to_string();
    for part in ["tar shards (WebDataset)", "images        5", "classes       5", "45 × 34: 5"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let folder = tempfile::tempdir()?;
    let whole = fs::read(file("tests/data/shards/gnu.tar"))?;
    for (name, length) in [("0.tar", whole.len()), ("1.tar", 7000), ("2.tar", 700)] {
        fs::write(folder.path().join(name), &whole[..length])?;
    }
    let found = look(&folder.path().join("{0..3}.tar"))?;
    let json = serde_json::to_value(&found)?;
    let set = &json["sets"][0];
    assert_eq!((&set["images"], set["faults"].as_array().map(Vec::len)), (&4.into(), Some(3)));
    let text = found.to_string();
    for part in ["1.tar", "2.tar", "the shard is truncated", "3.tar", "cannot read"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let torn = look(&folder.path().join("1.tar"))?;
    assert!(!torn.is_accepted() && torn.to_string().contains("the shard is truncated"), "{torn}");
    Ok(())
}

/// torch's own example of ImageNet saves `checkpoint.pth.tar`.
#[test]
fn checkpoint_named_tar_is_inspected_as_weights() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("checkpoint.pth.tar");
    fs::copy(file("tests/data/import/bfloat16_parameters.pth"), &path)?;
    let own = look(&file("tests/data/import/bfloat16_parameters.pth"));
    let (own, found) = (own.map(|f| f.to_string()), look(&path).map(|f| f.to_string()));
    let words = |result: Result<String, Error>| match result {
        Ok(text) => text,
        Err(error) => format!("{:?}", std::error::Error::source(&error).map(|e| e.to_string())),
    };
    let (own, found) = (words(own), words(found));
    assert!(!found.contains("shard"), "{found}");
    assert_eq!(own, found);
    Ok(())
}

#[test]
fn folder_of_transformers_without_weights_for_torch_is_refused_with_what_it_is() -> TestResult {
    for (config, name, word) in [
        (true, "tf_model.h5", "TensorFlow"),
        (true, "flax_model.msgpack", "Flax"),
        (false, "adapter_model.safetensors", "PEFT"),
    ] {
        let folder = tempfile::tempdir()?;
        if config {
            fs::write(folder.path().join("config.json"), r#"{"model_type": "vit"}"#)?;
        }
        fs::write(folder.path().join(name), "weights")?;
        match look(folder.path()) {
            Err(Error::Checkpoint { source, .. }) => {
                assert!(source.to_string().contains(word), "{source}");
            }
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    Ok(())
}

/// Opening a pipe would wait for a writer.
#[cfg(unix)]
#[test]
fn pipe_is_refused_without_being_opened() -> TestResult {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    match look(&pipe) {
        Err(Error::Checkpoint { path, source }) => {
            assert!(path == pipe && source.to_string().contains("a pipe"), "{source}");
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

#[test]
fn path_without_anything_is_an_io_error() {
    assert!(matches!(look(Path::new("not/there")), Err(Error::Io { .. })));
}

#[test]
fn artifact_of_version_1_is_shown_as_one_whose_sizes_have_no_checksum() -> TestResult {
    let found = look(&file("examples/pretrained/fashion-mnist"))?;
    assert_eq!(serde_json::to_value(&found)?["all_files_have_checksums"], false);
    assert!(found.to_string().contains("its sizes are not covered"), "{found}");
    Ok(())
}

#[test]
fn artifact_without_its_description_is_refused_and_not_imported() -> TestResult {
    let copy = copy_of_artifact()?;
    fs::remove_file(copy.path().join("config.json"))?;
    fs::write(copy.path().join("checksums.sfv"), "config.json 00000000\n")?;
    assert!(!once_for_both::import::is_checkpoint(copy.path()));
    for refused in [
        look(copy.path()).map(drop),
        once_for_both::subnet::Subnet::<VitConfig>::load(copy.path(), tch::Device::Cpu).map(drop),
    ] {
        match refused {
            Err(Error::Io { path, source, .. }) => {
                assert_eq!(path, copy.path().join("config.json"));
                assert!(source.to_string().contains("artifact without config.json"), "{source}");
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    match once_for_both::import::read(copy.path()) {
        Err(Error::Checkpoint { source, .. }) => {
            assert!(source.to_string().contains("without its config.json"), "{source}");
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}
