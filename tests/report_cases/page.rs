//! The page itself, without a browser.

use super::run::{as_of, run};
use crate::assert_refused;
use crate::support::tiny_run::alone;
use crate::support::TestResult;
use once_for_both::report::{NetworkFigures, Report, Stage};
use once_for_both::search::{Event, NonFiniteAction};
use once_for_both::Error;

const EVIL: &str = "\"><script>alert('x')</script><img src=x onerror=alert(1)>&";

/// The report with markup wherever there is text.
pub fn hostile(report: &Report) -> Report {
    let mut report = report.clone();
    (report.title, report.config) = (EVIL.into(), EVIL.into());
    report.facts.push((EVIL.into(), EVIL.into()));
    report.stages.iter_mut().for_each(|stage| stage.name = EVIL.into());
    report.samples.iter_mut().for_each(|sample| sample.label = EVIL.into());
    report.latency.iter_mut().for_each(|latency| latency.device = EVIL.into());
    for event in report.stages.iter_mut().flat_map(|stage| &mut stage.events) {
        if let Event::Step(metrics) = event {
            let some = metrics.dimensions.values().next().copied();
            metrics.dimensions.extend(some.map(|dimension| (EVIL.into(), dimension)));
        }
    }
    report
}

/// The report with numbers that are none, and what the guards said of them.
pub fn not_finite(report: &Report) -> Report {
    let mut report = report.clone();
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300];
    for stage in &mut report.stages {
        for event in &mut stage.events {
            let Event::Step(metrics) = event else { continue };
            if metrics.step % 7 < 3 {
                let value = odd[metrics.step as usize % odd.len()];
                metrics.loss.task = value;
                metrics.loss.total = f64::NAN;
                metrics.macs_expected = f64::INFINITY;
                metrics.lambda = f64::NAN;
                metrics.dimensions.values_mut().for_each(|dimension| dimension.entropy = value);
            }
        }
        let guard = |step, action| Event::NonFinite { step, skipped: 9, in_a_row: 5, action };
        stage.events.push(guard(12, NonFiniteAction::Skipped));
        stage.events.push(guard(8, NonFiniteAction::RolledBack));
    }
    report.dense = report.dense.map(|dense| NetworkFigures { macs: f64::NAN, ..dense });
    report.latency.iter_mut().for_each(|latency| latency.subnet_ms = 0.0);
    report
}

#[test]
fn the_page_of_a_run_whole_and_under_way() -> TestResult {
    let _alone = alone();
    let report = run()?;
    let page = report.html()?;
    well_formed(&page)?;
    for words in ["Architecture", "Budget", "Decisions", "Accuracy", "Losses", "Schedules"] {
        assert!(page.contains(&format!("<h2>{words}</h2>")), "{words}");
    }
    assert_eq!(page.matches("data:image/png;base64,").count(), 3 * report.samples.len());
    assert!(page.contains("finished") && page.contains("Reconstruction"));
    // Twelve attentions, twelve hidden widths and the embedding are decided.
    assert_eq!(page.matches("dot-mark").count() - page_of_style("dot-mark"), 25);
    fetches_nothing(&page);

    // A subnet is there, and fine-tuning is under way.
    let mut tuned = report.clone();
    let mut more = Stage { name: "finetune".into(), steps: Some(100), events: Vec::new() };
    more.events.push(Event::Evaluated { step: 30, top1: f64::NAN });
    tuned.stages.push(more);
    let page = tuned.html()?;
    assert!(page.contains("finetune: step 30 of 100") && !page.contains(">finished<"));

    let early = as_of(&report, 40).html()?;
    well_formed(&early)?;
    assert!(early.contains("search: step 40 of 100, 40.0 %"), "state");
    assert!(early.contains("expected, of"));
    assert!(early.len() < 700_000, "{} bytes", early.len());

    for (odd, what) in [(hostile(&report), "hostile"), (not_finite(&report), "not finite")] {
        let page = odd.html()?;
        well_formed(&page).map_err(|error| format!("{what}: {error}"))?;
        assert!(!page.contains("NaN") && !page.contains("<script>alert"), "{what}");
        assert!(!page.contains("=\"inf") && !page.contains("<img src=x"), "{what}");
    }
    Ok(())
}

/// How often the style names it.
fn page_of_style(what: &str) -> usize {
    Report::default().html().map_or(0, |page| page.matches(what).count())
}

/// The page has everything in itself.
fn fetches_nothing(page: &str) {
    for part in ["http://", "https://", "url(", "@import", "fetch(", "import("] {
        let found: Vec<_> = page.match_indices(part).map(|(at, _)| &page[at..at + 40]).collect();
        // The name of SVG's namespace is no address.
        let found: Vec<_> = found.iter().filter(|at| !at.contains("www.w3.org/2000/svg")).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn pages_of_little() -> TestResult {
    let stage = |events: Vec<Event>| Stage { name: "search".into(), steps: Some(10), events };
    let vit = NetworkFigures::of(&super::run::vit())?;
    let with = |report: Report| Report { dense: Some(vit.clone()), ..report };
    let stages = |stages: Vec<Stage>| Report { stages, ..Report::default() };
    let one_point = vec![Event::Evaluated { step: 0, top1: 0.1 }];
    for report in [
        Report::default(),
        with(Report::default()),
        stages(vec![stage(vec![])]),
        with(stages(vec![stage(vec![])])),
        with(stages(vec![stage(one_point), Stage::default()])),
    ] {
        well_formed(&report.html()?)?;
    }
    Ok(())
}

#[test]
fn a_page_is_written_whole_or_not_at_all() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("report.html");
    Report::default().write(&path)?;
    assert_eq!(std::fs::read_to_string(&path)?, Report::default().html()?);
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    assert_refused!(Report::default().write(folder.path().join("no/where.html")), Error::Io { .. });
    Ok(())
}

/// Every tag is closed, in order, and every attribute is quoted.
fn well_formed(page: &str) -> TestResult {
    const VOID: [&str; 5] = ["meta", "link", "img", "br", "!DOCTYPE"];
    let (mut open, mut rest) = (Vec::new(), page);
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        let end = tag.find('>').ok_or("a tag that does not end")?;
        let (tag, behind) = (&tag[..end], &tag[end + 1..]);
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if tag.matches('"').count() % 2 == 1 {
            return Err(format!("quotes of <{tag}>").into());
        }
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes something else").into());
            }
        } else if matches!(name, "script" | "style") {
            // No markup inside.
            let end = format!("</{name}>");
            rest = &rest[rest.find(&end).ok_or("it does not end")? + end.len()..];
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("{open:?} stay open").into())
    }
}
