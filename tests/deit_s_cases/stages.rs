//! Stages that have begun, and have not ended: none is skipped, and a restart with a preset goes on.

use crate::{json, refuses, succeeds, TestResult, SMALL};
use once_for_both::subnet::LatencyComparison;
use std::path::Path;

fn text(path: &Path) -> Result<&str, Box<dyn std::error::Error>> {
    Ok(path.to_str().ok_or("not UTF-8")?)
}

/// As after a kill: a stage has begun, and its network is not there.
#[test]
fn stage_that_has_not_ended_is_resumed_before_the_next_one_begins() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, trained, searched] =
        ["first", "trained", "searched"].map(|name| folder.path().join(name));
    let small = |arguments: &[&str]| succeeds(&[arguments, &SMALL].concat());
    small(&["train", "--out", text(&first)?])?;
    let given = ["--weights", text(&first)?, "--out"];
    small(&[&["train"][..], &given, &[text(&trained)?]].concat())?;
    small(&[&["search"][..], &given, &[text(&searched)?]].concat())?;
    std::fs::remove_dir_all(trained.join("dense/network"))?;
    std::fs::remove_dir_all(searched.join("subnet"))?;

    let refused = refuses(&[&["search", "--out", text(&trained)?][..], &SMALL].concat())?;
    assert!(refused.contains("got a stage train that has not ended"), "{refused}");
    assert!(!trained.join("metrics.jsonl").exists());
    // The dense network stays that of the search, whatever is given.
    let subnet = searched.join("subnet");
    let finetune = ["finetune", "--weights", text(&subnet)?, "--out", text(&searched)?];
    let finetune = [&finetune[..], &SMALL].concat();
    let refused = refuses(&finetune)?;
    assert!(refused.contains("got a stage search that has not ended"), "{refused}");
    assert!(!searched.join("finetune").exists());
    succeeds(&["--resume", "--out", text(&searched)?])?;
    succeeds(&finetune)?;

    // An option of a stage that is done is not dropped without a word.
    let refused = refuses(&["--resume", "--out", text(&searched)?, "--set", "search.lr=0.5"])?;
    assert!(refused.contains("option search.lr: got 0.5"), "{refused}");

    let config = std::fs::read_to_string(searched.join("config.toml"))?;
    let dense = first.join("dense/network");
    assert!(config.contains(&format!("weights = {:?}", text(&dense)?)), "{config}");
    let summary = json(&searched.join("summary.json"))?;
    let artifact = json(&searched.join("finetune/network/config.json"))?;
    let latency: Vec<LatencyComparison> = serde_json::from_value(artifact["latency"].clone())?;
    assert!(!latency.is_empty());
    for own in latency {
        let batch = own.batch.to_string();
        assert_eq!(summary["dense"]["latency_ms"][&batch], own.dense_ms, "measured in turn");
        assert_eq!(summary["subnet"]["latency_ms"][&batch], own.subnet_ms);
    }
    Ok(())
}

#[test]
fn restart_with_a_preset_keeps_the_budget_and_the_stages_before() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let out = text(&out)?;
    let with_preset = |arguments: &[&str]| {
        succeeds(&[arguments, &["--preset", "demo", "--out", out], &SMALL].concat())
    };
    let file = folder.path().join("own.toml");
    std::fs::write(&file, "[train]\nlr = 9e-3\n[budget]\nmacs = \"0.9\"\n")?;
    let config = || std::fs::read_to_string(folder.path().join("run/config.toml"));
    // Every command again as its restart does it.
    let twice = |arguments: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        with_preset(arguments)?;
        let before = config()?;
        with_preset(&[arguments, &["--resume"]].concat())?;
        assert_eq!(config()?, before, "{arguments:?}");
        Ok(before)
    };
    twice(&["train", "--set", "train.lr=2e-3"])?;
    let search = ["search", "--params", "0.5", "--set", "compare=false", "--lr", "1e-3"];
    let saved = twice(&search)?;
    assert!(saved.contains("params = \"0.5\"") && saved.contains("lr = 0.002"), "{saved}");
    assert!(!saved.contains("macs ="), "{saved}");
    // Without its command, only what is of the stage is compared.
    let resumed = ["--resume", "--params", "0.5", "--set", "compare=false", "--lr", "1e-3"];
    with_preset(&resumed)?;
    // The file is not about stages that are done, and fine-tuning trains like the search.
    let subnet = folder.path().join("run/subnet");
    let finetune = ["finetune", "--config", text(&file)?, "--weights", text(&subnet)?];
    let saved = twice(&finetune)?;
    let tuned = saved.split("[finetune]").nth(1).ok_or("no section")?;
    assert!(tuned.contains("lr = 0.001"), "{saved}");
    assert!(saved.contains("lr = 0.002") && !saved.contains("macs ="), "{saved}");
    Ok(())
}

