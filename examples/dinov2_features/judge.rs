//! How far features are from those of the dense network, and how well class tokens tell classes apart.

use crate::dense::Dense;
use crate::distance::{Distance, Distances, Images};
use crate::{AnyError, Options};
use once_for_both::batch::{Batch, Targets};
use once_for_both::data::{ImageFolder, Loader, LoaderOptions};
use once_for_both::evaluate::{Knn, Labelled, LinearProbe};
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::subnet::Subnet;
use once_for_both::Result;
use serde::Serialize;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Images that are judged at once, and that an extraction is verified on.
const EVALUATED: usize = 25;

/// Top-1 of held-out images by their class tokens and those of training images with labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Recognition {
    /// Of the votes of the nearest neighbours.
    pub knn: f64,
    /// Of the linear probe.
    pub probe: f64,
}

/// Judgement of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    #[serde(flatten)]
    pub distance: Distance,
    /// `None` without training images to know.
    #[serde(flatten)]
    pub recognition: Option<Recognition>,
    #[serde(flatten)]
    pub images: Images,
}

/// Held-out images with the features of the dense network, and training images that are known by their labels.
pub struct Judge {
    held_out: Vec<HeldOut>,
    known: Spread,
    known_classes: Vec<Tensor>,
    /// Judgement of the dense network.
    pub dense: Judgement,
}

struct HeldOut {
    images: Tensor,
    classes: Tensor,
    /// Features of the dense network, `[B, tokens, C]`.
    features: Tensor,
}

impl Judge {
    /// Opens the images, and judges the dense network.
    pub fn new(options: &Options, dense: &Dense) -> Result<Self, AnyError> {
        let network = dense.build(Precision::F32)?;
        let mut own = Spread::open(options, "val", dense, options.judged)?;
        let mut held_out = Vec::new();
        for at in own.steps.clone() {
            let Batch { images, targets } = own.loader.at(at)?;
            let features = network.predict(&images)?;
            held_out.push(HeldOut { images, classes: classes(targets)?, features });
        }
        let mut known = Spread::open(options, "train", dense, options.known)?;
        let mut known_classes = Vec::new();
        for at in known.steps.clone() {
            known_classes.push(classes(known.loader.at(at)?.targets)?);
        }
        let dense = Judgement {
            distance: Distance::default(),
            recognition: None,
            images: Images::default(),
        };
        let mut judge = Self { held_out, known, known_classes, dense };
        judge.dense = judge.of(&network)?;
        Ok(judge)
    }

    /// Images that an extraction is verified on.
    pub fn images(&self) -> &Tensor {
        &self.held_out[0].images
    }

    /// Numbers of images: held out, and known.
    pub fn counts(&self) -> [i64; 2] {
        let held_out = self.held_out.iter().map(|own| own.classes.size()[0]).sum();
        [held_out, self.known_classes.iter().map(|own| own.size()[0]).sum()]
    }

    /// Judges a network.
    pub fn of(&mut self, network: &Subnet<VitConfig>) -> Result<Judgement, AnyError> {
        let (mut distances, mut tokens) = (Distances::default(), Vec::new());
        for own in &self.held_out {
            let features = network.predict(&own.images)?;
            distances.add(&features, &own.features)?;
            tokens.push(class_token(&features)?);
        }
        let (distance, images) = (distances.mean(), distances.images());
        if self.known_classes.is_empty() {
            return Ok(Judgement { distance, recognition: None, images });
        }
        let mut known = Vec::new();
        for at in self.known.steps.clone() {
            known.push(class_token(&network.predict(&self.known.loader.at(at)?.images)?)?);
        }
        let all = |own: &[Tensor]| Tensor::f_cat(own, 0);
        let (tokens, known, known_classes) =
            (all(&tokens)?, all(&known)?, all(&self.known_classes)?);
        let truth = self.held_out.iter().map(|own| own.classes.shallow_clone());
        let truth = all(&truth.collect::<Vec<_>>())?;
        let train = Labelled { features: &known, classes: &known_classes };
        let test = Labelled { features: &tokens, classes: &truth };
        let knn = Knn::default().accuracy(train, test)?.top1;
        let probe = LinearProbe::default().accuracy(train, test)?.top1;
        Ok(Judgement { distance, recognition: Some(Recognition { knn, probe }), images })
    }
}

/// Batches of a folder of images, evenly spread over the classes, as they are in the order of their classes.
struct Spread {
    loader: Loader,
    steps: Vec<u64>,
}

impl Spread {
    /// Opens `images/NAME`, and takes as many batches as `images` fill; all if not given.
    fn open(options: &Options, name: &str, dense: &Dense, images: Option<u64>) -> Result<Self> {
        let side = dense.network.image_size as usize;
        let evaluation = LoaderOptions::evaluation(side, EVALUATED).workers(options.workers);
        let folder = Arc::new(ImageFolder::open(options.folder.join("images").join(name))?);
        let loader = Loader::new(folder, evaluation, dense.device)?;
        let all = loader.steps_per_epoch();
        let wanted = images.map_or(all, |images| images.div_ceil(EVALUATED as u64).min(all));
        Ok(Self { loader, steps: (0..wanted).map(|at| at * all / wanted).collect() })
    }
}

/// Returns the class token of every image, `[B, C]`.
fn class_token(features: &Tensor) -> Result<Tensor> {
    Ok(features.f_select(1, 0)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?)
}

fn classes(targets: Targets) -> Result<Tensor, AnyError> {
    match targets {
        Targets::Classes(classes) => Ok(classes.f_to_device(Device::Cpu)?),
        other => Err(format!("targets of a loader: got {other:?}, expected classes").into()),
    }
}
