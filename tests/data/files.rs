//! The loader on image files, of which it decodes only the rows it needs.

use crate::assert_refused;
use crate::sets::file;
use crate::support::{numbers, TestResult};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use once_for_both::data::transform::{TrainTransform, Transform};
use once_for_both::data::{
    Dataset, ImageFolder, LabelledImage, Loader, LoaderOptions, OnCorrupt, Order,
};
use once_for_both::{Error, Result};
use std::fs;
use std::sync::Arc;
use tch::Device;
use tempfile::{tempdir, TempDir};

/// Image folder without `Dataset::read`, so that every image is decoded as a whole.
struct Whole(ImageFolder);

impl Dataset for Whole {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn classes(&self) -> usize {
        self.0.classes()
    }

    fn channels(&self) -> usize {
        self.0.channels()
    }

    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }

    fn load(&self, index: usize) -> Result<LabelledImage> {
        self.0.load(index)
    }
}

/// Generated JPEG of waves whose size depends on `number`.
fn jpeg(number: usize) -> TestResult<Vec<u8>> {
    let (width, height) = (70 + 9 * number, 120 - 7 * number);
    let wave = |at: usize| 128.0 + 90.0 * (at as f64 / (3 + number % 5) as f64).sin();
    let pixels: Vec<u8> = (0..width * height * 3).map(|at| wave(at + at / 200) as u8).collect();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 90);
    encoder.set_sampling_factor([SamplingFactor::F_2_2, SamplingFactor::F_2_1][number % 2]);
    encoder.encode(&pixels, width as u16, height as u16, ColorType::Rgb)?;
    Ok(bytes)
}

/// Image folder of generated JPEGs and one file of each other kind.
fn folder() -> TestResult<TempDir> {
    let folder = tempdir()?;
    for number in 0..8 {
        let class = folder.path().join(["ape", "bear"][number % 2]);
        fs::create_dir_all(&class)?;
        fs::write(class.join(format!("{number}.jpg")), jpeg(number)?)?;
    }
    for name in ["progressive.jpg", "grey.jpg", "cmyk.jpg", "palette.png"] {
        fs::write(folder.path().join("bear").join(name), file(name)?)?;
    }
    Ok(folder)
}

fn loader(set: impl Dataset + 'static, options: LoaderOptions) -> Result<Loader> {
    Loader::new(Arc::new(set), options.workers(2), Device::Cpu)
}

/// Sequential options with random resized crop and flip only.
fn plain(on_corrupt: OnCorrupt) -> LoaderOptions {
    LoaderOptions {
        order: Order::Sequential,
        transform: Transform::Train(TrainTransform::plain(32)),
        mixing: None,
        on_corrupt,
        ..LoaderOptions::deit(32, 4).seed(3)
    }
}

#[test]
fn batches_of_partly_decoded_files_equal_those_of_whole_images() -> TestResult {
    let folder = folder()?;
    let open = || ImageFolder::open(folder.path());
    for options in [
        LoaderOptions::deit(32, 4).seed(9),
        LoaderOptions::evaluation(32, 5),
        plain(OnCorrupt::Fail),
    ] {
        let mut parts = loader(open()?, options.clone())?;
        let mut wholes = loader(Whole(open()?), options)?;
        for step in 0..30 {
            let (part, whole) = (parts.at(step)?, wholes.at(step)?);
            assert_eq!(numbers(&part.images)?, numbers(&whole.images)?, "step {step}");
        }
    }
    Ok(())
}

/// Damages an image at a share of its length and returns its name.
fn damage(folder: &TempDir, share: f64) -> TestResult<String> {
    let path = folder.path().join("ape/2.jpg");
    let mut bytes = fs::read(&path)?;
    let at = (bytes.len() as f64 * share) as usize;
    // 0xff01 is no valid marker.
    bytes[at..at + 2].copy_from_slice(&[0xff, 0x01]);
    fs::write(&path, bytes)?;
    Ok(path.display().to_string())
}

#[test]
fn file_damaged_in_its_first_rows_is_skipped_and_named() -> TestResult {
    let folder = folder()?;
    let name = damage(&folder, 0.3)?;
    let mut loader =
        loader(ImageFolder::open(folder.path())?, plain(OnCorrupt::Skip { limit: 3 }))?;
    loader.at(0)?;
    assert_eq!(loader.corrupt_images(), &[(1, name)].into());
    Ok(())
}

#[test]
fn truncated_file_is_skipped_whatever_the_crop() -> TestResult {
    let folder = folder()?;
    let path = folder.path().join("ape/2.jpg");
    let bytes = fs::read(&path)?;
    fs::write(&path, &bytes[..bytes.len() - 2])?;
    let options = plain(OnCorrupt::Skip { limit: 3 });
    let mut loader = loader(ImageFolder::open(folder.path())?, options)?;
    // Each epoch draws another crop.
    for epoch in 0..10 {
        loader.at(epoch * loader.steps_per_epoch())?;
        assert_eq!(loader.corrupt_images().len(), 1, "epoch {epoch}");
    }
    Ok(())
}

#[test]
fn damage_in_the_last_rows_is_detected_by_evaluation_and_by_crops_that_reach_it() -> TestResult {
    let folder = folder()?;
    let damaged = damage(&folder, 0.96)?;
    let open = || ImageFolder::open(folder.path());
    let refused = loader(open()?, LoaderOptions::evaluation(32, 4))?.at(0);
    assert_refused!(refused, Error::Image { name, .. } if name == damaged);
    let mut detected = Vec::new();
    for epoch in 0..40 {
        // A new loader for every step, since `corrupt_images` accumulates.
        let mut training = loader(open()?, plain(OnCorrupt::Skip { limit: 3 }))?;
        training.at(epoch * training.steps_per_epoch())?;
        detected.push(!training.corrupt_images().is_empty());
    }
    assert!(detected.contains(&true) && detected.contains(&false), "{detected:?}");
    Ok(())
}

/// A data set of one file, with the method `read` alone, or without.
struct OneFile(Option<Vec<u8>>);

impl Dataset for OneFile {
    fn len(&self) -> usize {
        1
    }

    fn classes(&self) -> usize {
        1
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, _: usize) -> String {
        "the file".into()
    }

    fn read(&self, _: usize, file: &mut Vec<u8>) -> Result<Option<usize>> {
        let Some(own) = &self.0 else { return Ok(None) };
        file.clone_from(own);
        Ok(Some(0))
    }
}

#[test]
fn data_set_that_reads_files_loads_them_and_one_without_either_method_is_refused() -> TestResult {
    let loaded = OneFile(Some(jpeg(2)?)).load(0)?;
    assert_eq!((loaded.image.width(), loaded.image.height(), loaded.class), (88, 106, 0));
    let refused = OneFile(Some(Vec::new())).load(0);
    assert_refused!(refused, Error::Image { ref name, .. } if name == "the file");
    assert_refused!(OneFile(None).load(0), Error::Invalid { ref name, .. }
        if name == "method `load` of the data set");
    Ok(())
}
