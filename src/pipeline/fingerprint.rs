//! What the images of a feed are recognised by.

use super::feed::Source;
use super::Feed;
use crate::data::Dataset;
use crate::Result;
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

/// Returns the CRC-32 of the names of all images, in their order.
fn checksum_of_names(images: &dyn Dataset) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    (0..images.len()).for_each(|index| hasher.update(images.name(index).as_bytes()));
    hasher.finalize()
}
