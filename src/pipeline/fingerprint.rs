//! Checksums of the images of a run: the same on all ranks, and when the run is resumed.

use super::feed::Source;
use super::{Command, Feed, ImageClassifier, Pipeline};
use crate::device;
use crate::error::PipelineError;
use crate::files::{read_json, write_json};
use crate::search::expect_alike;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::{Display, Formatter};

/// What images of a run are recognised by.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    train: SetFingerprint,
    test: SetFingerprint,
    classes: i64,
    image_shape: [i64; 3],
}

/// What a set of images is recognised by.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SetFingerprint {
    images: i64,
    /// CRC-32 of images and labels in memory, or the
    /// [fingerprint](crate::data::Dataset::fingerprint) of a data set.
    checksum: String,
}

impl Display for SetFingerprint {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} with checksum {}", self.images, self.checksum)
    }
}

impl Feed {
    /// Returns the fingerprint of the images.
    pub(super) fn fingerprint(&self) -> Result<Fingerprint> {
        let [train, test] = match &self.source {
            Source::Memory { train, test } => [train.checksum()?, test.checksum()?],
            Source::Folder { train, test } => [train.fingerprint(), test.fingerprint()],
        };
        let set = |images, sum| SetFingerprint { images, checksum: format!("{sum:08X}") };
        Ok(Fingerprint {
            train: set(self.train_images(), train),
            test: set(self.test_images(), test),
            classes: self.classes(),
            image_shape: self.image_shape,
        })
    }
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Refuses ranks with another configuration, network, data set or type of device, or with other values of `own`, an
    /// object.
    pub(super) fn expect_alike(&self, mut own: Value) -> Result<()> {
        if self.group.world_size() == 1 {
            return Ok(());
        }
        let given = || {
            own["config"] = as_json("configuration", &self.config)?;
            own["network"] = as_json("network", &self.dense)?;
            own["device"] = device::type_of(self.feed.device()).into();
            own["data"] = as_json("fingerprint of the images", &self.feed.fingerprint()?)?;
            Ok(own)
        };
        expect_alike(&*self.group, "", &self.group.agree(given())?)
    }

    /// Refuses images other than those that the run in the folder began with. A run folder without their
    /// fingerprint accepts any.
    pub(super) fn expect_same_images(&self) -> Result<()> {
        let path = self.run.data();
        if !(self.resume || self.has_trained()) || !path.is_file() {
            return Ok(());
        }
        let saved: Fingerprint = read_json(&path)?;
        let given = self.feed.fingerprint()?;
        let sets = [
            ("training images (data.folder)", saved.train, given.train),
            ("test images (data.folder or data.shards.val)", saved.test, given.test),
        ];
        match sets.into_iter().find(|(_, saved, given)| saved != given) {
            None => Ok(()),
            Some((set, saved, given)) => {
                let (given, saved) = (given.to_string(), saved.to_string());
                let folder = self.run.path().into();
                Err(PipelineError::OtherImages { set, given, saved, folder }.into())
            }
        }
    }

    /// Saves the fingerprint of the images before the first stage of a run begins.
    pub(super) fn save_fingerprint(&self) -> Result<()> {
        match self.has_trained() {
            true => Ok(()),
            false => write_json(&self.run.data(), &self.feed.fingerprint()?),
        }
    }

    /// Whether any stage has begun in the run folder.
    fn has_trained(&self) -> bool {
        let stages = [Command::Train, Command::Search, Command::Finetune];
        stages.into_iter().any(|stage| self.run.has_begun(Some(stage)))
    }
}

pub(super) fn as_json(name: &str, value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::invalid(name, "serialisable as JSON", error))
}
