//! Run folders whose stages have begun: what a further command, or another program, takes from them.

use crate::weights::{text, trained};
use crate::{deit_s, json, refuses, succeeds, TestResult, SMALL};
use std::fs;
use std::path::Path;

/// Runs a command with the options of a small network.
fn small(arguments: &[&str]) -> TestResult {
    succeeds(&[arguments, &SMALL].concat()).map(drop)
}

/// Returns what a forecast of a run folder says.
fn forecast(run: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let options = ["--images", "100", "--shares", "0.5"];
    let done = deit_s(&[&["forecast", "--weights", text(run)?][..], &options].concat())?;
    Ok(String::from_utf8(done.stderr)?)
}

#[test]
fn forecast_of_a_run_that_has_not_searched_is_of_its_newest_network() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, tuned, begun] = ["first", "tuned", "begun"].map(|name| folder.path().join(name));
    trained(&first)?;
    let network = first.join("dense/network");
    let given = ["--weights", text(&network)?, "--out"];
    small(&[&["finetune"][..], &given, &[text(&tuned)?]].concat())?;
    let told = forecast(&tuned)?;
    assert!(told.contains(&format!("network {}\n", text(&tuned)?)), "{told}");
    // As after a kill: nothing of the run is there to be measured.
    small(&[&["train"][..], &given, &[text(&begun)?]].concat())?;
    fs::remove_dir_all(begun.join("dense/network"))?;
    let told = forecast(&begun)?;
    assert!(told.contains("error") && told.contains(text(&begun)?), "{told}");
    assert!(!told.contains(text(&first)?), "{told}");
    Ok(())
}

/// An earlier version has saved the run folder as it was given.
#[test]
fn subnet_of_an_earlier_run_is_fine_tuned_where_its_dense_network_cannot_be_loaded() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    small(&["search", "--weights", text(&first)?, "--out", text(&run)?])?;
    let (network, file) = (first.join("dense/network"), run.join("config.toml"));
    let named = |path: &Path| Ok::<_, Box<dyn std::error::Error>>(format!("{:?}", text(path)?));
    let saved = fs::read_to_string(&file)?;
    fs::write(&file, saved.replace(&named(&network)?, &named(&first)?))?;
    fs::write(network.join("model.safetensors"), "")?;
    let done = deit_s(&[&["finetune", "--out", text(&run)?][..], &SMALL].concat())?;
    let told = String::from_utf8(done.stderr)?;
    assert!(done.status.success() && told.contains("latencies are not compared"), "{told}");
    Ok(())
}

/// As after a signal in the training of the dense network that the search is compared with.
#[test]
fn fine_tuning_before_the_comparison_of_the_search_has_ended_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    trained(&run)?;
    let out = text(&run)?;
    small(&["search", "--set", "compare=true", "--out", out])?;
    fs::remove_file(run.join("summary.json"))?;
    fs::remove_dir_all(run.join("reference/network"))?;
    let refused = refuses(&[&["finetune", "--out", out][..], &SMALL].concat())?;
    assert!(refused.contains("search") && refused.contains("--resume"), "{refused}");
    assert!(!run.join("finetune").exists());
    succeeds(&["--resume", "--out", out])?;
    assert!(json(&run.join("summary.json"))?["subnet"]["top1"].is_number());
    small(&["finetune", "--out", out])
}

#[test]
fn trained_dense_network_stays_that_of_the_run_where_its_weights_move() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    let [weights, moved] = ["weights", "moved"].map(|name| folder.path().join(name));
    fs::rename(first.join("dense/network"), &weights)?;
    let out = text(&run)?;
    small(&["train", "--weights", text(&weights)?, "--out", out])?;
    small(&["search", "--out", out])?;
    fs::rename(&weights, &moved)?;
    small(&["finetune", "--weights", text(&moved)?, "--out", out])?;
    let dense = format!("network {}\n", text(&run.join("dense/network"))?);
    let told = forecast(&run)?;
    assert!(told.contains(&dense), "{told}");
    Ok(())
}
