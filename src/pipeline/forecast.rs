//! What budgets will cost, before any search.

use super::{AugmentationPreset, Feed, ImageClassifier, Pipeline};
use crate::batch::{Batch, BatchSource};
use crate::components::{Classification, Components};
use crate::cost::Budget;
use crate::distributed::Share;
use crate::range::Range;
use crate::search::{Search, SearchOptions};
use crate::sensitivity::{Calibration, Forecast, Progress, Sensitivity};
use crate::subnet::Subnet;
use crate::Result;
use std::sync::Arc;

/// Images of a calibration batch.
const BATCH: i64 = 128;

impl Feed {
    /// Returns `images` training images, or all if there are fewer, drawn at random and not augmented, in
    /// calibration batches of equal length, of 128 images at most. What does not fill them is left out: of 1,023
    /// images, 7.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for fewer than two images; those of the data set.
    pub fn calibration_batches(&self, images: i64, seed: u64) -> Result<Vec<Batch>> {
        Range::closed(2, i64::MAX).check("calibration images", images)?;
        let images = images.min(self.train_images());
        let number = (images + BATCH - 1) / BATCH;
        let size = images / number;
        // Every process measures on all of them.
        let none = AugmentationPreset::None;
        let mut batches = self.batches_with(none, size, seed, Share::WHOLE)?;
        (0..number as u64).map(|number| batches.batch(number)).collect()
    }
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Measures the sensitivity of a trained network on `images` training images, forecasts what
    /// `budgets` will cost, and measures each forecast with all its dimensions pruned at once. Nothing
    /// is trained. Units are ordered by the importance that a search would start with.
    ///
    /// # Errors
    /// Those of [`Sensitivity::forecast`], [`Calibration::measure`] and
    /// [`Feed::calibration_batches`]; that of `progress`.
    pub fn forecast(
        &self,
        network: &Subnet<A>,
        images: i64,
        budgets: &[Budget],
        progress: impl FnMut(Progress) -> Result<()>,
    ) -> Result<(Sensitivity, Forecast)> {
        let apart = self.config.space.apart(network)?;
        let network = apart.as_ref().unwrap_or(network);
        let architecture = network.architecture();
        let (model, space) = (architecture.cost_model(), self.config.space.measured(architecture)?);
        // Before the measurement, which may take long.
        budgets.iter().try_for_each(|budget| budget.resolve(&model)?.check(&model, &space))?;
        let batches = self.feed.calibration_batches(images, self.config.seed)?;
        let mut options = SearchOptions::new(2, 1).seed(self.config.seed);
        // Nothing is trained, so nothing is taught.
        options.training.distillation = None;
        let task = Arc::new(Classification);
        let components = Components { task, ..self.config.search.search_components()? };
        let mut search = Search::of(architecture.clone())
            .space(space)
            .weights(network.weights())
            .components(components)
            .budgets(budgets.iter().copied().take(1))
            .options(options)
            .device(self.feed.device())
            .build()?;
        let mut calibration = Calibration::cross_entropy(&batches).on_progress(progress);
        search.evaluate(|supernet| {
            let sensitivity = calibration.measure(supernet)?;
            let (model, space) = (supernet.cost_model(), supernet.space());
            let mut forecast = sensitivity.forecast(model, space, budgets)?;
            forecast.check(&mut calibration, supernet)?;
            Ok((sensitivity, forecast))
        })
    }
}
