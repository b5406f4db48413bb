//! The networks that the commands of a run start from: run folders that go on, weights that move, spellings of a path.

use crate::weights::{text, trained, write_for_three_classes};
use crate::{deit_s, json, refuses, succeeds, TestResult, SMALL};
use std::fs;
use std::path::Path;

/// Runs a command with the options of a small network.
fn small(arguments: &[&str]) -> TestResult {
    succeeds(&[arguments, &SMALL].concat()).map(drop)
}

fn config(run: &Path) -> Result<String, Box<dyn std::error::Error>> {
    Ok(fs::read_to_string(run.join("config.toml"))?)
}

/// As after a kill while latencies are measured: the subnet is there, and no summary.
#[test]
fn search_of_the_networks_of_its_own_folder_is_resumed_and_fine_tuned_from_the_dense_one(
) -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let out = text(&run)?;
    trained(&run)?;
    small(&["search", "--weights", out, "--out", out])?;
    let dense = format!("weights = {:?}", text(&run.join("dense/network"))?);
    assert!(config(&run)?.contains(&dense), "{}", config(&run)?);
    let summary = run.join("summary.json");
    let before = json(&summary)?;
    fs::remove_file(&summary)?;
    succeeds(&["--resume", "--out", out])?;
    assert_eq!(json(&summary)?["dense"]["macs"], before["dense"]["macs"]);
    assert!(before["dense"]["macs"].as_f64() > before["subnet"]["macs"].as_f64());
    // Named as it was.
    fs::remove_file(&summary)?;
    succeeds(&["--resume", "--out", out, "--weights", out])?;
    small(&["finetune", "--out", out])?;
    assert!(config(&run)?.contains(&dense), "{}", config(&run)?);
    Ok(())
}

#[test]
fn weights_and_teacher_of_a_run_that_goes_on_stay_the_networks_that_a_run_began_with() -> TestResult
{
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    let (given, out) = (text(&first)?, text(&run)?);
    trained(&first)?;
    small(&["search", "--weights", given, "--teacher", given, "--out", out])?;
    let plan = fs::read(run.join("plan.json"))?;
    let named = format!("weights = {:?}", text(&first.join("dense/network"))?);
    let as_begun = config(&run)?;
    assert_eq!(as_begun.matches(&named).count(), 2, "{as_begun}");

    small(&["search", "--out", given])?;
    succeeds(&["--resume", "--out", out])?;
    succeeds(&["--resume", "--out", out, "--weights", given, "--teacher", given])?;
    assert_eq!(fs::read(run.join("plan.json"))?, plan);
    assert_eq!(config(&run)?, as_begun);

    // As an earlier version has saved it: which network the folder stood for is not known any more.
    fs::write(run.join("config.toml"), as_begun.replace(&named, &format!("weights = {given:?}")))?;
    let refused = refuses(&["--resume", "--out", out])?;
    for part in ["option weights: got the run folder", "first/subnet", "first/dense/network"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let dense = first.join("dense/network");
    let dense = text(&dense)?;
    let refused = refuses(&["--resume", "--out", out, "--weights", dense])?;
    assert!(refused.contains("option teacher.weights: got the run folder"), "{refused}");
    let dotted = first.join("../first/dense/network");
    let dotted = text(&dotted)?;
    succeeds(&["--resume", "--out", out, "--weights", dotted, "--teacher", dotted])?;
    assert_eq!(config(&run)?, as_begun);
    Ok(())
}

#[test]
fn teacher_whose_weights_have_changed_is_refused_by_a_resumed_search() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, other, run] = ["first", "other", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    small(&["train", "--seed", "9", "--out", text(&other)?])?;
    let given = ["--weights", text(&first)?, "--teacher", text(&first)?];
    small(&[&["search"][..], &given, &["--out", text(&run)?]].concat())?;
    let network = "dense/network";
    fs::remove_dir_all(first.join(network))?;
    fs::rename(other.join(network), first.join(network))?;
    let refused = refuses(&["--resume", "--out", text(&run)?])?;
    assert!(refused.contains("teacher") && refused.contains("checksum"), "{refused}");
    Ok(())
}

