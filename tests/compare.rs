//! The example `compare`: which rows of its file are not measured again.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

type TestResult = Result<(), Box<dyn Error>>;

/// Path of the program, as built by `cargo test`, or by the last build.
fn program() -> Result<PathBuf, Box<dyn Error>> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(Path::parent).ok_or("no folder above the tests")?;
    let program = folder.join("examples/compare");
    match program.is_file() {
        true => Ok(program),
        false => {
            Err(format!("{} is not built: cargo build --example compare", program.display()).into())
        }
    }
}

fn compare(rows: &str, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pretrained/fashion-mnist");
    let brief = ["--weights", weights, "--batch", "8", "--validate", "8"];
    let steps = ["--steps", "2", "--dense-steps", "1", "--plain-interval", "0", "--device", "cpu"];
    let mut command = Command::new(program()?);
    command.args(brief).args(steps).args(["--search", "0.5", "--json", rows]).args(arguments);
    Ok(command.output()?)
}

#[test]
fn row_on_the_same_terms_is_not_measured_again() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    for (arguments, expected) in [
        (&["--methods", "even,scratch"][..], 2),
        // Measured already.
        (&["--methods", "even,scratch"], 2),
        (&["--methods", "even", "--lr", "0.001"], 3),
        (&["--methods", "even", "--set", "budget.weight=2"], 4),
        // Training from scratch depends neither on search options nor on the dense network.
        (&["--methods", "scratch", "--set", "budget.weight=2", "--lr", "0.001"], 4),
        (&["--methods", "scratch", "--dense-lr", "0.002"], 5),
        (&["--methods", "scratch", "--bf16"], 6),
        (&["--methods", "even", "--images", "800"], 7),
    ] {
        let output = compare(rows, arguments)?;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        let count = std::fs::read_to_string(&file)?.lines().count();
        assert_eq!(count, expected, "rows after {arguments:?}");
    }
    // A row without terms is measured again.
    let text = std::fs::read_to_string(&file)?;
    let mut row: serde_json::Value = serde_json::from_str(text.lines().next().ok_or("no row")?)?;
    assert!(row["terms"]["dense"].is_string(), "{row}");
    assert_eq!(row["terms"]["components"]["importance"]["name"], "learned_from_magnitude");
    row.as_object_mut().ok_or("no object")?.remove("terms");
    std::fs::write(&file, format!("{row}\n"))?;
    assert!(compare(rows, &["--methods", "even"])?.status.success());
    assert_eq!(std::fs::read_to_string(&file)?.lines().count(), 2);
    Ok(())
}

#[test]
fn json_file_of_other_lines_is_refused_by_option_and_left() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "mine\n")?;
    let below = file.join("rows.jsonl");
    for (rows, reason) in [(&file, "line 1: got "), (&below, "cannot be written")] {
        let rows = rows.to_str().ok_or("not UTF-8")?;
        let output = compare(rows, &["--methods", "even"])?;
        let told = String::from_utf8(output.stderr)?;
        assert!(!output.status.success(), "{rows} was accepted");
        assert!(told.contains(&format!("--json {rows}: {reason}")), "{told}");
    }
    assert_eq!(std::fs::read_to_string(&file)?, "mine\n");
    Ok(())
}
