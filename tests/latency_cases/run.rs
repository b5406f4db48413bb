//! A run under a latency budget: files, summary and report.

use crate::assert_refused;
use crate::device::SyntheticDevice;
use crate::support::small_run::{pipeline, PRESET, SETTINGS};
use crate::support::TestResult;
use once_for_both::error::{LatencyError, PipelineError};
use once_for_both::latency::{LatencyModel, MeasureOptions};
use once_for_both::pipeline::{
    inspect, write_report, CandidateChoice, Command, Config, Factors, Flags, InspectOptions,
    LatencySummary, MultipleOf, PipelineOutcome, Request, RunFolder,
};
use once_for_both::prelude::*;
use once_for_both::report::Report;
use once_for_both::search::{LatencyCheck, LatencyOutcome};
use once_for_both::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A small ViT on the images of this repository, under a latency budget.
fn config(run: &Path, latency: &str) -> TestResult<Config> {
    Ok(Request {
        default_preset: PRESET.into(),
        settings: SETTINGS.map(String::from).to_vec(),
        flags: Flags { latency: Some(latency.into()), ..Flags::default() },
        run: Some(run.into()),
        ..Request::default()
    }
    .resolve()?)
}

fn model(dense: &VitConfig) -> TestResult<LatencyModel> {
    let (device, options) =
        (SyntheticDevice::quiet(), MeasureOptions { networks: 40, ..MeasureOptions::default() });
    Ok(LatencyModel::measure(dense, &dense.space()?, &device, &options, &mut |_| Ok(()))?)
}

#[test]
fn candidates_at_steps_of_the_latency_need_a_latency_budget_and_narrow_the_space() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = config(&run, "0.7")?;
    config.space.candidates = CandidateChoice::LatencySteps;
    config.space.multiple_of = Some(MultipleOf::All(4));
    let model = model(pipeline(config.clone(), &run)?.dense())?;
    let file = folder.path().join("latency.json");
    model.write(&file)?;
    (config.latency.model, config.latency.elsewhere) = (Some(file.clone()), true);
    let PipelineOutcome::Finished { summary: Some(summary), .. } =
        pipeline(config.clone(), &run)?.run()?
    else {
        return Err("no summary".into());
    };
    let stepped = model.stepped(VitConfig::uniform(32, 2, 2).space()?)?;
    for own in &summary.sizes {
        assert!(own.subnet.channels % 4 == 0, "{own:?}");
        let dimension = stepped.dimensions.iter().find(|known| known.name == own.dimension);
        let widths = dimension.ok_or("unknown dimension")?.candidates.widths().len();
        assert!(widths > 1, "{own:?}");
    }
    // What the file is, and what a head costs.
    let told = inspect(&file, &InspectOptions::default())?.to_string();
    assert!(told.contains("latency model") && told.contains("a channel costs"), "{told}");
    assert!(told.contains('█'), "{told}");
    let told = inspect(&run, &InspectOptions::default())?;
    assert!(told.is_accepted() && told.to_string().contains("latency.json"), "{told}");
    std::fs::write(RunFolder::new(&run).latency(), "{\"format\": \"once-for-both/latency\"}")?;
    assert!(!inspect(&run, &InspectOptions::default())?.is_accepted());

    config.budget.latency = None;
    config.budget.macs = Some("0.5".into());
    assert_refused!(config.check(), Error::Invalid { name, .. } if name == "space.candidates");
    config.space.candidates = CandidateChoice::All;
    config.space.multiple_of =
        Some(MultipleOf::Kinds(Factors { hidden: Some(0), ..Factors::default() }));
    assert_refused!(config.check(), Error::Invalid { name, .. } if name == "space.multiple_of.hidden");
    Ok(())
}

#[test]
fn run_under_a_latency_budget_shows_asked_and_predicted_in_summary_and_report() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = config(&run, "0.7")?;
    let model = model(pipeline(config.clone(), &run)?.dense())?;
    let file = folder.path().join("latency.json");
    model.write(&file)?;
    (config.latency.model, config.latency.elsewhere) = (Some(file), true);
    let pipeline = pipeline(config, &run)?;
    let PipelineOutcome::Finished { summary: Some(summary), .. } = pipeline.run()? else {
        return Err("no summary".into());
    };
    let own = summary.latency.as_ref().ok_or("no latency")?;
    assert_eq!(own.dense_ms, model.dense_ms);
    assert!(own.check.predicted_ms <= own.check.asked_ms && own.check.measured.is_none());
    assert_eq!(summary.budgets.len(), 1);
    let text = summary.to_string();
    assert!(!text.contains("removed"), "{text}");
    assert!(text.contains("latency asked") && text.contains("not on this device"), "{text}");
    assert!(text.contains("the prediction alone holds"), "{text}");
    let check = LatencyCheck { outcome: LatencyOutcome::CorrectionsUsedUp, ..own.check };
    let missed = LatencySummary { check, ..own.clone() }.to_string();
    assert!(missed.contains("; still slower than asked: corrections used up;"), "{missed}");
    assert_eq!(LatencyModel::read(RunFolder::new(&run).latency())?, model);
    let page = std::fs::read_to_string(run.join("report.html"))?;
    for text in [
        "predicted, ms",
        "the prediction alone holds",
        "milliseconds",
        "Latency by dimension",
        "one of 2 equal",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // Without depth, no branch is removed.
    assert!(page.contains("each row is a head") && !page.contains(": removed"));
    Ok(())
}

