//! Runs with queries and keys apart from values: summary, report, inspection, refusals.

use crate::support::small_run::{pipeline, PRESET, SETTINGS};
use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use crate::{assert_refused, network};
use once_for_both::models::{Rope, VitConfig};
use once_for_both::pipeline::{
    inspect, Command, Flags, ImageClassifier, InspectOptions, PipelineOutcome, Request, RunFolder,
};
use once_for_both::subnet::{verify_against, Export, Extracted, Provenance, Subnet};
use once_for_both::Error;
use std::path::Path;
use tch::{Kind, Tensor};

fn request(run: &Path, apart: bool, command: Option<Command>) -> Request {
    let settings = SETTINGS.map(String::from).to_vec();
    let macs = Some("0.4".into());
    let flags = Flags { macs, qk_v_apart: apart, depth: apart, ..Flags::default() };
    let default_preset = PRESET.into();
    Request {
        command,
        default_preset,
        settings,
        flags,
        run: Some(run.into()),
        ..Request::default()
    }
}

#[test]
fn run_with_queries_and_keys_apart_shows_their_widths_in_summary_report_and_inspection(
) -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = request(&run, true, None).resolve()?;
    assert!(config.space.qk_v_apart);
    config.compare = true;
    let run_of = |config| -> TestResult<_> { Ok(pipeline(config, &run)?.run()?) };
    let PipelineOutcome::Finished { summary: Some(summary), .. } = run_of(config.clone())? else {
        return Err("no summary".into());
    };
    let saved = RunFolder::new(&run);
    let subnet = Subnet::<VitConfig>::load(saved.subnet(), test_device())?;
    assert!(subnet.architecture().blocks.iter().all(|own| own.qk_dim.is_some()));
    // The networks that were not searched stay as timm has them.
    for path in [saved.dense(), run.join("reference/network")] {
        let joint = Subnet::<VitConfig>::load(path, test_device())?;
        assert!(joint.architecture().blocks.iter().all(|own| own.qk_dim.is_none()));
    }
    let report = std::fs::read_to_string(run.join("report.html"))?;
    assert!(report.contains("Queries and keys</b> channels of a head, of 16"));
    let inspected = inspect(&run, &InspectOptions::default())?.to_string();
    let text = summary.to_string();
    for block in 0..2 {
        let name = format!("blocks.{block}.attn.qk");
        let own = summary.sizes.iter().find(|own| own.dimension == name).ok_or("no width")?;
        let row = format!("{} of 16", own.subnet);
        assert_eq!(own.subnet.is_removed(), !subnet.architecture().blocks[block].has_attention());
        assert!(text.lines().any(|line| line.starts_with(&name) && line.ends_with(&row)), "{text}");
        assert!(report.contains(&format!("block {block}: {row}")), "{row}");
        assert!(inspected.contains(&format!("{name} {}", own.subnet)), "{inspected}");
    }
    let again = request(&run, false, Some(Command::Finetune)).resolve()?;
    assert!(again.space.qk_v_apart);
    // Beside an option that needs all channels of a head, refused before anything is written.
    let other = folder.path().join("other");
    config.network.insert("qk_norm".into(), "layer".into());
    let refused = pipeline(config, &other)?.run();
    assert_refused!(refused, Error::Invalid { name, expected, .. }
        if name == "space.qk_v_apart" && expected.contains("qk_norm"));
    assert!(!other.exists());
    Ok(())
}

/// Rotary positions refuse queries and keys apart from values; fine-tuning changes no sizes.
#[test]
fn finetuning_of_a_joint_subnet_with_the_option_set_draws_the_joint_network() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let (run, path) = (folder.path().join("run"), folder.path().join("subnet"));
    let mut request = request(&run, true, Some(Command::Finetune));
    request
        .settings
        .extend(["finetune.steps=2", "finetune.batch=8", "finetune.lr=1e-4"].map(String::from));
    request.flags.weights = Some(path.clone());
    let pipeline = pipeline(request.resolve()?, &run)?;
    assert!(pipeline.config().space.qk_v_apart);
    let rotated =
        VitConfig { rope: Some(Rope::Normalised { base: 10.0 }), ..pipeline.dense().clone() };
    let subnet = network(&rotated)?;
    let [channels, height, width] = rotated.image_shape();
    let images = Tensor::f_randn([2, channels, height, width], (Kind::Float, test_device()))?;
    let verification = verify_against(&subnet, &subnet, &images)?;
    let provenance = Provenance::of(&rotated)?;
    Extracted { subnet, verification, provenance, images }.save(&path, &Export::default())?;
    assert!(matches!(pipeline.run()?, PipelineOutcome::Finished { .. }));
    let report = std::fs::read_to_string(run.join("report.html"))?;
    assert!(report.contains("Attention") && !report.contains("Queries and keys"));
    Ok(())
}

#[test]
fn training_for_a_search_that_its_network_refuses_is_refused_before_anything_is_written(
) -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = request(&run, true, Some(Command::Train)).resolve()?;
    config.network.insert("qk_norm".into(), "layer".into());
    let refused = pipeline(config, &run)?.run();
    assert_refused!(refused, Error::Invalid { name, .. } if name == "space.qk_v_apart");
    assert!(!run.exists());
    Ok(())
}
