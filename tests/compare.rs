//! The example `compare`: rows in parallel and of its file, tables, ablations and refusals.

#[path = "compare_cases/latency.rs"]
mod latency;
#[path = "../examples/support/paired.rs"]
mod paired;
#[path = "support/program.rs"]
mod program;

use program::program;
use std::error::Error;
use std::process::{Command, Output};

type TestResult = Result<(), Box<dyn Error>>;

fn compare(rows: &str, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    compare_by(1, rows, arguments)
}

fn compare_by(ranks: usize, rows: &str, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pretrained/fashion-mnist");
    let brief = ["--weights", weights, "--batch", "8", "--validate", "8"];
    let steps = ["--dense-steps", "1", "--plain-interval", "0", "--device", "cpu"];
    let length: &[&str] = if arguments.contains(&"--steps") { &[] } else { &["--steps", "2"] };
    let mut command = match ranks {
        1 => Command::new(program("compare")?),
        _ => Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ranks.py")),
    };
    if ranks > 1 {
        command.arg(ranks.to_string()).arg(program("compare")?);
    }
    // Tests run in parallel: one thread each.
    command.env("OMP_NUM_THREADS", "1");
    command.args(brief).args(steps).args(length).args(["--search", "0.5", "--json", rows]);
    command.args(arguments);
    Ok(command.output()?)
}

/// The dense network is trained, stored, and taken again by a process of its own.
#[test]
fn methods_are_compared_on_a_swin() -> TestResult {
    let folder = tempfile::tempdir()?;
    let rows = folder.path().join("rows.jsonl");
    let output = Command::new(program("compare")?)
        .env("OMP_NUM_THREADS", "1")
        .args(["--network", "swin", "--methods", "ours,scratch", "--jobs", "1", "--batch", "8"])
        .args(["--validate", "8", "--dense-steps", "1", "--steps", "2", "--search", "0.5"])
        .args(["--plain-interval", "0", "--device", "cpu", "--json"])
        .arg(&rows)
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let rows = std::fs::read_to_string(rows)?;
    let rows: Vec<serde_json::Value> =
        rows.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(rows.len(), 2, "{told}");
    for row in &rows {
        assert!(row["macs"].as_f64().is_some_and(|share| share <= 0.5), "{row}");
        assert!(row["sizes"]["layers.1.embed"].is_object(), "{row}");
    }
    Ok(())
}

#[test]
fn methods_are_compared_with_queries_and_keys_apart_from_values() -> TestResult {
    let folder = tempfile::tempdir()?;
    let rows = folder.path().join("rows.jsonl");
    let apart = ["--qk-v-apart", "--methods", "ours,even,scratch"];
    succeeds(rows.to_str().ok_or("path")?, &apart)?;
    for row in std::fs::read_to_string(rows)?.lines() {
        let row: serde_json::Value = serde_json::from_str(row)?;
        assert!(row["macs"].as_f64().is_some_and(|share| share <= 0.5), "{row}");
        assert!(row["sizes"]["blocks.0.attn.qk"].is_object(), "{row}");
    }
    Ok(())
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

/// Returns standard output and standard error of a call that succeeds.
fn succeeds(rows: &str, arguments: &[&str]) -> Result<[String; 2], Box<dyn Error>> {
    let output = compare(rows, arguments)?;
    let told = String::from_utf8(output.stderr)?;
    match output.status.success() {
        true => Ok([String::from_utf8(output.stdout)?, told]),
        false => Err(format!("{arguments:?}: {told}").into()),
    }
}

#[test]
fn tables_of_rows_in_parallel_processes_are_those_of_their_file() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    let wanted =
        ["--methods", "even,random-sizes", "--draws", "2", "--curve", "0,1", "--steps", "4"];
    let [measured, told] = succeeds(rows, &[&wanted[..], &["--jobs", "2"]].concat())?;
    assert!(told.contains("row 3 of 3: "), "{told}");
    assert!(measured.contains("random-sizes (best of 2)"), "{measured}");
    let even = |line: &&str| line.starts_with("even") && line.contains("+0.0000 (0.0000)");
    assert_eq!(measured.lines().filter(even).count(), 1, "{measured}");
    let text = std::fs::read_to_string(&file)?;
    let [read, told] = succeeds(rows, &wanted)?;
    assert_eq!((read, told.as_str()), (measured, ""));
    assert_eq!(std::fs::read_to_string(&file)?, text);

    let row: serde_json::Value = serde_json::from_str(text.lines().next().ok_or("no row")?)?;
    let after: Vec<_> =
        row["curve"].as_array().ok_or("no curve")?.iter().map(|p| &p["after"]).collect();
    assert_eq!(after, [0, 1, 2]);
    let heads = row["sizes"]["blocks.3.attn"]["heads"].as_i64();
    assert!(matches!(heads, Some(2 | 4)), "{row}");
    assert_eq!(row["nll"].as_str().map(str::len), Some(24), "8 images of two bytes in base64");
    assert!(row["macs"].as_f64() < Some(0.5) && row["seconds"].as_f64() > Some(0.0), "{row}");
    Ok(())
}

