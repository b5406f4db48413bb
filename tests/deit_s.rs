//! The example `deit_s` as a person uses it: its stages, what they leave, and what it refuses.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

type TestResult = Result<(), Box<dyn Error>>;

/// A network that trains in a second.
const SMALL: [&str; 8] = [
    "--set",
    "network.embed_dim=32",
    "--set",
    "network.depth=2",
    "--set",
    "network.heads=2",
    "--steps",
    "20",
];

/// The program. A whole `cargo test` builds it beside the tests; `cargo test --test deit_s` alone does
/// not, and takes the one that was built last.
fn program() -> Result<PathBuf, Box<dyn Error>> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(Path::parent).ok_or("no folder above the tests")?;
    let program = folder.join("examples/deit_s");
    match program.is_file() {
        true => Ok(program),
        false => {
            Err(format!("{} is not built: cargo build --example deit_s", program.display()).into())
        }
    }
}

fn deit_s(arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let device = std::env::var("OFB_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    Ok(Command::new(program()?).args(arguments).args(["--device", &device]).output()?)
}

/// What it printed, where it succeeded.
fn succeeds(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = deit_s(arguments)?;
    let text = String::from_utf8(output.stdout)?;
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Its complaint, where it failed without a word on success.
fn refuses(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = deit_s(arguments)?;
    match output.status.success() {
        false => Ok(String::from_utf8(output.stderr)?),
        true => Err(format!("{arguments:?} was accepted").into()),
    }
}

#[test]
fn stages_go_on_from_one_another_and_the_report_tells_of_all() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let out = run.to_str().ok_or("not UTF-8")?;
    let stage = |name: &str| succeeds(&[&[name, "--out", out][..], &SMALL].concat());
    stage("train")?;
    let told = stage("search")?;
    assert!(told.contains("budget"), "{told}");
    stage("finetune")?;
    for name in ["config.toml", "summary.json", "metrics.jsonl", "subnet/model.onnx"] {
        assert!(run.join(name).is_file(), "{name} is missing");
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.join("summary.json"))?)?;
    let macs = |of: &str| summary[of]["macs"].as_f64().unwrap_or(f64::NAN);
    assert!(macs("subnet") <= 0.5 * macs("dense"), "{summary}");

    let evaluated = succeeds(&["eval", "--weights", out])?;
    assert!(evaluated.starts_with("top-1 "), "{evaluated}");
    let exported = folder.path().join("small");
    let to = exported.to_str().ok_or("not UTF-8")?;
    succeeds(&["export", "--weights", out, "--out", to, "--precision", "f16", "--format", "onnx"])?;
    assert!(
        exported.join("model.onnx").is_file() && !exported.join("model.torchscript.pt").exists()
    );
    assert!(
        std::fs::metadata(exported.join("model.safetensors"))?.len() * 3 / 2
            < std::fs::metadata(run.join("finetune/network/model.safetensors"))?.len()
    );

    std::fs::remove_file(run.join("report.html"))?;
    succeeds(&["report", out])?;
    let page = std::fs::read_to_string(run.join("report.html"))?;
    for part in ["train", "search", "finetune", "data:image/png;base64,", "resolved options"] {
        assert!(page.contains(part), "the report lacks {part}");
    }
    Ok(())
}

#[test]
fn a_run_goes_on_with_the_options_it_began_with() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().ok_or("not UTF-8")?;
    let whole = &[&["--set", "compare=false", "--out", out][..], &SMALL].concat();
    succeeds(whole)?;
    let subnet = std::fs::read(folder.path().join("subnet/model.safetensors"))?;

    let again = refuses(whole)?;
    assert!(again.contains("--resume"), "{again}");
    let other = refuses(&["--resume", "--out", out, "--budget", "0.3"])?;
    assert!(other.contains("budget.macs = \"0.5\"") && other.contains("0.3"), "{other}");

    // As after a kill: the last artifacts are gone, the checkpoints are there.
    std::fs::remove_dir_all(folder.path().join("subnet"))?;
    std::fs::remove_file(folder.path().join("summary.json"))?;
    succeeds(&["--resume", "--out", out])?;
    assert_eq!(std::fs::read(folder.path().join("subnet/model.safetensors"))?, subnet);
    Ok(())
}

