//! The images of a run: recognised when it is resumed, cropped as configured, skipped up to a limit.

mod support;

use jpeg_encoder::{ColorType, Encoder};
use once_for_both::data::transform::{EvalTransform, Transform};
use once_for_both::data::{Dataset, ImageFolder, ImageSet, Loader, LoaderOptions};
use once_for_both::distributed::{Collective, Pending};
use once_for_both::error::{DistributedError, PipelineError};
use once_for_both::models::VitConfig;
use once_for_both::pipeline::{
    Command, Config, DataConfig, Feed, NetworkConfig, Pipeline, PipelineOutcome, Progress, Request,
};
use once_for_both::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use support::small_run::PRESET;
use support::{numbers, test_device, TestResult};
use tch::{Kind, Tensor};

/// Images of each class in train/.
const IMAGES: usize = 11;
/// Steps of an epoch in batches of two images, of which there are 22.
const STEPS: u64 = 11;

/// Writes a JPEG file of 40 × 36 pixels.
fn write_image(path: &Path, number: usize) -> TestResult {
    fs::create_dir_all(path.parent().ok_or("no parent")?)?;
    let pixels: Vec<u8> = (0..40 * 36 * 3).map(|at| (at * (number + 1) / 7) as u8).collect();
    Ok(Encoder::new_file(path, 90)?.encode(&pixels, 40, 36, ColorType::Rgb)?)
}

/// Writes train/ and val/ of two classes; every second training image is corrupt if `corrupt`.
fn write_images(folder: &Path, corrupt: bool) -> TestResult {
    for class in ["ant", "bee"] {
        for number in 0..IMAGES {
            let path = folder.join(format!("train/{class}/{number:02}.jpg"));
            write_image(&path, number)?;
            // Of the 22 images of both classes, those with even indices.
            if corrupt && (number % 2 == 0) == (class == "ant") {
                fs::write(path, b"no image")?;
            }
        }
        (0..3).try_for_each(|image| {
            write_image(&folder.join(format!("val/{class}/{image}.jpg")), image)
        })?;
    }
    Ok(())
}

/// Options of a run that trains a small network for an epoch.
fn config(data: &Path, run: &Path, resume: bool, settings: &[&str]) -> Result<Config> {
    let own = [
        "network.embed_dim=32",
        "network.depth=2",
        "network.heads=2",
        "train.batch=2",
        "every.log=1",
        "every.evaluation=100",
    ];
    let mut settings: Vec<String> = own.iter().chain(settings).map(|&own| own.into()).collect();
    settings.push(format!("train.steps={STEPS}"));
    settings.push(format!("data.folder={:?}", data.display()));
    Request {
        command: Some(Command::Train),
        default_preset: PRESET.into(),
        settings,
        run: Some(run.into()),
        resume,
        ..Request::default()
    }
    .resolve()
}

/// Opens the images and runs the configuration until `stop` is set.
fn go(config: Config, run: &Path, resume: bool, stop: Option<u64>) -> Result<PipelineOutcome> {
    let network = NetworkConfig::of(&config)?;
    let folder = config.data.folder.clone().unwrap_or_default();
    let feed = Feed::open(&folder, &config.data, network.image_size, test_device())?;
    let dense = network.vit(feed.image_shape()[0], feed.classes())?;
    let flag = AtomicBool::new(false);
    let pipeline = Pipeline::<VitConfig>::new(config, run, feed, dense)?
        .resume(resume)
        .stop_when(&flag)
        .on_progress(|progress| {
            if let (Progress::Step(step), Some(stop)) = (progress, stop) {
                flag.fetch_or(step + 1 >= stop, Ordering::Relaxed);
            }
        });
    pipeline.run()
}

/// Two ranks of which the second says what the first says, but that it is on another device.
#[derive(Debug)]
struct OtherDevice;

impl Collective for OtherDevice {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        2
    }

    fn start_all_reduce(&self, _: &Tensor) -> Result<Box<dyn Pending>> {
        Err(Error::Device { device: "of rank 1".into(), reason: "it computes nothing".into() })
    }

    fn broadcast(&self, _: &Tensor, _: usize) -> Result<()> {
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let other =
            String::from_utf8_lossy(own).replace("\"device\":\"cpu\"", "\"device\":\"mps\"");
        let other = other.replace("\"device\":\"cuda\"", "\"device\":\"mps\"");
        Ok(vec![own.to_vec(), other.into_bytes()])
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn ranks_of_a_run_on_devices_of_other_types_are_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, false)?;
    let config = config(&data, &run, false, &[])?;
    let network = NetworkConfig::of(&config)?;
    let feed = Feed::open(&data, &config.data, network.image_size, test_device())?;
    let dense = network.vit(feed.image_shape()[0], feed.classes())?;
    let pipeline = Pipeline::<VitConfig>::new(config, &run, feed, dense)?;
    let refused = pipeline.distributed(Arc::new(OtherDevice)).run();
    assert_refused!(refused, Error::Distributed(DistributedError::Differs { ref what, rank: 1, .. })
        if what == "device");
    Ok(())
}

