//! Pages for scripts/browser-tests.

use super::page::{hostile, not_finite};
use super::run::{as_of, run};
use crate::support::tiny_run::alone;
use crate::support::TestResult;
use once_for_both::report::Report;
use std::path::PathBuf;

#[test]
#[ignore = "scripts/browser-tests runs it, and then opens the pages"]
fn writes_pages_for_the_browser() -> TestResult {
    let _alone = alone();
    let root = PathBuf::from(std::env::var("OFB_REPORT_PAGES")?);
    let whole = run()?;
    let plain = Report {
        stages: whole.stages[..1].to_vec(),
        dense: whole.dense.clone(),
        title: "Dense training only".into(),
        ..Report::default()
    };
    let pages = [
        ("report", whole.clone()),
        ("under-way", as_of(&whole, 40)),
        ("just-begun", as_of(&whole, 0)),
        ("plain", plain),
        ("empty", Report::default()),
        ("hostile", hostile(&whole)),
        ("not-finite", not_finite(&whole)),
    ];
    for (name, report) in pages {
        report.write(root.join(format!("{name}.html")))?;
    }
    Ok(())
}
