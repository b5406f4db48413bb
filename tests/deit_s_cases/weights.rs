//! Networks that commands start from: checkpoints for other classes, folders of checkpoints, and what a run
//! folder may hold.

use crate::{json, refuses, succeeds, TestResult, SMALL};
use std::path::Path;
use tch::Tensor;

/// The options of a small network, without its steps.
fn network() -> &'static [&'static str] {
    &SMALL[..6]
}

pub fn text(path: &Path) -> Result<&str, Box<dyn std::error::Error>> {
    Ok(path.to_str().ok_or("not UTF-8")?)
}

/// Trains a dense network into `folder`.
pub fn trained(folder: &Path) -> TestResult {
    succeeds(&[&["train", "--out", text(folder)?][..], &SMALL].concat()).map(drop)
}

/// Writes the weights of a run's dense network as a checkpoint for three classes.
pub fn write_for_three_classes(run: &Path, path: &Path) -> TestResult {
    let weights = Tensor::read_safetensors(run.join("dense/network/model.safetensors"))?;
    let narrowed = weights.into_iter().map(|(name, own)| match name.starts_with("head.") {
        true => (name, own.narrow(0, 0, 3).contiguous()),
        false => (name, own),
    });
    Ok(Tensor::write_safetensors(&narrowed.collect::<Vec<_>>(), path)?)
}

#[test]
fn checkpoint_for_other_classes_is_trained_before_it_teaches_or_is_measured() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    let checkpoint = folder.path().join("three.safetensors");
    write_for_three_classes(&first, &checkpoint)?;
    let (weights, out) = (text(&checkpoint)?, text(&run)?);
    let given = ["--weights", weights, "--out", out];
    for (command, reason) in [
        (&[&["search"][..], &given, &SMALL].concat(), "it teaches its search; train it first"),
        (&[&["export"][..], &given, network()].concat(), "it is exported as it is"),
        (&[&["forecast"][..], &given, network()].concat(), "a forecast is measured on it"),
        (&[&["eval", "--weights", weights][..], network()].concat(), "would count in its top-1"),
    ] {
        let refused = refuses(command)?;
        assert!(
            refused.contains("without head.bias, head.weight") && refused.contains(reason),
            "{refused}"
        );
        assert!(!run.exists());
    }

    // At a rate of nearly zero, training changes nothing but the head that it starts with.
    let rate = ["--set", "train.lr=1e-9"];
    succeeds(&[&["train"][..], &given, &SMALL, &rate].concat())?;
    let [before, after] = [&first, &run]
        .map(|own| Tensor::read_safetensors(own.join("dense/network/model.safetensors")));
    for (name, own) in before?.into_iter().filter(|(name, _)| !name.starts_with("head.")) {
        let after = after.as_ref().map_err(|error| error.to_string())?;
        let (_, same) = after.iter().find(|(other, _)| *other == name).ok_or("missing")?;
        let difference = (own - same).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{name}: {difference}");
    }
    // The search takes what was trained of the weights.
    succeeds(&[&["search", "--out", out][..], &SMALL].concat())?;
    let trained = succeeds(&["eval", "--weights", text(&run.join("dense/network"))?])?;
    let top1 = json(&run.join("summary.json"))?["dense"]["top1"].as_f64().ok_or("no top-1")?;
    assert!(trained.starts_with(&format!("top-1 {:.2}%", 100.0 * top1)), "{trained}, {top1}");
    Ok(())
}

/// The mean of a trained and a random head is a plausible top-1.
#[test]
fn evaluation_of_a_checkpoint_without_the_second_head_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    trained(&folder.path().join("run"))?;
    let checkpoint = folder.path().join("plain.safetensors");
    std::fs::copy(folder.path().join("run/dense/network/model.safetensors"), &checkpoint)?;
    let given = ["eval", "--weights", text(&checkpoint)?, "--set", "network.distilled=true"];
    let refused = refuses(&[&given[..], network()].concat())?;
    assert!(refused.contains("head_dist.weight"), "{refused}");
    assert!(succeeds(&[&given[..3], network()].concat())?.starts_with("top-1 "));
    Ok(())
}

#[test]
fn run_begins_in_a_folder_with_a_forecast() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    let given = ["--weights", text(&first)?, "--out", text(&run)?];
    let forecast = ["--images", "200", "--shares", "0.5"];
    let told = succeeds(&[&["forecast"][..], &given, &forecast].concat())?;
    // In two batches of 100.
    assert!(told.contains("on 200 calibration images"), "{told}");
    succeeds(&[&["search"][..], &given, &SMALL].concat())?;
    assert!(run.join("sensitivity.json").is_file() && run.join("subnet/config.json").is_file());
    Ok(())
}

#[test]
fn folder_of_another_programs_checkpoint_is_exported_without_a_seed() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [run, timm, out] = ["run", "timm", "out"].map(|name| folder.path().join(name));
    trained(&run)?;
    std::fs::create_dir(&timm)?;
    let weights = "model.safetensors";
    std::fs::copy(run.join("dense/network").join(weights), timm.join(weights))?;
    std::fs::write(timm.join("config.json"), r#"{"architecture": "vit_tiny_patch16_224"}"#)?;
    let given = ["export", "--weights", text(&timm)?, "--out", text(&out)?];
    succeeds(&[&given[..], network()].concat())?;
    let provenance = &json(&out.join("config.json"))?["provenance"];
    assert!(provenance["seed"].is_null() && provenance["dense_macs"].is_number(), "{provenance}");
    Ok(())
}

#[test]
fn run_whose_teacher_is_elsewhere_is_evaluated_and_inspected() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [teacher, run] = ["teacher", "run"].map(|name| folder.path().join(name));
    trained(&teacher)?;
    let given = ["train", "--teacher", text(&teacher)?, "--out", text(&run)?];
    succeeds(&[&given[..], &SMALL].concat())?;
    std::fs::rename(&teacher, folder.path().join("away"))?;
    let told = succeeds(&["inspect", text(&run)?])?;
    assert!(told.contains("checkpoint") && !told.contains("REFUSED"), "{told}");
    assert!(succeeds(&["eval", "--weights", text(&run)?])?.starts_with("top-1 "));
    Ok(())
}
