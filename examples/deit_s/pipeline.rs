//! The whole pipeline: train, search and fine-tune, extract, verify, save, reload, evaluate.

use crate::cli::Options;
use crate::progress::Progress;
use crate::stage::{self, Place, Stage, INTERRUPTED};
use crate::summary;
use once_for_both::cost::{Budget, Metric};
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::{Augmentation, Batches, ImageSet};
use once_for_both::extract::{
    verify, Export, FoldingExtractor, LatencyComparison, Provenance, Subnet, SubnetExtractor,
};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{SearchOptions, Session};
use once_for_both::{device, Error};
use serde_json::Value;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};
use tch::{Device, Kind, Tensor};

type AnyError = Box<dyn StdError>;

pub enum Outcome {
    Finished,
    Interrupted(PathBuf),
}

/// The run's data: training and test images, normalised alike.
struct Data {
    train: ImageSet,
    test: ImageSet,
}

pub fn run(options: Options) -> Result<Outcome, AnyError> {
    let device = device::parse(&options.device)?;
    let data = load(&options, device)?;
    let dense = architecture(&data.train);
    let budget = Budget::share(Metric::Macs, options.budget, &dense.cost_model())?;
    budget.check(&dense.cost_model(), &dense.space()?)?;
    let out = prepare(&options)?;
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    eprintln!(
        "DeiT-S on {} training and {} test images, {} on {device:?}; budget {:.1} of {:.1} MMACs; {}",
        data.train.len(),
        data.test.len(),
        if tch::get_num_threads() == 1 { "one thread".into() } else { format!("{} threads", tch::get_num_threads()) },
        budget.limit / 1e6,
        dense.cost_model().dense_cost(Metric::Macs)? / 1e6,
        out.display()
    );
    let stages =
        Stages { options: &options, data: &data, dense: &dense, budget, out: &out, device };
    let interrupted = Ok(Outcome::Interrupted(out.clone()));
    let Some(start) = stages.plain("dense", "dense start", None)? else { return interrupted };
    let Some(search) = stages.search(&start)? else { return interrupted };
    let Some(reference) = stages.plain("reference", "dense, same steps", Some(&start))? else {
        return interrupted;
    };
    stages.conclude(&start, &search, &reference)?;
    Ok(Outcome::Finished)
}

/// DeiT-S at the size of the images, with patches of a quarter of their side.
fn architecture(images: &ImageSet) -> VitConfig {
    let [channels, side, _] = images.image_shape();
    VitConfig::deit_small().input(side, channels, side / 4).classes(images.classes())
}

fn load(options: &Options, device: Device) -> Result<Data, AnyError> {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let folder = options.data.clone().unwrap_or(built_in);
    let read = |split| IdxImages::open_split(&folder, split);
    let (train, test) = (read(Split::Train)?, read(Split::Test)?);
    let classes = train.classes();
    let train = ImageSet::from_idx(train, classes, device)?;
    let (mean, std) = train.pixel_statistics()?;
    let test = ImageSet::from_idx(test, classes, device)?.normalised(mean, std)?;
    Ok(Data { train: train.normalised(mean, std)?, test })
}

/// The folder of the run with its config.json.
fn prepare(options: &Options) -> Result<PathBuf, AnyError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{now}")));
    if !options.resume && out.join("config.json").exists() {
        let path = out.display();
        return Err(
            format!("{path} holds a run already: add --resume, or choose another --out").into()
        );
    }
    if options.resume {
        expect_same_options(options, &out)?;
    }
    for folder in [out.clone(), out.join("dense"), out.join("reference")] {
        std::fs::create_dir_all(&folder)?;
    }
    std::fs::write(out.join("config.json"), serde_json::to_vec_pretty(options)?)?;
    Ok(out)
}

/// A run goes on as it began: what differs from its config.json is named.
fn expect_same_options(options: &Options, out: &Path) -> Result<(), AnyError> {
    let path = out.join("config.json");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    let (earlier, now) = (serde_json::from_str::<Value>(&text)?, serde_json::to_value(options)?);
    for name in ["budget", "steps", "batch", "seed", "lr", "data"] {
        if earlier.get(name) != now.get(name) {
            let was = earlier.get(name).unwrap_or(&Value::Null);
            return Err(format!(
                "{} began with {name} {was}, not {}: give the same, or another --out",
                out.display(),
                now[name]
            )
            .into());
        }
    }
    Ok(())
}

