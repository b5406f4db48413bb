//! The loader on image files, of which it decodes only what it shows.

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

/// A folder that hides its files, so that every image is decoded as a whole.
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

/// A JPEG of waves, of a height that only its number knows.
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

/// Generated JPEGs, and one file of each other kind.
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

/// Options that show a tall part of the images in order, with nothing but crop and flip.
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
fn batches_are_those_of_images_decoded_as_a_whole() -> TestResult {
    let folder = folder()?;
    let open = || ImageFolder::open(folder.path());
    for options in [
        LoaderOptions::deit(32, 4).seed(9),
        LoaderOptions::evaluation(32, 5),
        plain(OnCorrupt::Refuse),
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

/// Damages an image from a share of its length on, and says what it is called.
fn damage(folder: &TempDir, share: f64) -> TestResult<String> {
    let path = folder.path().join("ape/2.jpg");
    let mut bytes = fs::read(&path)?;
    let at = (bytes.len() as f64 * share) as usize;
    // A marker that JPEG does not have.
    bytes[at..at + 2].copy_from_slice(&[0xff, 0x01]);
    fs::write(&path, bytes)?;
    Ok(path.display().to_string())
}

#[test]
fn a_file_damaged_at_its_beginning_is_named_and_replaced() -> TestResult {
    let folder = folder()?;
    let name = damage(&folder, 0.3)?;
    let mut loader =
        loader(ImageFolder::open(folder.path())?, plain(OnCorrupt::Skip { limit: 3 }))?;
    loader.at(0)?;
    assert_eq!(loader.corrupt_images(), &[(1, name)].into());
    Ok(())
}

#[test]
fn a_file_cut_short_is_named_whatever_is_shown_of_it() -> TestResult {
    let folder = folder()?;
    let path = folder.path().join("ape/2.jpg");
    let bytes = fs::read(&path)?;
    fs::write(&path, &bytes[..bytes.len() - 2])?;
    let options = plain(OnCorrupt::Skip { limit: 3 });
    let mut loader = loader(ImageFolder::open(folder.path())?, options)?;
    // Another crop every epoch.
    for epoch in 0..10 {
        loader.at(epoch * loader.steps_per_epoch())?;
        assert_eq!(loader.corrupt_images().len(), 1, "epoch {epoch}");
    }
    Ok(())
}

/// Training meets the damage as soon as a crop reaches it, evaluation at once.
#[test]
fn damage_at_the_bottom_is_met_by_evaluation_and_by_the_crops_that_reach_it() -> TestResult {
    let folder = folder()?;
    let damaged = damage(&folder, 0.96)?;
    let open = || ImageFolder::open(folder.path());
    let refused = loader(open()?, LoaderOptions::evaluation(32, 4))?.at(0);
    assert_refused!(refused, Error::Image { name, .. } if name == damaged);
    let mut met = Vec::new();
    for epoch in 0..40 {
        // A loader of its own for every step, since a name stays once it is known.
        let mut training = loader(open()?, plain(OnCorrupt::Skip { limit: 3 }))?;
        training.at(epoch * training.steps_per_epoch())?;
        met.push(!training.corrupt_images().is_empty());
    }
    assert!(met.contains(&true) && met.contains(&false), "{met:?}");
    Ok(())
}