/// The dense network is trained as timm has it; the latency is measured of that with queries and keys apart.
#[test]
fn report_of_training_for_a_search_with_queries_and_keys_apart_has_its_latency() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = config(&run, "0.7")?;
    (config.command, config.space.qk_v_apart) = (Some(Command::Train), true);
    let searched = config.space.searched(pipeline(config.clone(), &run)?.dense())?;
    let (model, file) = (model(&searched)?, folder.path().join("latency.json"));
    model.write(&file)?;
    (config.latency.model, config.latency.elsewhere) = (Some(file), true);
    pipeline(config, &run)?.run()?;
    model.write(RunFolder::new(&run).latency())?;
    let page = std::fs::read_to_string(write_report::<VitConfig>(&RunFolder::new(&run))?)?;
    assert!(page.contains("Latency by dimension"));
    Ok(())
}

#[test]
fn inspected_latency_model_with_removable_branches_shows_what_a_removal_saves() -> TestResult {
    let (device, options) =
        (SyntheticDevice::quiet(), MeasureOptions { networks: 40, ..MeasureOptions::default() });
    let dense = VitConfig::uniform(64, 2, 2).input(32, 3, 8).classes(10);
    let space = dense.space()?.removable_branches();
    let model = LatencyModel::measure(&dense, &space, &device, &options, &mut |_| Ok(()))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("latency.json");
    model.write(&file)?;
    let told = inspect(&file, &InspectOptions::default())?.to_string();
    assert_eq!(told.matches("  removed").count(), 2, "{told}");
    Ok(())
}

#[test]
fn run_with_a_latency_model_of_another_device_is_refused_with_both_names() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = config(&run, "0.7")?;
    let dense = pipeline(config.clone(), &run)?.dense().clone();
    let file = folder.path().join("latency.json");
    model(&dense)?.write(&file)?;
    config.latency.model = Some(file);
    assert_refused!(
        pipeline(config, &run)?.run(),
        Error::Latency(LatencyError::Differs { what: "device", ref measured, ref present })
            if measured == "synthetic" && present != "synthetic"
    );
    Ok(())
}

#[test]
fn latency_model_of_another_device_in_the_run_folder_is_refused_with_both_names() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let config = config(&run, "0.7")?;
    let dense = pipeline(config.clone(), &run)?.dense().clone();
    std::fs::create_dir_all(&run)?;
    std::fs::write(RunFolder::new(&run).config(), config.to_toml()?)?;
    model(&dense)?.write(RunFolder::new(&run).latency())?;
    assert_refused!(
        pipeline(config, &run)?.resume(true).run(),
        Error::Latency(LatencyError::Differs { what: "device", ref measured, ref present })
            if measured == "synthetic" && present != "synthetic"
    );
    let resumed = |setting: &str| {
        let (settings, run, resume) = (vec![setting.into()], Some(run.clone()), true);
        Request { settings, run, resume, ..Request::default() }.resolve()
    };
    assert!(resumed("latency.elsewhere=true")?.latency.elsewhere);
    assert_refused!(
        resumed("latency.batch=8"),
        Error::Pipeline(PipelineError::Changed { ref name, .. }) if name.starts_with("latency")
    );
    Ok(())
}

#[test]
fn given_latency_model_with_a_larger_error_than_allowed_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = config(&run, "0.7")?;
    let dense = pipeline(config.clone(), &run)?.dense().clone();
    let file = folder.path().join("latency.json");
    model(&dense)?.write(&file)?;
    (config.latency.model, config.latency.elsewhere) = (Some(file), true);
    config.latency.most_error = 1e-12;
    assert_refused!(
        pipeline(config, &run)?.run(),
        Error::Latency(LatencyError::Inaccurate { limit: 1e-12, .. })
    );
    Ok(())
}

