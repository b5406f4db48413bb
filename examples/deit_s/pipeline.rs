//! The stages of a run: train, search, fine-tune, compare; and what each leaves on disk.

use crate::config::Config;
use crate::feed::Feed;
use crate::folder::Intent;
use crate::networks::{self, taught, VitTeacher, DENSE, FINETUNED, SUBNET};
use crate::progress::Progress;
use crate::stage::{self, Plan, Stage};
use crate::stage_config::StageConfig;
use crate::AnyError;
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::Search;
use once_for_both::space::SearchSpace;
use once_for_both::subnet::{
    verify, Export, FoldingExtractor, LatencyComparison, Provenance, Subnet, SubnetExtractor,
    Verification,
};
use once_for_both::{device, Result};
use std::path::Path;
use std::rc::Rc;

/// Images that extraction is verified on.
const PROBE: i64 = 64;

/// What every stage shares.
pub struct Pipeline<'a> {
    pub config: &'a Config,
    pub out: &'a Path,
    pub feed: Feed,
    /// The network of the configuration.
    pub dense: VitConfig,
    teacher: Option<VitTeacher>,
    resume: bool,
}

/// A stage without a search.
struct Plain<'a> {
    name: &'static str,
    /// Under the run's.
    folder: &'static str,
    stage: &'a StageConfig,
    seed: u64,
}

/// A network that a stage left on disk, and how it came about.
pub struct Trained {
    pub network: Subnet<VitConfig>,
    pub verification: Verification,
    /// Against the dense network, as the folder says.
    pub latency: Vec<LatencyComparison>,
    pub stage: Stage,
}

impl<'a> Pipeline<'a> {
    /// Opens the data.
    pub fn open(config: &'a Config, out: &'a Path, resume: bool) -> Result<Self, AnyError> {
        let device = device::parse(&config.device)?;
        let feed = Feed::open(&config.data, config.network.image_size, device)?;
        let dense = config.architecture(feed.shape[0], feed.classes);
        dense.check()?;
        let teacher = config.teacher.as_ref().map(|teacher| {
            let path = teacher.weights.clone();
            let network = networks::load_teacher(&path, device)?;
            networks::expect_fits(network.architecture(), &feed, "--teacher")?;
            let name = path.display().to_string();
            Ok::<_, AnyError>(VitTeacher { name, network: Rc::new(network) })
        });
        Ok(Self { teacher: teacher.transpose()?, config, out, feed, dense, resume })
    }

    /// A network from disk that fits the data.
    pub fn load(&self, path: &Path, whose: &str) -> Result<Subnet<VitConfig>, AnyError> {
        let network = networks::load(path, &self.dense, self.config.seed, self.feed.device)?;
        networks::expect_fits(network.architecture(), &self.feed, whose)?;
        Ok(network)
    }

    /// The network to search: --weights, or what `train` left, if there is one.
    pub fn start(&self) -> Result<Option<Subnet<VitConfig>>, AnyError> {
        let trained = self.out.join(DENSE);
        match &self.config.weights {
            Some(path) => Ok(Some(self.load(path, "--weights")?)),
            None if trained.is_dir() => Ok(Some(self.load(&trained, "the run's dense network")?)),
            None => Ok(None),
        }
    }

    /// Trains the dense network.
    pub fn train(&self) -> Result<Option<Trained>, AnyError> {
        let stage = self.config.train.as_ref().ok_or("there is no [train] in the options")?;
        let plan = Plain { name: "train", folder: "dense", stage, seed: self.config.seed };
        let Some(stage) = self.plain(plan, &self.dense, None)? else { return Ok(None) };
        let provenance = self.provenance(stage.session.steps_done(), &self.dense)?;
        self.keep(stage, DENSE, Export::default().provenance(provenance)).map(Some)
    }

    /// The dense network trains on as long as the subnet did, on the same images.
    pub fn compare(&self, dense: &Subnet<VitConfig>) -> Result<Option<Trained>, AnyError> {
        let network = dense.architecture();
        let (stage, seed) = (&self.config.search.plain(), self.config.seed + 1);
        let plan = Plain { name: "compare", folder: "reference", stage, seed };
        let Some(stage) = self.plain(plan, network, Some(dense))? else { return Ok(None) };
        let provenance = self.provenance(stage.session.steps_done(), network)?;
        self.keep(stage, "reference/network", Export::default().provenance(provenance)).map(Some)
    }