#[test]
fn run_folder_itself_names_its_dense_network_wherever_that_is() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    let out = text(&run)?;
    small(&["search", "--weights", text(&first)?, "--out", out])?;
    let dense = format!("weights = {:?}", text(&first.join("dense/network"))?);
    // Its newest network is its subnet, which does not teach.
    let refused = refuses(&[&["finetune", "--teacher", out, "--out", out][..], &SMALL].concat())?;
    assert!(refused.contains("option teacher.weights: got"), "{refused}");
    assert!(refused.contains("the folder of the run itself"), "{refused}");
    small(&["finetune", "--weights", out, "--out", out])?;
    assert!(config(&run)?.contains(&dense), "{}", config(&run)?);
    succeeds(&["--resume", "--weights", out, "--out", out])?;
    assert!(config(&run)?.contains(&dense), "{}", config(&run)?);
    Ok(())
}

#[test]
fn fine_tuning_in_a_run_that_has_trained_and_not_searched_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    let out = text(&run)?;
    small(&["train", "--weights", text(&first)?, "--out", out])?;
    let before = config(&run)?;
    let start = first.join("dense/network");
    for given in [&[][..], &["--weights", out], &["--weights", text(&start)?]] {
        let finetune = [&["finetune", "--out", out][..], given, &SMALL].concat();
        let refused = refuses(&finetune)?;
        assert!(refused.contains("run search first"), "{refused}");
    }
    assert!(!run.join("finetune").exists());
    assert_eq!(config(&run)?, before);
    Ok(())
}

#[test]
fn subnet_is_fine_tuned_where_the_dense_network_has_moved_and_compared_where_it_is_named(
) -> TestResult {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let [first, run, copy, dense, moved] = ["first", "run", "copy", "dense", "moved"].map(at);
    trained(&first)?;
    fs::rename(first.join("dense/network"), &dense)?;
    small(&["search", "--weights", text(&dense)?, "--out", text(&run)?])?;
    let copied = std::process::Command::new("cp").arg("-r").args([&run, &copy]).status()?;
    assert!(copied.success());
    let before = config(&run)?;
    fs::rename(&dense, &moved)?;

    let finetune = |run: &Path, given: &[&str]| -> Result<_, Box<dyn std::error::Error>> {
        deit_s(&[&["finetune", "--out", text(run)?][..], given, &SMALL].concat())
    };
    let told = finetune(&copy, &[])?;
    assert!(told.status.success());
    let told = String::from_utf8(told.stderr)?;
    assert!(told.contains("latencies are not compared") && told.contains("subnet "), "{told}");
    let latencies = |run: &Path| {
        let summary = json(&run.join("summary.json"))?;
        let of = |network: &str| summary[network]["latency_ms"].clone();
        Ok::<_, Box<dyn std::error::Error>>(["dense", "subnet"].map(of))
    };
    assert_eq!(latencies(&copy)?, latencies(&run)?);
    assert!(latencies(&run)?.iter().all(|own| own["1"].is_number()));

    // Another network is refused, and so is a place without one.
    let [wide, nowhere] = ["wide", "nowhere"].map(at);
    let train = ["train", "--out", text(&wide)?, "--set", "network.embed_dim=64"];
    succeeds(&[&train[..], &SMALL[2..]].concat())?;
    for (given, reason) in [(text(&wide)?, "option network."), (text(&nowhere)?, "is not there")] {
        let refused = String::from_utf8(finetune(&run, &["--weights", given])?.stderr)?;
        assert!(refused.contains(reason), "{refused}");
    }
    assert_eq!(config(&run)?, before);
    assert!(!run.join("finetune").exists());

    let searched = latencies(&run)?;
    assert!(finetune(&run, &["--weights", text(&moved)?])?.status.success());
    assert_ne!(latencies(&run)?, searched);
    assert!(config(&run)?.contains(text(&moved)?), "{}", config(&run)?);
    Ok(())
}

