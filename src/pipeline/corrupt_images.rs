//! Corrupt images of a stage, saved in its folder so that the limit holds over all its parts.

use super::stage::StageSetup;
use super::{FeedBatches, ImageClassifier, Pipeline};
use crate::files::{read_json, write_json};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// File name of the corrupt images of a stage.
pub(super) const CORRUPT: &str = "corrupt_images.json";

/// Names of corrupt images, by index.
pub(super) type Names = BTreeMap<usize, String>;

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Adds the corrupt images that a resumed stage has met before, and that have not been replaced, to its batches, on all
    /// ranks.
    pub(super) fn recall_corrupt(
        &self,
        setup: &StageSetup,
        batches: &mut FeedBatches,
    ) -> Result<()> {
        if !self.resume {
            return Ok(());
        }
        let path = setup.folder.join(CORRUPT);
        let saved = self.group.on_main_for_long(|goes_on| {
            let saved = if path.is_file() { read_json(&path)? } else { Names::new() };
            let mut corrupt = Names::new();
            for index in saved.into_keys() {
                goes_on()?;
                corrupt.extend(self.feed.corrupt(index)?.map(|name| (index, name)));
            }
            Ok(corrupt)
        })?;
        self.add_of_all_ranks(saved.unwrap_or_default(), batches)
    }

    /// Adds the corrupt images of all ranks to the batches of each, and saves them.
    ///
    /// # Errors
    /// [`Error::CorruptImages`] if they are more than the limit.
    pub(super) fn share_corrupt(
        &self,
        setup: &StageSetup,
        batches: &mut FeedBatches,
    ) -> Result<()> {
        let own = batches.corrupt();
        let shared = self.add_of_all_ranks(own.clone(), batches);
        self.group.on_main(|| match batches.corrupt() {
            all if all == own => Ok(()),
            all => write_json(&setup.folder.join(CORRUPT), &all),
        })?;
        shared
    }

    fn add_of_all_ranks(&self, own: Names, batches: &mut FeedBatches) -> Result<()> {
        let refused = |error| Error::invalid("names of images", "JSON", error);
        let own = serde_json::to_vec(&own).map_err(refused)?;
        let mut all = Names::new();
        for rank in self.group.all_gather(&own)? {
            all.extend(serde_json::from_slice::<Names>(&rank).map_err(refused)?);
        }
        batches.add_corrupt(all)
    }
}

/// File of the corrupt images that this process has met. Only rank 0 writes it.
pub(super) struct CorruptFile {
    path: PathBuf,
    /// Number of images that need not be written.
    known: usize,
}

impl CorruptFile {
    /// Returns the file in the folder of a stage.
    pub(super) fn new(folder: &Path, batches: &FeedBatches) -> Self {
        Self { path: folder.join(CORRUPT), known: batches.corrupt().len() }
    }

    /// Writes the corrupt images if there are more than before.
    pub(super) fn update(&mut self, batches: &FeedBatches) -> Result<()> {
        let corrupt = batches.corrupt();
        if corrupt.len() > self.known {
            write_json(&self.path, &corrupt)?;
            self.known = corrupt.len();
        }
        Ok(())
    }
}
