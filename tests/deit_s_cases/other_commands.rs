//! Commands that train nothing: the networks that they read, and the options that they take.

use crate::weights::{text, trained};
use crate::{json, refuses, succeeds, TestResult, SMALL};
use std::collections::BTreeMap;
use std::path::Path;

/// Numbers of units and heads in a measured sensitivity, by dimension.
fn sizes(run: &Path) -> Result<BTreeMap<String, String>, Box<dyn std::error::Error>> {
    let sensitivity = json(&run.join("sensitivity.json"))?;
    let dimensions = sensitivity["dimensions"].as_array().ok_or("no dimensions")?;
    let size = |own: &serde_json::Value| (own["name"].to_string(), own["size"].to_string());
    Ok(dimensions.iter().map(size).collect())
}

#[test]
fn forecast_of_a_run_that_has_searched_measures_its_dense_network() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let out = text(&run)?;
    trained(&run)?;
    let forecast = |network: &str| -> Vec<String> {
        let given = ["forecast", "--weights", network, "--out", out];
        let own = ["--images", "16", "--shares", "0.6"];
        [&given[..], &own].concat().into_iter().map(str::to_string).collect()
    };
    let measured = || -> Result<_, Box<dyn std::error::Error>> {
        let line = forecast(out);
        succeeds(&line.iter().map(String::as_str).collect::<Vec<_>>())?;
        sizes(&run)
    };
    let dense = measured()?;
    succeeds(&[&["search", "--out", out][..], &SMALL].concat())?;
    assert_eq!(measured()?, dense);
    let line = forecast(text(&run.join("subnet"))?);
    let refused = refuses(&line.iter().map(String::as_str).collect::<Vec<_>>())?;
    assert!(refused.contains("got the subnet of the run in --out"), "{refused}");
    Ok(())
}

#[test]
fn option_without_effect_on_a_command_is_refused_with_the_options_that_it_takes() -> TestResult {
    for (command, option, instead) in [
        (&["forecast", "--weights", "there", "--budget", "0.4"][..], "--budget", "--shares"),
        (&["inspect", "there", "--set", "import.entry=model"], "--set", "--entry"),
        (&["report", "there", "--out", "page"], "--out", "--device"),
        (&["eval", "--weights", "there", "--epochs", "3"], "--epochs", "--data"),
        (&["--epochs", "3", "eval", "--weights", "there"], "--epochs", "--data"),
        (&["eval", "--weights", "there", "--out", "here", "--resume"], "--out", "--weights"),
        (&["latency", "--out", "here", "--batch", "8"], "--batch", "--set"),
        (&["export", "--weights", "there", "--depth"], "--depth", "--format"),
    ] {
        let refused = refuses(command)?;
        let named =
            format!("{}: got {option}, expected one of", command[0].trim_start_matches("--"));
        assert!(refused.contains(&named) || command[0] == "--epochs", "{refused}");
        assert!(refused.contains(option) && refused.contains(instead), "{refused}");
    }
    Ok(())
}

/// A run of the library with an architecture of its own.
#[test]
fn run_of_another_family_is_refused_by_its_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    trained(&run)?;
    let out = text(&run)?;
    for name in ["dense/plan.json", "dense/network/config.json"] {
        let text = std::fs::read_to_string(run.join(name))?;
        std::fs::write(run.join(name), text.replace("\"vit\"", "\"my_vit\""))?;
    }
    let config = run.join("config.toml");
    let options = std::fs::read_to_string(&config)?.replace("embed_dim", "width");
    std::fs::write(&config, options)?;
    for command in [&["report", out][..], &["--resume", "--out", out]] {
        let refused = refuses(command)?;
        assert!(refused.contains("family: got my_vit, expected vit or swin"), "{refused}");
    }
    Ok(())
}
