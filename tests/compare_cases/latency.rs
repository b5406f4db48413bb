//! Rows with a latency model.

use crate::{compare, succeeds, TestResult};

/// The first call measures the model, the others read its file.
#[test]
fn budgets_with_a_latency_model_limit_latency_or_macs_and_rows_have_both() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, model) = (path("rows.jsonl"), path("latency.json"));
    let wanted = ["--latency", &model, "--budgets", "0.7", "--jobs", "1"];
    for limit in [&["--limit", "latency"][..], &["--limit", "macs", "--methods", "ours,scratch"]] {
        succeeds(&file, &[&wanted[..], limit].concat())?;
    }
    let rows = std::fs::read_to_string(&file)?;
    let rows: Vec<serde_json::Value> =
        rows.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [latency, macs, scratch] = rows.as_slice() else { return Err("three rows".into()) };
    let within = |share: &serde_json::Value| share.as_f64().is_some_and(|share| share <= 0.7);
    assert!(within(&latency["latency"]["predicted"]), "{latency}");
    assert!(within(&macs["macs"]) && within(&scratch["macs"]), "{rows:?}");
    for row in &rows {
        assert!(row["latency"]["measured"].as_f64().is_some_and(|share| share > 0.0), "{row}");
    }
    assert_ne!(latency["sizes"], macs["sizes"]);

    // A row whose loss is scaled has the latency of the network.
    succeeds(&file, &[&wanted[..], &["--ablate", "loss_scale=5"]].concat())?;
    for (other, reason) in [
        (&["--qk-v-apart"][..], "architecture"),
        (&["--latency-batch", "2"], "images"),
        (&["--methods", "scratch"], "scratch: got budgets in latency, expected --limit macs"),
    ] {
        let output = compare(&file, &[&wanted[..], other].concat())?;
        let told = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && told.contains(reason), "{other:?}: {told}");
    }
    assert_eq!(std::fs::read_to_string(&file)?.lines().count(), 4);
    Ok(())
}