struct Stages<'a> {
    options: &'a Options,
    data: &'a Data,
    dense: &'a VitConfig,
    budget: Budget,
    out: &'a Path,
    device: Device,
}

impl Stages<'_> {
    fn place<'b>(&'b self, folder: &'b Path, seed: u64) -> Result<Place<'b>, Error> {
        let augmentation = Augmentation { pad: 2, flip: true };
        let train = Batches::new(&self.data.train, self.options.batch, seed, augmentation)?;
        Ok(Place { folder, train, test: &self.data.test, resume: self.options.resume })
    }

    fn progress(&self, name: &'static str) -> Result<Progress, Error> {
        let macs = self.dense.cost_model().dense_cost(Metric::Macs)?;
        Ok(Progress::new(name, self.options.steps, macs))
    }

    /// Plain training of the dense network.
    fn plain(
        &self,
        folder: &str,
        name: &'static str,
        start: Option<&Stage>,
    ) -> Result<Option<Stage>, Error> {
        let weights = start.map(|start| start.session.supernet().raw_weights());
        let options = SearchOptions::training(self.options.steps)
            .peak_rate(self.options.lr)
            .seed(self.options.seed);
        // The search and the dense network it is compared with see the same images.
        let seed = self.options.seed + u64::from(start.is_some());
        let folder = self.out.join(folder);
        stage::run(self.place(&folder, seed)?, self.progress(name)?, || {
            let space = self.dense.space()?;
            Session::new(self.dense.clone(), space, weights.as_ref(), vec![], options, self.device)
        })
    }

    /// Search and fine-tuning.
    fn search(&self, start: &Stage) -> Result<Option<Stage>, Error> {
        let weights = start.session.supernet().raw_weights();
        let steps = self.options.steps;
        let options = SearchOptions::new(steps, steps * 3 / 5)
            .peak_rate(self.options.lr)
            .seed(self.options.seed);
        let place = self.place(self.out, self.options.seed + 1)?;
        stage::run(place, self.progress("search")?, || {
            let (space, budgets) = (self.dense.space()?, vec![self.budget]);
            Session::new(self.dense.clone(), space, Some(&weights), budgets, options, self.device)
        })
    }

    /// Dense network and subnet in turn, at batch sizes 1 and 32.
    fn latency(
        &self,
        reference: &Stage,
        subnet: &Subnet<VitConfig>,
    ) -> Result<Vec<LatencyComparison>, Error> {
        let [channels, height, width] = self.data.test.image_shape();
        let dense = reference.session.supernet();
        let measure = |batch: i64| {
            let shape = [batch, channels, height, width];
            let images = Tensor::f_randn(shape, (Kind::Float, self.device))?;
            let dense = |images: &Tensor| dense.network_logits(images);
            LatencyComparison::measure(&dense, &|images| subnet.predict(images), &images, 20)
        };
        [1, 32].into_iter().map(measure).collect()
    }

    /// Extracts, verifies, saves, reloads and evaluates; then tells.
    fn conclude(&self, start: &Stage, search: &Stage, reference: &Stage) -> Result<(), AnyError> {
        let supernet = search.session.supernet();
        let subnet = FoldingExtractor.extract(supernet)?;
        let indices = Tensor::f_arange(64.min(self.data.test.len()), (Kind::Int64, self.device))?;
        let (images, _) = self.data.test.select(&indices)?;
        let verification = verify(supernet, &subnet, &images)?;
        let folder = self.out.join("subnet");
        let model = self.dense.cost_model();
        let latency = self.latency(reference, &subnet)?;
        let mut export = Export::default().torchscript().onnx().provenance(Provenance {
            crate_version: env!("CARGO_PKG_VERSION").into(),
            seed: self.options.seed,
            steps: self.options.steps,
            dense_macs: model.dense_cost(Metric::Macs)?,
            dense_params: model.dense_cost(Metric::Params)?,
        });
        export.latency.clone_from(&latency);
        subnet.save(&folder, &images, &verification, &export)?;
        let reloaded = Subnet::<VitConfig>::load(&folder, self.device)?;
        let summary = summary::Summary::measure(summary::Measured {
            options: self.options,
            data: (&self.data.train, &self.data.test),
            budget: self.budget,
            start,
            search,
            reference,
            subnet: &reloaded,
            verification,
            latency: &latency,
        })?;
        std::fs::write(self.out.join("summary.json"), serde_json::to_vec_pretty(&summary)?)?;
        summary.print(&reloaded, self.dense, self.out);
        Ok(())
    }
}