fn expect_stopped(outcome: &PipelineOutcome) {
    assert!(matches!(outcome, PipelineOutcome::Stopped), "{outcome:?}");
}

#[test]
fn run_resumed_on_other_images_is_refused_with_their_set_and_both_counts() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, false)?;
    expect_stopped(&go(config(&data, &run, false, &[])?, &run, false, Some(3))?);
    let checksums = fs::read_to_string(run.join("data.json"))?;

    // As many batches as before: 23 images in batches of two.
    let added = data.join("train/ant/99.jpg");
    write_image(&added, 5)?;
    let resumed = || go(config(&data, &run, true, &[])?, &run, true, None);
    let refused = |set: &str, given: &str, saved: &str| match resumed() {
        Err(error @ Error::Pipeline(PipelineError::OtherImages { .. })) => {
            let said = error.to_string();
            let parts = [set, given, saved, "give the same images, or another run folder"];
            parts.iter().for_each(|part| assert!(said.contains(part), "{part} is not in {said}"));
        }
        other => panic!("{other:?}"),
    };
    refused("training images (data.folder)", "got 23 with", "expected 22 with");
    fs::remove_file(&added)?;
    let (from, to) = (data.join("val/bee/2.jpg"), data.join("val/ant/2b.jpg"));
    fs::rename(&from, &to)?;
    refused("test images", "got 6 with checksum", "expected 6 with checksum");
    fs::rename(&to, &from)?;
    assert_eq!(fs::read_to_string(run.join("data.json"))?, checksums);
    // In another folder they are the same.
    let moved = folder.path().join("moved");
    fs::rename(&data, &moved)?;
    let outcome = go(config(&moved, &run, true, &[])?, &run, true, None)?;
    assert!(matches!(outcome, PipelineOutcome::Finished { .. }));
    Ok(())
}

#[test]
fn run_folder_without_checksums_of_its_images_is_resumed() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, false)?;
    expect_stopped(&go(config(&data, &run, false, &[])?, &run, false, Some(3))?);
    fs::remove_file(run.join("data.json"))?;
    let outcome = go(config(&data, &run, true, &[])?, &run, true, None)?;
    assert!(matches!(outcome, PipelineOutcome::Finished { .. }));
    // The images that the run began with are unknown.
    assert!(!run.join("data.json").exists());
    Ok(())
}

/// 11 of the 22 images are corrupt, and an epoch has each once.
#[test]
fn corrupt_images_of_a_resumed_stage_are_counted_on_from_those_before() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, true)?;
    expect_stopped(&go(config(&data, &run, false, &[])?, &run, false, Some(6))?);
    let saved = fs::read(run.join("dense/corrupt_images.json"))?;
    let saved: BTreeMap<usize, String> = serde_json::from_slice(&saved)?;
    assert!((1..=10).contains(&saved.len()), "{saved:?}");
    assert!(saved.iter().all(|(index, name)| index % 2 == 0 && name.ends_with(".jpg")));
    match go(config(&data, &run, true, &[])?, &run, true, None) {
        Err(Error::CorruptImages { limit: 10, names }) => assert_eq!(names.len(), 11),
        other => return Err(format!("{other:?}").into()),
    }
    // The limit may be raised when the run is resumed.
    let raised = config(&data, &run, true, &["data.corrupt_images=11"])?;
    let outcome = go(raised, &run, true, None)?;
    assert!(matches!(outcome, PipelineOutcome::Finished { .. }));
    // Those that were replaced count no more.
    let mended = folder.path().join("mended");
    expect_stopped(&go(config(&data, &mended, false, &[])?, &mended, false, Some(6))?);
    saved.values().try_for_each(|path| write_image(Path::new(path), 1))?;
    let outcome =
        go(config(&data, &mended, true, &["data.corrupt_images=6"])?, &mended, true, None)?;
    assert!(matches!(outcome, PipelineOutcome::Finished { .. }));
    write_images(&data, true)?;
    let none = config(&data, &folder.path().join("none"), false, &["data.corrupt_images=0"])?;
    let refused = go(none, &folder.path().join("none"), false, None);
    assert!(matches!(refused, Err(Error::CorruptImages { limit: 0, .. })), "{refused:?}");
    Ok(())
}