#[cfg(feature = "distributed")]
#[test]
fn ranks_with_other_arguments_are_refused() -> TestResult {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ranks.py"));
    let choose = r#"exec "$0" --weights none --device cpu --batch 1$RANK"#;
    let output = command.args(["2", "sh", "-c", choose]).arg(program("compare")?).output()?;
    let told = String::from_utf8(output.stderr)?;
    assert!(!output.status.success(), "{told}");
    let expected = "error: arguments of rank 1: got --weights none --device cpu --batch 11";
    assert!(told.contains(&format!("rank 0: {expected}")), "{told}");
    Ok(())
}

#[cfg(feature = "distributed")]
#[test]
fn rows_of_two_ranks_are_those_of_one_process() -> TestResult {
    let folder = tempfile::tempdir()?;
    let wanted = ["--methods", "even,random-sizes", "--draws", "2"];
    let mut found = Vec::new();
    for ranks in [1, 2] {
        let file = folder.path().join(format!("{ranks}.jsonl"));
        let output = compare_by(ranks, file.to_str().ok_or("not UTF-8")?, &wanted)?;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains("row 3 of 3: "), "{told}");
        let rows = std::fs::read_to_string(&file)?;
        let rows = rows.lines().map(serde_json::from_str::<serde_json::Value>);
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        let own =
            |row: &serde_json::Value| [&row["method"], &row["draw"], &row["nll"]].map(Clone::clone);
        found.push(rows.iter().map(own).collect::<Vec<_>>());
    }
    assert_eq!(found[0], found[1]);
    let file = folder.path().join("3.jsonl");
    let refused = compare_by(2, file.to_str().ok_or("not UTF-8")?, &["--jobs", "2"])?;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("got --jobs"), "{told}");
    Ok(())
}

#[test]
fn ablation_prints_a_line_of_every_value_and_measures_the_default_once() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    let wanted = ["--methods", "even", "--ablate", "budget.weight=1,5", "--ablate", "loss_scale=1"];
    let [printed, _] = succeeds(rows, &wanted)?;
    assert_eq!(std::fs::read_to_string(&file)?.lines().count(), 2, "{printed}");
    let table = printed.split("even at 0.5, option").nth(1).ok_or("no table of changes")?;
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    let default = lines[1][2..].to_vec();
    for (line, start) in [
        (1, ["none", "default"]),
        (2, ["budget.weight", "1"]),
        (3, ["budget.weight", "5"]),
        (4, ["loss_scale", "1"]),
    ] {
        assert_eq!(lines[line][..2], start, "{table}");
        // The even narrowing depends on no weight of the budget either.
        assert_eq!(lines[line][2..], default, "{table}");
    }
    assert_eq!(default[3..], ["+0.0000", "(0.0000)"], "{table}");
    Ok(())
}

#[test]
fn hidden_layers_keep_the_share_that_is_asked_for() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    succeeds(rows, &["--methods", "even", "--budgets", "0.8", "--least-hidden", "1"])?;
    let row: serde_json::Value = serde_json::from_str(std::fs::read_to_string(&file)?.trim())?;
    assert_eq!(row["terms"]["least_hidden"], 1.0);
    let dense = &row["terms"]["network"]["blocks"][0]["hidden_dim"];
    assert_eq!(&row["sizes"]["blocks.0.mlp"]["channels"], dense, "{row}");
    Ok(())
}

