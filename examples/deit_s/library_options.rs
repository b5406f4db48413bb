//! What the library is told for each stage, checked before any of them runs.

use crate::pipeline::Pipeline;
use crate::stage::steps_per_epoch;
use crate::stage_config::StageConfig;
use crate::AnyError;
use once_for_both::search::SearchOptions;

/// Share of the steps that search, where nothing else is said.
const SEARCHING: f64 = 0.6;

impl Pipeline<'_> {
    /// Refuses options of the stages that are about to run, before a step is done.
    pub fn check(&self, stages: &[&str]) -> Result<(), AnyError> {
        for &stage in stages {
            match (stage, &self.config.train, &self.config.finetune) {
                ("search", ..) => self.search_options().map(drop)?,
                ("train", Some(config), _) | ("finetune", _, Some(config)) => {
                    self.plain_options(stage, config).map(drop)?;
                }
                _ => {}
            }
        }
        if self.config.compare && stages.contains(&"search") {
            self.plain_options("compare", &self.config.search.plain())?;
        }
        Ok(())
    }

    pub fn search_options(&self) -> Result<(u64, SearchOptions), AnyError> {
        let config = &self.config.search;
        let (steps, epoch) = self.length("search", config)?;
        let share = config.share.unwrap_or(SEARCHING);
        if !(share > 0.0 && share <= 1.0) {
            return Err(format!("search.share: expected within (0, 1], got {share}").into());
        }
        let searching = (steps as f64 * share).round() as u64;
        let options = config.method.options(steps, searching);
        Ok((steps, self.options("search", options, config, epoch)?))
    }

    pub fn plain_options(
        &self,
        name: &str,
        config: &StageConfig,
    ) -> Result<(u64, SearchOptions), AnyError> {
        let (steps, epoch) = self.length(name, config)?;
        Ok((steps, self.options(name, SearchOptions::training(steps), config, epoch)?))
    }

    fn length(&self, name: &str, config: &StageConfig) -> Result<(u64, u64), AnyError> {
        if config.batch < 1 {
            return Err(format!("{name}.batch: expected at least 1, got {}", config.batch).into());
        }
        if config.accumulate == 0 {
            return Err(format!("{name}.accumulate: expected at least 1, got 0").into());
        }
        let epoch = steps_per_epoch(&self.feed.stream(config.batch, 0)?, config);
        Ok((config.steps(name, epoch)?, epoch))
    }

    fn options(
        &self,
        name: &str,
        options: SearchOptions,
        config: &StageConfig,
        epoch: u64,
    ) -> Result<SearchOptions, AnyError> {
        let mut options = options.seed(self.config.seed);
        options.log_interval = self.config.every.log;
        options.distillation = self.config.distillation();
        let options = config.apply(name, options, epoch)?;
        options.check()?;
        Ok(options)
    }
}