/// Runs a search with masked image modeling of images in memory, of this many channels.
fn reconstruct(run: &Path, channels: i64, mean: &[f64]) -> Result<PipelineOutcome> {
    once_for_both::randomness::seed(0);
    let set = |count| -> Result<ImageSet> {
        let images = Tensor::f_randint(256, [count, channels, 8, 8], (Kind::Uint8, test_device()))?;
        let classes = Tensor::f_randint(5, [count], (Kind::Int64, test_device()))?;
        ImageSet::new(images, classes, 5)?.normalised(0.5, 0.25)
    };
    let settings = ["train.steps=1", "search.steps=4", "search.batch=4", "search.method=learned"];
    let settings = settings.map(String::from).into();
    let request = Request { default_preset: PRESET.into(), settings, ..Request::default() };
    let config = request.resolve()?;
    let data = DataConfig { mean: mean.into(), ..config.data.clone() };
    let feed = Feed::in_memory(set(64)?, set(8)?, &data)?;
    let dense = VitConfig::uniform(16, 1, 2).input(8, channels, 4).classes(5);
    Pipeline::new(config, run, feed, dense)?.run()
}

#[test]
fn run_of_images_in_memory_reports_reconstructions_in_their_normalisation() -> TestResult {
    let folder = tempfile::tempdir()?;
    // Images of two channels have no pictures.
    // The last bits of statistics are those of a device.
    for (channels, given, pictures) in [(3, &[0.500_000_1; 3][..], true), (2, &[], false)] {
        let run = folder.path().join(channels.to_string());
        let outcome = reconstruct(&run, channels, given)?;
        assert!(matches!(outcome, PipelineOutcome::Finished { .. }), "{outcome:?}");
        let saved = Config::read(&run.join("config.toml"))?.data;
        assert_eq!(saved.mean, vec![0.5; channels as usize]);
        assert_eq!(saved.std, vec![0.25; channels as usize]);
        let report = fs::read_to_string(run.join("report.html"))?;
        assert_eq!(report.contains("reconstructed"), pictures, "{channels} channels");
    }
    let refused = reconstruct(&folder.path().join("other"), 3, &[0.4; 3]);
    assert!(matches!(&refused, Err(Error::Invalid { name, .. }) if name == "data.mean"));
    Ok(())
}

/// Images that a feed of `config` judges.
fn judged(feed: &Feed) -> TestResult<Vec<f64>> {
    let seen = RefCell::new(Vec::new());
    feed.judge(|images| {
        let batch = numbers(images).map_err(|error| Error::Io {
            action: "read",
            path: "images".into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        seen.borrow_mut().extend(batch);
        Ok(Tensor::f_zeros([images.size()[0], 2], (Kind::Float, images.device()))?)
    })?;
    Ok(seen.into_inner())
}

#[test]
fn crop_share_of_a_run_is_that_of_every_evaluation() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_images(&data, false)?;
    let val: Arc<dyn Dataset> = Arc::new(ImageFolder::open(data.join("val"))?);
    let mut judgements = Vec::new();
    for (settings, share) in [(&[][..], 0.875), (&["data.crop_share=1.0"], 1.0)] {
        let config = config(&data, &run, false, settings)?;
        assert_eq!(config.data.crop_share, share);
        // As a saved configuration has it.
        assert_eq!(Config::from_toml(&config.to_toml()?, "saved")?, config);
        let feed = Feed::open(&data, &config.data, 28, test_device())?;
        let transform = Transform::Eval(EvalTransform { size: 28, share });
        let options = LoaderOptions { transform, ..LoaderOptions::evaluation(28, 6) };
        let expected = Loader::new(Arc::clone(&val), options, test_device())?.at(0)?.images;
        let expected = numbers(&expected)?;
        assert_eq!(judged(&feed)?, expected, "{share}");
        assert_eq!(numbers(&feed.calibration_batch(6)?)?, expected, "{share}");
        judgements.push(expected);
    }
    assert_ne!(judgements[0], judgements[1]);
    for refused in ["data.crop_share=0.0", "data.crop_share=1.1", "data.corrupt_images=9999999999"]
    {
        let config = config(&data, &run, false, &[refused])?;
        let error = Feed::open(&data, &config.data, 28, test_device()).map(drop);
        let name = refused.split('=').next().unwrap_or_default();
        assert!(
            matches!(&error, Err(Error::Invalid { name: own, .. }) if own == name),
            "{error:?}"
        );
    }
    let idx = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let config = config(&idx, &run, false, &["data.crop_share=1.0"])?;
    let refused = Feed::open(&idx, &config.data, 28, test_device()).map(drop);
    assert!(matches!(&refused, Err(Error::Invalid { name, .. }) if name == "data.crop_share"));
    Ok(())
}