#[test]
fn row_that_fails_is_named_and_the_others_are_kept() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    let wanted = ["--methods", "learned", "--distil", "0", "--steps", "20", "--jobs", "2"];
    let failing = ["--ablate", "loss_scale=1e38"];
    let output = compare(rows, &[&wanted[..], &failing].concat())?;
    let (printed, told) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(!output.status.success(), "{told}");
    let name = "learned, budget 0.5, seed 0, loss_scale=1e38";
    assert!(told.contains(&format!("{name}: failed: training diverged: ")), "{told}");
    assert!(told.ends_with(&format!("error: 1 of the rows failed: {name}\n")), "{told}");
    assert_eq!(std::fs::read_to_string(&file)?.lines().count(), 1, "{told}");
    assert!(printed.lines().any(|line| line.starts_with("learned ")), "{printed}");
    Ok(())
}

#[test]
fn fade_out_of_sizes_known_beforehand_may_be_longer_than_a_tenth_of_the_search() -> TestResult {
    let folder = tempfile::tempdir()?;
    let rows = folder.path().join("rows.jsonl");
    let rows = rows.to_str().ok_or("not UTF-8")?;
    for fade_out in ["3", "0"] {
        let wanted = ["--methods", "even", "--steps", "8", "--fade-out", fade_out];
        let [printed, _] = succeeds(rows, &wanted)?;
        assert!(printed.lines().any(|line| line.starts_with("even ")), "{printed}");
    }
    Ok(())
}

#[test]
fn changes_of_a_method_whose_own_row_fails_are_printed_without_a_difference() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    let wanted = ["--methods", "learned,even", "--distil", "0", "--steps", "20", "--lr", "1e6"];
    let output =
        compare(rows, &[&wanted[..], &["--ablate", "optimiser.weight_rate.peak=1e-3"]].concat())?;
    let (printed, told) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(told.contains("learned, budget 0.5, seed 0: failed: "), "{told}");
    let table = printed.split("learned at 0.5, option").nth(1).ok_or("no table of changes")?;
    assert!(table.lines().nth(1).is_some_and(|line| line.ends_with(" -")), "{printed}{told}");
    Ok(())
}

/// It would have learned the images that judge.
#[test]
fn stored_dense_network_is_taken_again_only_for_the_same_training() -> TestResult {
    let folder = tempfile::tempdir()?;
    let dense = folder.path().join("dense");
    let dense = dense.to_str().ok_or("not UTF-8")?;
    let call = |arguments: &[&str]| -> Result<Output, Box<dyn Error>> {
        let mut command = Command::new(program("compare")?);
        command.env("OMP_NUM_THREADS", "1").args(["--methods", "even", "--batch", "8"]);
        command.args(["--steps", "2", "--search", "0.5", "--plain-interval", "0"]);
        command.args(["--device", "cpu", "--images", "80", "--dense", dense]).args(arguments);
        Ok(command.output()?)
    };
    let brief = ["--dense-steps", "2", "--validate", "8"];
    let first = call(&brief)?;
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let again = call(&brief)?;
    let table = |output: &Output| {
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.lines().find(|line| line.starts_with("dense: ")).map(str::to_string)
    };
    assert!(again.status.success() && table(&again).is_some());
    assert_eq!(table(&first), table(&again));
    for (arguments, reason) in [
        (["--dense-steps", "3", "--validate", "8"], "options.optimiser.weight_rate.total_steps: "),
        (["--dense-steps", "2", "--validate", "16"], "data.judge: was trained with 8, expected 16"),
    ] {
        let output = call(&arguments)?;
        let told = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && told.contains(reason), "{arguments:?}: {told}");
        assert!(told.contains(&format!("--dense {dense}: ")), "{told}");
    }
    Ok(())
}

