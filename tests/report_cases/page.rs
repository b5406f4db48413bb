//! HTML of the page, checked without a browser; pages for scripts/browser-tests.

use super::small_run::{as_of, run};
use crate::assert_refused;
use crate::support::tiny_run::alone;
use crate::support::TestResult;
use once_for_both::models::{SwinConfig, VitConfig};
use once_for_both::report::{NetworkFigures, Report, Stage, StageSizes};
use once_for_both::search::{
    read_events, DimensionMetrics, Event, Finished, Listener, Losses, MetricsFile, NonFiniteAction,
    Phase, Pruned, StepMetrics,
};
use once_for_both::Error;
use std::path::PathBuf;

const EVIL: &str = "\"><script>alert('x')</script><img src=x onerror=alert(1)>&";

/// The report with markup in every text.
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

/// The report with non-finite numbers and the events they cause.
pub fn not_finite(report: &Report) -> Report {
    let mut report = report.clone();
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300];
    for stage in &mut report.stages {
        for event in &mut stage.events {
            let Event::Step(metrics) = event else { continue };
            if metrics.step % 7 < 3 {
                let value = values[metrics.step as usize % values.len()];
                metrics.loss.task = value;
                metrics.loss.total = f64::NAN;
                metrics.macs_expected = f64::INFINITY;
                metrics.lambda = f64::NAN;
                metrics.dimensions.values_mut().for_each(|dimension| dimension.entropy = value);
            }
        }
        let non_finite = |step, action| {
            let first = vec!["task <loss>".into()];
            Event::NonFinite { step, skipped: 9, in_a_row: 5, action, first, unusable: Vec::new() }
        };
        stage.events.push(non_finite(12, NonFiniteAction::Skipped));
        stage.events.push(non_finite(8, NonFiniteAction::RolledBack));
    }
    report.dense = report.dense.map(|dense| NetworkFigures { macs: f64::NAN, ..dense });
    report.latency.iter_mut().for_each(|latency| latency.subnet_ms = 0.0);
    report
}

const TITLES: [&str; 10] = [
    "Architecture",
    "Cost and budget",
    "Decisions",
    "Accuracy",
    "Losses",
    "Schedules",
    "Masked image modeling",
    "Latency",
    "Events",
    "Options",
];

/// Each stage has its embedding, and its blocks are numbered within it.
#[test]
fn architecture_of_a_swin_is_drawn_stage_by_stage_finished_or_under_way() -> TestResult {
    let swin = |widths: [i64; 2]| -> TestResult<NetworkFigures> {
        let mut config = SwinConfig::uniform(16, &[1, 2], 2).input(8, 3, 1).window(4);
        config.stages.iter_mut().zip(widths).for_each(|(stage, width)| stage.embed_dim = width);
        let stages = StageSizes::of_swin(&config);
        Ok(NetworkFigures { stages, ..NetworkFigures::of(&VitConfig::deit_tiny())? })
    };
    let of = |dimension: &str, heads, channels| Event::Decided {
        step: 1,
        dimension: dimension.into(),
        heads,
        channels,
    };
    let events = vec![
        of("layers.1.embed", 1, 24),
        of("layers.1.blocks.1.attn", 3, 5),
        of("layers.0.blocks.0.mlp", 1, 48),
        Event::Finished(Finished { step: 2, projected: 0, costs: vec![3e6] }),
    ];
    let stages = vec![Stage { name: "search".into(), steps: Some(2), events }];
    let dense = Some(swin([16, 32])?);
    let mut report = Report { dense, stages, ..Report::default() };
    let page = report.html()?;
    for part in ["channels, of 16, 32", "24 of 32", "1.1: 3×5", "0.0: 48 of 64", ">1.1</text>"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("removed"));
    report.stages[0].events.push(of("layers.1.blocks.0.attn", 0, 0));
    report.stages[0].events.push(of("layers.1.blocks.1.mlp", 0, 0));
    let removing = report.html()?;
    for part in ["1.0: removed", "1.1: removed of 128", "0: removed, the whole branch."] {
        assert!(removing.contains(part), "{part}");
    }
    report.subnet = Some(swin([12, 20])?);
    let page = report.html()?;
    assert!(page.contains("12 of 16, 20 of 32"));
    well_formed(&page)
}

/// With decisions by the estimated loss, expected sizes are whole numbers.
#[test]
fn whole_expected_width_is_drawn_as_expected_until_it_is_decided() -> TestResult {
    let _alone = alone();
    let mut report = as_of(&run()?, 3);
    let search = report.stages.last_mut().ok_or("no search")?;
    search.events.retain(|event| matches!(event, Event::Step(_)));
    for event in &mut search.events {
        let Event::Step(metrics) = event else { continue };
        metrics.dimensions.values_mut().for_each(|own| own.expected = own.expected.round());
    }
    let drawn = |report: &Report| -> TestResult<(String, usize)> {
        let page = report.html()?;
        let decided = page.matches("<rect class=\"kept\"").count();
        Ok((page, decided))
    };
    let (page, before) = drawn(&report)?;
    assert!(page.contains("<rect class=\"kept open\"") && page.contains('≈'));
    let embed = Event::Decided { step: 1, dimension: "embed".into(), heads: 1, channels: 8 };
    report.stages.last_mut().ok_or("no search")?.events.push(embed);
    let (_, after) = drawn(&report)?;
    assert_eq!(after, before + 1, "the bar of the embedding");
    Ok(())
}

