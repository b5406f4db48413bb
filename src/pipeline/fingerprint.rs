//! What the images of a feed are recognised by, and the proof that all ranks have the same.

use super::feed::Source;
use super::{Feed, ImageClassifier, Pipeline};
use crate::data::Dataset;
use crate::search::expect_alike;
use crate::{Error, Result};
use serde_json::{json, Value};

impl Feed {
    /// Returns what has to be the same on all ranks: numbers of images, classes, and a checksum of the
    /// images' names, or of images and labels in memory.
    pub(super) fn fingerprint(&self) -> Result<Value> {
        let sums = match &self.source {
            Source::Memory { train, test } => {
                [train, test].map(|set| set.checksum().map(|sum| format!("{sum:08X}")))
            }
            Source::Folder { train, test } => {
                [train, test].map(|set| Ok(format!("{:08X}", checksum_of_names(&**set))))
            }
        };
        let [train, test] = sums;
        let of = |images: i64, sum: String| json!({ "images": images, "checksum": sum });
        Ok(json!({
            "train": of(self.train_images(), train?),
            "test": of(self.test_images(), test?),
            "classes": self.classes(),
            "image_shape": self.image_shape,
        }))
    }
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Refuses ranks with another configuration, network or data set, or with other values of `own`, an
    /// object.
    pub(super) fn expect_alike(&self, mut own: Value) -> Result<()> {
        if self.group.world_size() == 1 {
            return Ok(());
        }
        let given = || {
            let config = serde_json::to_value(&self.config)
                .map_err(|error| Error::invalid("configuration", "serialisable as JSON", error))?;
            let dense = serde_json::to_value(&self.dense)
                .map_err(|error| Error::invalid("network", "serialisable as JSON", error))?;
            own["config"] = config;
            own["network"] = dense;
            own["data"] = self.feed.fingerprint()?;
            Ok(own)
        };
        expect_alike(&*self.group, "", &self.group.agree(given())?)
    }
}

/// Returns the CRC-32 of the names of all images, in their order.
fn checksum_of_names(images: &dyn Dataset) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    (0..images.len()).for_each(|index| hasher.update(images.name(index).as_bytes()));
    hasher.finalize()
}