#[test]
fn option_of_a_stage_that_is_done_is_refused_when_the_next_one_begins() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    succeeds(&[&["train", "--out", text(&out)?][..], &SMALL].concat())?;
    let search = [&["search", "--out", text(&out)?, "--set", "train.lr=0.5"][..], &SMALL].concat();
    let refused = refuses(&search)?;
    assert!(refused.contains("option train.lr: got 0.5"), "{refused}");
    Ok(())
}

#[test]
fn latency_is_not_measured_into_a_run_whose_search_has_begun() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run] = ["first", "run"].map(|name| folder.path().join(name));
    succeeds(&[&["train", "--out", text(&first)?][..], &SMALL].concat())?;
    let given = ["--weights", text(&first)?, "--out", text(&run)?];
    succeeds(&[&["search"][..], &given, &SMALL].concat())?;
    let refused = refuses(&["latency", "--out", text(&run)?])?;
    assert!(refused.contains("got a run whose search has begun"), "{refused}");
    assert!(!run.join("latency.json").exists());
    // A run that has only trained takes a model, and another one.
    for _ in 0..2 {
        let latency = ["latency", "--out", text(&first)?, "--set", "latency.seconds=5"];
        succeeds(&[&latency[..], &SMALL[..6]].concat())?;
    }
    assert!(first.join("latency.json").is_file());
    Ok(())
}

#[test]
fn subnet_of_another_run_is_not_compared_with_itself() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [first, run, alone] = ["first", "run", "alone"].map(|name| folder.path().join(name));
    succeeds(&[&["train", "--out", text(&first)?][..], &SMALL].concat())?;
    let given = ["--weights", text(&first)?, "--out", text(&run)?];
    succeeds(&[&["search"][..], &given, &SMALL].concat())?;
    let subnet = run.join("subnet");
    let given = ["--weights", text(&subnet)?, "--out", text(&alone)?];
    succeeds(&[&["finetune"][..], &given, &SMALL].concat())?;
    let network = alone.join("finetune/network");
    assert!(json(&network.join("config.json"))?["latency"].as_array().is_none_or(Vec::is_empty));
    assert!(network.join("model.onnx").is_file());
    let page = std::fs::read_to_string(alone.join("report.html"))?;
    assert!(!page.contains("100.0 %") && !page.contains("100.0\u{a0}%"), "{page}");
    Ok(())
}

#[test]
fn summary_that_cannot_be_read_is_refused_by_report_and_fine_tuning() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let out = text(&run)?;
    let stage = |name| [&[name, "--out", out][..], &SMALL].concat();
    succeeds(&stage("train"))?;
    succeeds(&stage("search"))?;
    let summary = run.join("summary.json");
    std::fs::remove_file(&summary)?;
    std::fs::create_dir(&summary)?;
    for refused in [refuses(&["report", out])?, refuses(&stage("finetune"))?] {
        assert!(refused.contains("summary.json") && refused.contains("a folder"), "{refused}");
    }
    Ok(())
}