#[test]
fn page_of_a_run_finished_or_under_way_is_complete_and_well_formed() -> TestResult {
    let _alone = alone();
    let report = run()?;
    let page = report.html()?;
    well_formed(&page)?;
    for title in TITLES {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}");
    }
    assert_eq!(page.matches("data:image/png;base64,").count(), 3 * report.samples.len());
    assert!(page.contains("finished") && page.contains("Reconstruction loss"));
    assert!(page.contains("expected cost") && page.contains("current cost"));
    assert!(page.contains("may be measured above it") && !page.contains("defaults filled in"));
    // Twelve attentions, twelve hidden widths and the embedding are decided.
    assert_eq!(page.matches("dot-mark").count() - count_in_style("dot-mark"), 25);
    fetches_nothing(&page);

    let mut tuned = report.clone();
    let mut more = Stage { name: "finetune".into(), steps: Some(100), events: Vec::new() };
    more.events.push(Event::Evaluated { step: 30, top1: f64::NAN });
    tuned.stages.push(more);
    let page = tuned.html()?;
    assert!(page.contains("finetune: step 30 of 100") && !page.contains(">finished<"));

    let early = as_of(&report, 40).html()?;
    well_formed(&early)?;
    assert!(early.contains("search: step 40 of 100, 40.0 %"), "state");
    assert!(early.contains("MACs, expected cost"));
    assert!(early.len() < 700_000, "{} bytes", early.len());

    for (odd, what) in [(hostile(&report), "hostile"), (not_finite(&report), "not finite")] {
        let page = odd.html()?;
        well_formed(&page).map_err(|error| format!("{what}: {error}"))?;
        assert!(!page.contains("NaN") && !page.contains("<script>alert"), "{what}");
        assert!(!page.contains("=\"inf") && !page.contains("<img src=x"), "{what}");
    }
    Ok(())
}

/// One event of each kind.
fn one_of_each() -> Vec<Event> {
    let dimension = DimensionMetrics { entropy: 0.5, expected: 24.0 };
    let step = StepMetrics {
        step: 1,
        phase: Phase::Search,
        loss: Losses { task: 2.0, total: 2.0, ..Losses::default() },
        lambda: 0.99,
        mask_ratio: 0.05,
        macs_expected: 3e6,
        macs_current: 4e6,
        lr: 1e-3,
        skipped: 0,
        step_ms: 12.5,
        dimensions: [("embed".into(), dimension)].into(),
    };
    let pruned = Pruned {
        step: 2,
        units: [("embed".into(), [48, 32])].into(),
        gate_jump: 0.0,
        exact_difference: 0.0,
        embedding_jump: 0.1,
        total_jump: 0.1,
        logit_scale: 5.0,
        macs: 3e6,
    };
    let first = Vec::new;
    let non_finite = |action| Event::NonFinite {
        step: 2,
        skipped: 9,
        in_a_row: 5,
        action,
        first: first(),
        unusable: first(),
    };
    vec![
        Event::Step(step),
        Event::Pruned(pruned),
        Event::Decided { step: 2, dimension: "embed".into(), heads: 1, channels: 32 },
        Event::Finished(Finished { step: 2, projected: 0, costs: vec![3e6] }),
        Event::Checkpoint { step: 2 },
        non_finite(NonFiniteAction::Skipped),
        non_finite(NonFiniteAction::RolledBack),
        non_finite(NonFiniteAction::Stopped),
        Event::Evaluated { step: 2, top1: 0.5 },
    ]
}

/// readout.js marks values at an end of the axis by this attribute.
#[test]
fn chart_with_a_loss_beyond_its_axis_says_at_which_end() -> TestResult {
    let of = |outlier: Option<f64>| -> TestResult<bool> {
        let Event::Step(step) = &one_of_each()[0] else { return Err("no step".into()) };
        let logged = |at: u64| {
            let mut step = StepMetrics { step: at, ..step.clone() };
            step.loss.task = outlier.filter(|_| at == 20).unwrap_or(1.0 + 0.01 * at as f64);
            Event::Step(step)
        };
        let events = (1..41).map(logged).collect();
        let stages = vec![Stage { name: "search".into(), steps: Some(40), events }];
        let page = Report { stages, ..Report::default() }.html()?;
        Ok(page.contains("data-cut=\"above\""))
    };
    assert!(of(Some(1e6))? && !of(None)?);
    Ok(())
}

