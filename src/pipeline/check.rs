//! Everything about a run that can be refused before its first step.

use super::run_folder::is_saved;
use super::start::{no_dense_network, Start};
use super::{Command, ImageClassifier, Pipeline, Summary};
use crate::components::{Distillation, TeacherSource};
use crate::files::{if_there, read_json};
use crate::sensitivity::Sensitivity;
use crate::Result;

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Checks everything that can be refused before the first step: options, budgets, networks, and the files that the
    /// results are written with.
    ///
    /// # Errors
    /// Those of [`RunFolder::check`](super::RunFolder::check);
    /// [`PipelineError::OtherImages`](crate::error::PipelineError::OtherImages) for images, and
    /// [`PipelineError::Changed`](crate::error::PipelineError::Changed) for a dense network, other than those that the
    /// run in the folder began with; those of [`run`](Self::run) that its options cause.
    pub fn check(&self) -> Result<()> {
        self.checked_start().map(drop)
    }

    /// [`check`](Self::check), with the network that the command starts from.
    pub(super) fn checked_start(&self) -> Result<Start<A>> {
        self.run.check()?;
        self.expect_same_images()?;
        self.expect_same_network()?;
        self.run.check_stages(&self.config)?;
        if_there(read_json::<Sensitivity>(&self.run.sensitivity()))?;
        match self.config.command {
            Some(Command::Train) => self.check_train(),
            Some(Command::Finetune) => self.check_finetune(),
            Some(Command::Search) | None => self.check_search(),
        }
    }

    fn check_train(&self) -> Result<Start<A>> {
        self.check_options()?;
        let start = self.dense_start()?;
        let (_, dense) = start.network(&self.dense);
        self.config.space.searched(dense)?;
        self.config.budgets(dense, self.latency_model()?.as_ref())?;
        Ok(start)
    }

    fn check_finetune(&self) -> Result<Start<A>> {
        // First: without a subnet, no option matters.
        self.subnet_to_finetune()?;
        self.check_options()?;
        Summary::read(&self.run.summary())?;
        self.subnet_start()
    }

    fn check_search(&self) -> Result<Start<A>> {
        self.check_options()?;
        let alone = self.config.command == Some(Command::Search);
        let trains = self.run.has_begun(Some(Command::Train)) && !is_saved(&self.run.dense());
        if trains && alone {
            return Err(self.unfinished("train"));
        }
        let start = self.dense_start()?;
        if alone && start.dense().is_none() {
            return Err(no_dense_network());
        }
        let (_, dense) = start.network(&self.dense);
        dense.resized(&dense.cost_model().dense)?;
        self.expect_measurable()?;
        let options = self.search_options()?;
        if let (Start::Dense(own), true) =
            (&start, self.is_taught_by(options.training.distillation))
        {
            let because =
                "it teaches its search; train it first (command train), or give a teacher";
            own.expect_trained("weights", because)?;
        }
        self.search_of(dense)?.options(options).check()?;
        Ok(start)
    }

    /// Whether the dense network teaches a search that begins; one that has begun has its teacher.
    fn is_taught_by(&self, distillation: Option<Distillation>) -> bool {
        let begins = !(self.resume && self.run.has_begun(Some(Command::Search)));
        begins && distillation.is_some_and(|own| own.teacher == TeacherSource::Dense)
    }
}