#[test]
fn latency_limit_of_a_run_is_a_share_or_milliseconds() -> TestResult {
    let folder = tempfile::tempdir()?;
    let refused = |text: &str| -> TestResult<Option<Error>> {
        Ok(config(folder.path(), text)?.check().err())
    };
    for text in ["0.6", "1", "12ms", "3.5 ms"] {
        assert!(refused(text)?.is_none(), "{text}");
    }
    for text in ["12", "0", "-3ms", "fast", "1.3G", "ms", "nanms"] {
        let error = refused(text)?.ok_or(text)?;
        assert!(error.to_string().starts_with("budget.latency: got"), "{error}");
    }
    let advice = refused("12")?.ok_or("12")?.to_string();
    assert!(advice.ends_with("for milliseconds write 12ms"), "{advice}");
    Ok(())
}

#[test]
fn latency_budget_alone_replaces_that_of_the_preset() -> TestResult {
    let folder = tempfile::tempdir()?;
    let budget = config(folder.path(), "0.6")?.budget;
    assert_eq!((budget.latency.as_deref(), budget.macs), (Some("0.6"), None));
    Ok(())
}

#[test]
fn other_budget_of_a_search_replaces_that_of_the_preset_until_the_search_has_begun() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = RunFolder::new(folder.path());
    let trained = Request {
        command: Some(Command::Train),
        default_preset: include_str!("../../examples/deit_s/presets/demo.toml").into(),
        ..Request::default()
    };
    std::fs::write(run.config(), trained.resolve()?.to_toml()?)?;
    let budget = |latency: Option<&str>, params: Option<&str>| -> TestResult<_> {
        let [latency, params] = [latency, params].map(|own| own.map(String::from));
        let flags = Flags { latency, params, ..Flags::default() };
        let (command, run) = (Some(Command::Search), Some(folder.path().into()));
        let budget = Request { command, flags, run, ..Request::default() }.resolve()?.budget;
        Ok([budget.macs, budget.params, budget.latency])
    };
    let own = |text: &str| Some(text.to_owned());
    assert_eq!(budget(None, None)?, [own("0.5"), None, None]);
    assert_eq!(budget(Some("0.8"), None)?, [None, None, own("0.8")]);
    assert_eq!(budget(None, Some("8M"))?, [None, own("8M"), None]);
    std::fs::write(run.path().join("metrics.jsonl"), "")?;
    assert_eq!(budget(None, None)?, [own("0.5"), None, None]);
    Ok(())
}

#[test]
fn latency_section_with_options_out_of_range_is_refused_by_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut config = config(folder.path(), "0.6")?;
    config.latency.seconds = 0.0;
    assert_refused!(config.check(), Error::Invalid { ref name, .. } if name == "latency.seconds");
    (config.latency.seconds, config.latency.batch) = (1.0, 0);
    assert_refused!(config.check(), Error::Invalid { ref name, .. } if name == "latency.batch");
    (config.latency.batch, config.latency.networks) = (1, 501);
    assert_refused!(config.check(), Error::Invalid { ref name, .. } if name == "latency.networks");
    config.latency.networks = 500;
    config.check()?;
    Ok(())
}

#[test]
fn unknown_device_of_the_latency_is_refused_before_anything_is_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = config(&run, "0.6")?;
    config.latency.device = Some("gpu".into());
    assert_refused!(
        pipeline(config, &run)?.run(),
        Error::Invalid { ref name, .. } if name == "latency.device"
    );
    assert!(!run.exists());
    Ok(())
}

#[test]
fn stop_flag_ends_the_measurement_whose_options_may_then_change() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let stop = AtomicBool::new(true);
    let outcome = pipeline(config(&run, "0.7")?, &run)?.stop_when(&stop).run()?;
    assert!(matches!(outcome, PipelineOutcome::Stopped), "{outcome:?}");
    assert!(!RunFolder::new(&run).latency().exists() && RunFolder::new(&run).config().is_file());
    let settings = vec!["latency.most_error=0.2".into()];
    let resumed = Request { settings, run: Some(run), resume: true, ..Request::default() };
    assert_eq!(resumed.resolve()?.latency.most_error, 0.2);
    Ok(())
}

#[test]
fn report_escapes_the_device_of_its_latency_model_once() -> TestResult {
    let mut model = crate::device::quiet()?;
    model.setting.device = "<b>CPU</b> & co".into();
    let page = Report { latency_model: Some(model), ..Report::default() }.html()?;
    assert!(page.contains("&lt;b&gt;CPU&lt;/b&gt; &amp; co") && !page.contains("&amp;lt;"));
    Ok(())
}