/// With its own classifier, a checkpoint is not searched before it is trained.
#[test]
fn weights_that_a_run_has_trained_are_recognised_in_any_spelling() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, checkpoint] = ["first", "three.safetensors"].map(|name| folder.path().join(name));
    trained(&first)?;
    write_for_three_classes(&first, &checkpoint)?;
    let linked = folder.path().join("linked.safetensors");
    std::os::unix::fs::symlink(&checkpoint, &linked)?;
    let dotted = folder.path().join("first/../three.safetensors");
    for (at, spelling) in [&checkpoint, &dotted, &linked].into_iter().enumerate() {
        let run = folder.path().join(format!("run-{at}"));
        let out = text(&run)?;
        small(&["train", "--weights", text(&checkpoint)?, "--out", out])?;
        small(&["search", "--weights", text(spelling)?, "--out", out])?;
    }
    Ok(())
}

#[test]
fn checkpoint_is_read_and_reported_once_in_a_whole_run() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    trained(&first)?;
    let checkpoint = folder.path().join("dense.safetensors");
    fs::copy(first.join("dense/network/model.safetensors"), &checkpoint)?;
    let given = ["--weights", text(&checkpoint)?, "--out", text(&run)?];
    let tuned =
        ["--set", "finetune.steps=4", "--set", "finetune.batch=8", "--set", "finetune.lr=1e-3"];
    let done = deit_s(&[&given[..], &tuned, &SMALL].concat())?;
    let told = String::from_utf8(done.stderr)?;
    assert!(done.status.success() && run.join("finetune/network").is_dir(), "{told}");
    assert_eq!(told.matches("tensors loaded").count(), 1, "{told}");
    Ok(())
}

/// All steps of the search stage search.
#[test]
fn summary_of_a_whole_run_has_the_time_of_a_step_of_its_fine_tuning_stage() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let options = [
        "search.share=1.0",
        "every.log=1",
        "finetune.steps=4",
        "finetune.batch=8",
        "finetune.lr=1e-3",
    ];
    let options: Vec<&str> = options.into_iter().flat_map(|option| ["--set", option]).collect();
    succeeds(&[&["--out", text(&run)?][..], &SMALL, &options].concat())?;
    let summary = json(&run.join("summary.json"))?;
    assert!(summary["search"]["finetune_step_ms_median"].is_number(), "{summary}");
    Ok(())
}

#[test]
fn search_with_a_comparison_trains_the_dense_network_as_a_whole_run_does() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    trained(&run)?;
    small(&["search", "--set", "compare=true", "--out", text(&run)?])?;
    assert!(run.join("reference/network").is_dir());
    let summary = json(&run.join("summary.json"))?;
    assert!(summary["search"]["plain_step_ms_median"].is_number(), "{summary}");
    Ok(())
}

#[test]
fn fine_tuning_without_its_own_section_trains_with_the_options_of_the_search() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let out = text(&run)?;
    trained(&run)?;
    let options = [
        "--set",
        "search.options.training.ema_decay=0.9",
        "--set",
        "search.options.training.precision=bf16",
        "--set",
        "search.options.optimiser.weights.weight_decay=0.2",
        "--set",
        "search.options.pruning.fade_out_steps=2",
    ];
    small(&[&["search", "--out", out][..], &options].concat())?;
    small(&["finetune", "--out", out])?;
    let [searched, tuned] = ["plan.json", "finetune/plan.json"].map(|own| json(&run.join(own)));
    let (searched, tuned) = (searched?, tuned?);
    for shared in ["/training/ema_decay", "/training/precision", "/optimiser/weights"] {
        let of = |plan: &serde_json::Value| plan["options"].pointer(shared).cloned();
        assert!(of(&tuned).is_some() && of(&tuned) == of(&searched), "{shared}: {tuned}");
    }
    assert_eq!(tuned["options"]["pruning"]["fade_out_steps"], 0);
    Ok(())
}

#[test]
fn sensitivity_that_cannot_be_read_is_refused_before_the_first_stage() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    fs::create_dir(&run)?;
    fs::write(run.join("sensitivity.json"), "{}")?;
    let refused = refuses(&[&["--out", text(&run)?][..], &SMALL].concat())?;
    assert!(refused.contains("sensitivity.json"), "{refused}");
    assert!(!run.join("dense").exists() && !run.join("config.toml").exists());
    Ok(())
}
