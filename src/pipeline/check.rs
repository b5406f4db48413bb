//! Everything about a run that can be refused before its first step.

use super::run_folder::is_saved;
use super::stages::has_exports;
use super::start::{no_dense_network, Start};
use super::{Command, ImageClassifier, Pipeline, Progress, Summary};
use crate::components::{Distillation, TeacherSource};
use crate::cost::Metric;
use crate::files::{if_there, read_json};
use crate::models::expect_readable;
use crate::sensitivity::Sensitivity;
use crate::subnet::{try_exports, Subnet};
use crate::Result;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Parameters of the largest network whose exports are tried before a run, which takes a second.
const TRIED: f64 = 30e6;

/// A network with random weights.
fn random_network<A: ImageClassifier>(network: &A, device: Device) -> Result<Subnet<A>> {
    let store = VarStore::new(device);
    network.build(&store.root())?;
    Subnet::new(network.clone(), &store.variables().into_iter().collect(), device)
}

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Checks everything that can be refused before the first step: options, budgets, networks, and the files that the
    /// results are written with. Exports that will be refused are shown ([`Progress::NotExported`]), as far as a network of
    /// at most 30 M parameters tells.
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
        let start = match self.config.command {
            Some(Command::Train) => self.check_train(),
            Some(Command::Finetune) => self.check_finetune(),
            Some(Command::Search) | None => self.check_search(),
        }?;
        let (_, network) = start.network(&self.dense);
        expect_readable(network)?;
        self.try_exports(&start, network)?;
        Ok(start)
    }

    /// Shows which exports of the results will be refused, as far as the network that the command starts from tells.
    fn try_exports(&self, start: &Start<A>, network: &A) -> Result<()> {
        let exported = self.config.command != Some(Command::Train) && has_exports(network);
        let params = network.cost_model().dense_cost(Metric::Params)?;
        if !exported || !self.group.is_main() || params > TRIED {
            return Ok(());
        }
        let random = match start.subnet() {
            Some(_) => None,
            None => Some(random_network(network, self.feed.device())?),
        };
        let Some(subnet) = start.subnet().or(random.as_ref()) else { return Ok(()) };
        let [channels, height, width] = self.feed.image_shape();
        let shape = [2, channels, height, width];
        let images = Tensor::f_randn(shape, (Kind::Float, self.feed.device()))?;
        try_exports(subnet, &images, &|files, reason| {
            self.show(&Progress::NotExported { files, reason: &reason });
            Ok(())
        })
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
