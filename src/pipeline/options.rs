//! Options of the library for each stage, checked before any stage runs.

use super::stage::steps_per_epoch;
use super::{Command, ImageClassifier, Pipeline, StageConfig};
use crate::search::SearchOptions;
use crate::{Error, Result};

/// Share of the steps that search, by default.
const SEARCH_SHARE: f64 = 0.6;

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Refuses options of the stages that are about to run.
    pub(super) fn check_options(&self) -> Result<()> {
        let config = self.config();
        config.check()?;
        let sections = Command::sections(config.command);
        for &section in sections {
            match (section, &config.train, &config.finetune) {
                ("search", ..) => {
                    let options = self.search_options()?;
                    options.expect_shared(config.search.batch, self.feed.share())?;
                    config.search.search_components()?;
                }
                ("train", Some(stage), _) | ("finetune", _, Some(stage)) => {
                    self.training_options(section, stage)?;
                }
                _ => {}
            }
        }
        if config.compare && sections.contains(&"search") {
            self.training_options("compare", &config.search.plain())?;
        }
        Ok(())
    }

    pub(super) fn search_options(&self) -> Result<SearchOptions> {
        let stage = &self.config().search;
        let (steps, epoch) = self.length("search", stage)?;
        let share = stage.share.unwrap_or(SEARCH_SHARE);
        let search_steps = (steps as f64 * share).round() as u64;
        if search_steps == 0 {
            let expected = format!("a share that is at least one of the {steps} steps");
            return Err(Error::invalid("search.share", expected, share));
        }
        self.options("search", stage.method.options(steps, search_steps), stage, epoch)
    }

    pub(super) fn training_options(
        &self,
        name: &str,
        stage: &StageConfig,
    ) -> Result<SearchOptions> {
        stage.expect_no_search(name)?;
        let (steps, epoch) = self.length(name, stage)?;
        let options = self.options(name, SearchOptions::training(steps), stage, epoch)?;
        if options.training.freeze_weights {
            let name = format!("{name}.options.training.freeze_weights");
            return Err(Error::invalid(name, "false: only a search can freeze the weights", true));
        }
        Ok(options)
    }

    /// Optimiser steps of a stage, and of an epoch in it.
    fn length(&self, name: &str, stage: &StageConfig) -> Result<(u64, u64)> {
        stage.check(name)?;
        let batches = self.feed().batches(stage.batch, 0).map_err(|e| e.of_section(name))?;
        let epoch = steps_per_epoch(&batches, stage);
        Ok((stage.optimiser_steps(name, epoch)?, epoch))
    }

    fn options(
        &self,
        name: &str,
        options: SearchOptions,
        stage: &StageConfig,
        epoch: u64,
    ) -> Result<SearchOptions> {
        let mut options = options.seed(self.config().seed);
        options.log_interval = self.config().every.log;
        let teacher = self.config().distillation();
        options.training.distillation = teacher.or(options.training.distillation);
        let options = stage.apply(name, options, epoch)?;
        options.check().map_err(|error| error.of_section(&format!("{name}.options")))?;
        Ok(options)
    }
}
