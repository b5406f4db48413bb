//! Training images, and those that judge.

use crate::Options;
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::ImageSet;
use once_for_both::Result;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Classes of Fashion-MNIST.
pub const CLASSES: usize = 10;

/// Both sets, normalised by the training pixels.
pub struct Data {
    pub train: ImageSet,
    pub judge: ImageSet,
    /// Mean and standard deviation of the training pixels.
    pub pixels: [f64; 2],
}

impl Data {
    pub fn load(options: &Options, device: Device) -> Result<Self> {
        let built_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data");
        let folder = options.data.clone().unwrap_or_else(built_in);
        let read =
            |split| ImageSet::from_idx(IdxImages::open_split(&folder, split)?, CLASSES, device);
        let all = read(Split::Train)?;
        let (mean, std) = all.pixel_statistics()?;
        let all = all.normalised(mean, std)?;
        let used = options.images.unwrap_or(all.len()).min(all.len());
        let range = |from, to| Tensor::f_arange_start(from, to, (Kind::Int64, device));
        let train = all.subset(&range(0, used - options.validate)?)?;
        let judge = match options.validate {
            0 => read(Split::Test)?.normalised(mean, std)?,
            held_out => all.subset(&range(used - held_out, used)?)?,
        };
        Ok(Self { train, judge, pixels: [mean, std] })
    }
}