#[test]
fn flags_outweigh_settings_settings_the_file_and_the_file_the_preset() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("own.toml");
    std::fs::write(&file, "seed = 3\n[train]\nepochs = 0.01\nlr = 0.25\nbatch = 16\n")?;
    let out = folder.path().join("run");
    let (out, file) = (out.to_str().ok_or("not UTF-8")?, file.to_str().ok_or("not UTF-8")?);
    let small = &SMALL[..6];
    let options =
        ["train", "--config", file, "--set", "train.lr=0.125", "--batch", "8", "--out", out];
    succeeds(&[&options[..], small].concat())?;
    let text = std::fs::read_to_string(Path::new(out).join("config.toml"))?;
    let config: toml::Table = toml::from_str(&text)?;
    let train = &config["train"];
    assert_eq!(config["seed"].as_integer(), Some(3));
    assert_eq!(train["lr"].as_float(), Some(0.125));
    assert_eq!(train["batch"].as_integer(), Some(8));
    // Epochs of the file took the place of the preset's steps.
    assert_eq!(train["epochs"].as_float(), Some(0.01));
    assert!(train.get("steps").is_none());
    Ok(())
}

#[test]
fn a_budget_of_parameters_is_the_only_one_unless_another_is_given() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (name, budgets, limits) in [
        ("params", &["--params", "20k"][..], vec![("params", 20_000.0)]),
        (
            "both",
            &["--params", "0.9", "--budget", "400k"],
            vec![("macs", 400_000.0), ("params", 0.0)],
        ),
    ] {
        let out = folder.path().join(name);
        let arguments =
            [budgets, &["--set", "compare=false", "--out"], &[out.to_str().ok_or("?")?]];
        succeeds(&[&arguments.concat()[..], &SMALL].concat())?;
        let text = std::fs::read(out.join("summary.json"))?;
        let summary: serde_json::Value = serde_json::from_slice(&text)?;
        let kept = summary["budgets"].as_array().ok_or("no budgets")?;
        assert_eq!(kept.len(), limits.len(), "{summary}");
        for (budget, (metric, limit)) in kept.iter().zip(limits) {
            assert_eq!(budget["metric"], metric);
            let target = budget["target"].as_f64().unwrap_or(0.0);
            assert!(limit == 0.0 || target == limit, "{summary}");
            assert!(summary["subnet"][metric].as_f64().unwrap_or(f64::NAN) <= target, "{summary}");
        }
    }
    Ok(())
}

#[test]
fn wrong_options_fail_at_once_and_name_what_is_wrong() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let out = out.to_str().ok_or("not UTF-8")?;
    for (arguments, words) in [
        (vec!["--bugdet", "0.4"], vec!["--budget"]),
        (vec!["--budget", "1.3X"], vec!["1.3X", "1.3G"]),
        (vec!["--budget", "0.0001"], vec!["36394", "35468928"]),
        (vec!["--set", "serch.share=0.3"], vec!["serch", "search"]),
        (
            vec!["--set", "search.options.landing=3"],
            vec!["search.options.landing", "landing_steps"],
        ),
        (vec!["--set", "search.options.drop_share=many"], vec!["search.options", "many"]),
        (vec!["--set", "search.share=1.5"], vec!["search.share", "1.5"]),
        (vec!["--set", "network.patch_size=5"], vec!["patch_size", "5", "28"]),
        (vec!["--epochs", "2", "--steps", "3"], vec!["--epochs", "--steps"]),
        (vec!["--batch", "7000"], vec!["7000", "6000"]),
        (vec!["--set", "search.batch=-4"], vec!["search.batch", "-4"]),
        (vec!["--data", "nowhere"], vec!["nowhere"]),
        (vec!["--weights", "nowhere"], vec!["nowhere", "is not there"]),
        (vec!["--teacher", "nowhere"], vec!["nowhere", "is not there"]),
        (vec!["--resume"], vec!["--out"]),
        (vec!["--resume", "--out", "nowhere"], vec!["nowhere", "--resume"]),
        (vec!["search", "--out", out], vec!["--weights"]),
        (vec!["eval"], vec!["--weights"]),
        (vec!["report", "nowhere"], vec!["nowhere", "no run"]),
    ] {
        let said = refuses(&arguments)?;
        for word in words {
            assert!(said.contains(word), "{arguments:?} said {said:?}, without {word}");
        }
    }
    assert!(!Path::new(out).exists(), "a refused run left a folder");
    Ok(())
}