#[test]
fn weights_of_a_run_are_those_of_its_dense_network() -> TestResult {
    let run = tempfile::tempdir()?;
    let network = run.path().join("dense/network");
    std::fs::create_dir_all(&network)?;
    for file in std::fs::read_dir(format!(
        "{}/examples/pretrained/fashion-mnist",
        env!("CARGO_MANIFEST_DIR")
    ))? {
        let file = file?;
        std::fs::copy(file.path(), network.join(file.file_name()))?;
    }
    let output = Command::new(program("compare")?)
        .env("OMP_NUM_THREADS", "1")
        .args(["--methods", "even", "--batch", "8", "--validate", "8", "--steps", "2"])
        .args(["--search", "0.5", "--plain-interval", "0", "--device", "cpu", "--weights"])
        .arg(run.path())
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.lines().any(|line| line.starts_with("even ")), "{printed}");
    Ok(())
}

/// Without the check, libtorch would name an index.
#[test]
fn weights_of_other_classes_are_refused_by_both_numbers() -> TestResult {
    let folder = tempfile::tempdir()?;
    let network = once_for_both::models::VitConfig::uniform(8, 1, 2).input(28, 1, 4).classes(5);
    let mut training = once_for_both::search::Search::of(network)
        .options(once_for_both::search::SearchOptions::training(1))
        .build()?;
    let images = tch::Tensor::zeros([2, 1, 28, 28], (tch::Kind::Float, tch::Device::Cpu));
    let weights = folder.path().join("five");
    training.extract(&images)?.save(&weights, &once_for_both::subnet::Export::f32())?;
    let output = Command::new(program("compare")?).arg("--weights").arg(weights).output()?;
    let told = String::from_utf8(output.stderr)?;
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("--weights: got one for 5 classes, expected 10 classes"), "{told}");
    Ok(())
}

/// The weight alone changes, not its fall over the fine-tuning.
#[test]
fn teacher_of_the_default_weight_is_the_default_row() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    succeeds(rows, &["--methods", "even", "--ablate", "teacher=0.9"])?;
    succeeds(rows, &["--methods", "even", "--distil", "0.9"])?;
    assert_eq!(std::fs::read_to_string(&file)?.lines().count(), 1);
    Ok(())
}

#[test]
fn row_half_written_by_a_killed_process_is_removed() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.jsonl");
    let rows = file.to_str().ok_or("not UTF-8")?;
    succeeds(rows, &["--methods", "scratch"])?;
    let whole = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{whole}{}", &whole[..100]))?;
    let [_, told] = succeeds(rows, &["--methods", "scratch"])?;
    assert_eq!((std::fs::read_to_string(&file)?, told.as_str()), (whole, ""));
    Ok(())
}

#[test]
fn call_that_cannot_be_measured_is_refused_before_the_first_row() -> TestResult {
    let folder = tempfile::tempdir()?;
    let rows = folder.path().join("rows.jsonl");
    let rows = rows.to_str().ok_or("not UTF-8")?;
    for (arguments, reason) in [
        (["--jobs", "0"], "'--jobs <JOBS>': 0 is not in 1.."),
        (["--ablate", "budgt.weight=2"], "--ablate budgt.weight=2: unknown option options.budgt"),
        (["--ablate", "budget.weight=-1"], "budget.weight: got -1, expected within [0, "),
        (["--ablate", "budget.weight"], "got no =, expected NAME=VALUE,VALUE"),
        (["--ablate", "teacher=on"], "teacher: got on, expected off, or a weight in [0, 1]"),
        (["--ablate", "loss_scale=0"], "loss_scale: got 0, expected a positive factor"),
        (["--ablate", "search_steps=0"], "search_steps=0: budget: got "),
        (["--ablate", "seed=1"], "options.seed: got 1, expected none here; set --seeds"),
        (
            ["--ablate", "total_steps=9"],
            "options.total_steps: got 9, expected none here; set --steps",
        ),
        (["--set", "training.accumulate=2"], "accumulate: got 2, expected none here; set --batch"),
        (["--methods", "our"], "--methods: got our, expected all, or some of ours, "),
        (["--curve", "2"], "--curve: got 2, expected at most the 1 steps of fine-tuning"),
        (["--budgets", "0.0001"], "ours, budget 0.0001, seed 0: "),
        (["--limit", "macs"], "--latency <FILE>"),
        (["--least-hidden", "2"], "--least-hidden: got 2, expected a share in [0, 1]"),
    ] {
        let output = compare(rows, &arguments)?;
        let told = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && told.contains(reason), "{arguments:?}: {told}");
    }
    Ok(())
}