    /// Trains a subnet on, and exports it as the search exports its own: against the dense network,
    /// if that is at hand.
    pub fn finetune(
        &self,
        subnet: &Subnet<VitConfig>,
        before: Provenance,
    ) -> Result<Option<Trained>, AnyError> {
        let stage = self.config.finetune.as_ref().ok_or("there is no [finetune] in the options")?;
        let plan =
            Plain { name: "finetune", folder: "finetune", stage, seed: self.config.seed + 2 };
        let Some(stage) = self.plain(plan, subnet.architecture(), Some(subnet))? else {
            return Ok(None);
        };
        let mut export = Export::default().torchscript().onnx();
        let steps = before.steps + stage.session.steps_done();
        export.provenance = Provenance { steps, ..before };
        if let Some(dense) = self.start()? {
            let supernet = stage.session.supernet();
            let own = FoldingExtractor.extract(supernet)?;
            export.latency = crate::summary::latency(&dense, &own, &self.feed)?;
        }
        self.keep(stage, FINETUNED, export).map(Some)
    }

    /// Searches a trained network, to its end.
    pub fn search(&self, dense: &Subnet<VitConfig>) -> Result<Option<Trained>, AnyError> {
        let (config, network) = (&self.config.search, dense.architecture());
        let budgets = self.config.budgets(network)?;
        let (steps, options) = self.search_options()?;
        let paint_until = options.pmim.map_or(0, |_| options.search_steps);
        let progress = self.progress("search", steps, config, network)?;
        let plan = self.plan(self.out, config, self.config.seed + 1, paint_until);
        let intent = Intent {
            name: "search".into(),
            steps,
            network: network.clone(),
            options: Some(options.clone()),
        };
        intent.write(self.out)?;
        let session = || {
            let (space, weights) = (network.space()?, Some(dense.weights()));
            let method = taught(self.teacher.clone())(&options)?;
            let device = self.feed.device;
            Search::with_method(method, network.clone(), space, weights, budgets, options, device)
        };
        let Some(stage) = stage::run(&plan, progress, session)? else { return Ok(None) };
        let own = FoldingExtractor.extract(stage.session.supernet())?;
        let mut export = Export::default().torchscript().onnx();
        export.provenance = self.provenance(stage.session.steps_done(), network)?;
        export.latency = crate::summary::latency(dense, &own, &self.feed)?;
        self.keep(stage, SUBNET, export).map(Some)
    }

    /// Trains a network, without a search.
    fn plain(
        &self,
        Plain { name, folder, stage: config, seed }: Plain,
        network: &VitConfig,
        start: Option<&Subnet<VitConfig>>,
    ) -> Result<Option<Stage>, AnyError> {
        let (steps, options) = self.plain_options(name, config)?;
        let progress = self.progress(name, steps, config, network)?;
        let path = self.out.join(folder);
        std::fs::create_dir_all(&path)?;
        let intent = Intent {
            name: name.into(),
            steps,
            network: network.clone(),
            options: Some(options.clone()),
        };
        intent.write(&path)?;
        let plan = self.plan(&path, config, seed, 0);
        let session = || {
            let (space, weights) = (SearchSpace::empty(), start.map(Subnet::weights));
            let method = taught(self.teacher.clone())(&options)?;
            let device = self.feed.device;
            Search::with_method(method, network.clone(), space, weights, vec![], options, device)
        };
        Ok(stage::run(&plan, progress, session)?)
    }

    /// Where a network comes from that took so many steps from a dense one.
    pub fn provenance(&self, steps: u64, dense: &VitConfig) -> Result<Provenance> {
        let (model, seed) = (dense.cost_model(), self.config.seed);
        Ok(Provenance {
            crate_version: env!("CARGO_PKG_VERSION").into(),
            seed,
            steps,
            dense_macs: model.dense_cost(Metric::Macs)?,
            dense_params: model.dense_cost(Metric::Params)?,
        })
    }

    /// Extracts, verifies and saves what a stage made; what comes back was loaded from disk.
    fn keep(&self, stage: Stage, name: &str, export: Export) -> Result<Trained, AnyError> {
        let supernet = stage.session.supernet();
        let subnet = FoldingExtractor.extract(supernet)?;
        let images = self.feed.probe(PROBE)?;
        let verification = verify(supernet, &subnet, &images)?;
        let folder = self.out.join(name);
        subnet.save(&folder, &images, &verification, &export)?;
        let network = Subnet::load(&folder, self.feed.device)?;
        Ok(Trained { network, verification, latency: export.latency, stage })
    }

    fn progress(
        &self,
        name: &'static str,
        steps: u64,
        config: &StageConfig,
        network: &VitConfig,
    ) -> Result<Progress> {
        let images = config.batch * config.accumulate as i64;
        let macs = network.cost_model().dense_cost(Metric::Macs)?;
        Ok(Progress::new(name, steps, images, macs))
    }

    fn plan<'b>(
        &'b self,
        folder: &'b Path,
        config: &'b StageConfig,
        seed: u64,
        paint_until: u64,
    ) -> Plan<'b> {
        let (feed, every) = (&self.feed, &self.config.every);
        Plan {
            folder,
            feed,
            config,
            every,
            seed,
            resume: self.resume,
            paint_until,
            teacher: self.teacher.clone(),
        }
    }
}
