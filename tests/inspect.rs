//! Inspection of a path: what it is, and whether the library takes it.

mod inspect_cases;
mod support;

use inspect_cases::{file, look};
use once_for_both::models::VitConfig;
use once_for_both::pipeline::{Finding, Inspection, PipelineOutcome, Request, RunFolder};
use once_for_both::search::{Checkpoints, Event};
use once_for_both::space::Size;
use once_for_both::subnet::Subnet;
use once_for_both::Error;
use std::fs;
use std::path::Path;
use support::small_run::{pipeline, PRESET, SETTINGS};
use support::tiny_run::{alone, batch, options, search_with};
use support::TestResult;

/// A copy of the artifact in the repository, which is of version 1.
fn copy_of_artifact() -> TestResult<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(file("examples/pretrained/fashion-mnist"))? {
        let path = entry?.path();
        fs::copy(&path, copy.path().join(path.file_name().ok_or("no name")?))?;
    }
    Ok(copy)
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

#[test]
fn run_with_a_file_that_cannot_be_read_is_not_accepted_and_the_file_is_named() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let settings = SETTINGS.map(String::from).to_vec();
    let request = Request { default_preset: PRESET.into(), settings, ..Request::default() };
    let config = Request { run: Some(run.clone()), ..request }.resolve()?;
    pipeline(config, &run)?.run()?;
    // Files that a run has only at times.
    for name in ["sensitivity.json", "dense/corrupt_images.json"] {
        fs::write(run.join(name), "{\n")?;
        assert!(refused_alone(&run, name)?);
        fs::remove_file(run.join(name))?;
    }
    assert!(look(&run)?.is_accepted());
    for name in ["data.json", "summary.json", "plan.json", "dense/plan.json", "metrics.jsonl"] {
        let whole = fs::read(run.join(name))?;
        fs::write(run.join(name), "{\n")?;
        assert!(refused_alone(&run, name)?);
        fs::write(run.join(name), whole)?;
    }
    let told = look(&run)?;
    assert!(told.is_accepted() && told.to_string().contains("file          plan.json"), "{told}");
    Ok(())
}

/// Whether this file is all that the inspection of a run refuses.
fn refused_alone(run: &Path, name: &str) -> TestResult<bool> {
    let found = look(run)?;
    let told = found.to_string();
    let line = format!("REFUSED       {name}: ");
    Ok(!found.is_accepted() && told.matches("REFUSED").count() == 1 && told.contains(&line))
}