#[test]
fn metrics_file_with_every_kind_of_event_is_read_back_into_a_page() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("metrics.jsonl");
    let events = one_of_each();
    let mut file = MetricsFile::open(&path, 0)?;
    events.iter().try_for_each(|event| file.on_event(event))?;
    let text = std::fs::read_to_string(&path)?;
    for tag in [r#""event":"pruned""#, r#""event":"non_finite""#, r#""macs_current":"#] {
        assert!(text.contains(tag), "{tag}: {text}");
    }
    for action in ["skipped", "rolled_back", "stopped"] {
        assert!(text.contains(&format!(r#""action":"{action}""#)), "{action}: {text}");
    }
    assert_eq!(read_events(&path)?, events);
    let stage = Stage { name: "search".into(), steps: Some(100), events };
    let page = Report { stages: vec![stage], ..Report::default() }.html()?;
    well_formed(&page)?;
    assert!(page.contains("prune steps: 1") && page.contains("run stopped"), "{page}");
    Ok(())
}

#[test]
fn events_with_numbers_that_are_not_finite_are_kept_and_read_as_nan() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("metrics.jsonl");
    let mut events = one_of_each();
    for event in &mut events {
        match event {
            Event::Step(metrics) => metrics.loss.task = f64::NEG_INFINITY,
            Event::Pruned(pruned) => (pruned.total_jump, pruned.macs) = (f64::NAN, f64::INFINITY),
            Event::Evaluated { top1, .. } => *top1 = f64::NAN,
            _ => {}
        }
    }
    let mut file = MetricsFile::open(&path, 0)?;
    events.iter().try_for_each(|event| file.on_event(event))?;
    drop(file);
    // As at a resumption after three steps.
    MetricsFile::open(&path, 3)?;
    let read = read_events(&path)?;
    let is_nan = |event: &Event| match event {
        Event::Step(metrics) => metrics.loss.task.is_nan() && metrics.loss.total == 2.0,
        Event::Pruned(own) => own.total_jump.is_nan() && own.macs.is_nan() && own.gate_jump == 0.0,
        Event::Evaluated { top1, .. } => top1.is_nan(),
        _ => false,
    };
    assert_eq!((read.len(), read.iter().filter(|own| is_nan(own)).count()), (events.len(), 3));
    let stage = Stage { name: "search".into(), steps: Some(100), events: read };
    let page = Report { stages: vec![stage], ..Report::default() }.html()?;
    well_formed(&page)?;
    assert!(page.contains("prune steps: 1") && !page.contains("NaN"), "{page}");
    Ok(())
}

/// Occurrences of a class name in the style sheet.
fn count_in_style(what: &str) -> usize {
    Report::default().html().map_or(0, |page| page.matches(what).count())
}

/// The page refers to no other resource.
fn fetches_nothing(page: &str) {
    for part in ["http://", "https://", "url(", "@import", "fetch(", "import("] {
        let found: Vec<_> = page.match_indices(part).map(|(at, _)| &page[at..at + 40]).collect();
        // The SVG namespace is a name, not an address.
        let found: Vec<_> = found.iter().filter(|at| !at.contains("www.w3.org/2000/svg")).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn page_of_empty_or_partial_report_is_well_formed() -> TestResult {
    let stage = |events: Vec<Event>| Stage { name: "search".into(), steps: Some(10), events };
    let vit = NetworkFigures::of(&super::small_run::vit())?;
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
fn write_leaves_one_complete_file_or_is_refused() -> TestResult {
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
        let end = tag.find('>').ok_or("a tag without its end")?;
        let (tag, behind) = (&tag[..end], &tag[end + 1..]);
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if tag.matches('"').count() % 2 == 1 {
            return Err(format!("quotes of <{tag}>").into());
        }
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes another element").into());
            }
        } else if matches!(name, "script" | "style") {
            // Their content is not markup.
            let end = format!("</{name}>");
            rest = &rest[rest.find(&end).ok_or("a script or style without its end")? + end.len()..];
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("not closed: {open:?}").into())
    }
}

#[test]
#[ignore = "writes the pages that scripts/browser-tests opens"]
fn writes_pages_for_the_browser() -> TestResult {
    let _alone = alone();
    let root = PathBuf::from(std::env::var("OFB_REPORT_PAGES")?);
    let finished = run()?;
    let plain = Report {
        stages: finished.stages[..1].to_vec(),
        dense: finished.dense.clone(),
        title: "Dense training only".into(),
        ..Report::default()
    };
    let pages = [
        ("report", finished.clone()),
        ("under-way", as_of(&finished, 40)),
        ("just-begun", as_of(&finished, 0)),
        ("plain", plain),
        ("empty", Report::default()),
        ("hostile", hostile(&finished)),
        ("not-finite", not_finite(&finished)),
    ];
    for (name, report) in pages {
        report.write(root.join(format!("{name}.html")))?;
    }
    Ok(())
}
