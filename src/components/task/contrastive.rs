//! Contrastive task: similarities of an image's features to the embeddings of given texts.

use super::classification::{checked_apart, class_index_flag, expect_targets};
use super::{Task, TaskInputs};
use crate::components::ComponentId;
use crate::error::expect_shape;
use crate::range::Range;
use crate::tensors::{to_bytes, to_host};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Reduction, Tensor};

/// Similarities divided by it, and exponentials of them, stay finite in f32.
const TEMPERATURE: Range<f64> = Range::closed(1e-3, 1e3);
const BIAS: Range<f64> = Range::closed(-1e3, 1e3);

/// Loss of the similarities of an image to all texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContrastiveLoss {
    /// Cross-entropy of the softmax over the texts, as in CLIP.
    Softmax,
    /// Binary cross-entropy of the sigmoid of each similarity, summed over the texts, as in SigLIP. Targets
    /// may be several texts an image: class probabilities of 0 and 1.
    Sigmoid {
        /// Bias that is added to every similarity / temperature; SigLIP's `logit_bias`.
        bias: f64,
    },
}

/// Contrastive task of an image tower, such as CLIP's or SigLIP's: an image is classified by the similarity
/// of its features to the embeddings of given texts, one a class.
///
/// Logits are cos(features, text)/τ (+ bias). Targets are the texts of the images; without labels, with
/// distillation of weight 1, the student learns the dense tower's probabilities of the texts.
///
/// ```
/// use once_for_both::prelude::*;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> once_for_both::Result<()> {
/// // Embeddings of ten texts by a text tower; CLIP's temperature.
/// let texts = Tensor::f_randn([10, 16], (Kind::Float, Device::Cpu))?;
/// let zero_shot = Contrastive::new(&texts, 0.01, ContrastiveLoss::Softmax)?;
/// let tower = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(16); // 16 features
/// let search = Search::of(tower).task(zero_shot);
/// let search = search.budget(Budget::macs_share(0.5)).steps(60, 40).build()?;
/// # assert_eq!(search.components().task.id().name, "contrastive");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Contrastive {
    /// Unit vectors, `[texts, C]`, f32, on the device they were used on last.
    texts: Mutex<Tensor>,
    shape: [i64; 2],
    checksum: u32,
    temperature: f64,
    loss: ContrastiveLoss,
}

impl Contrastive {
    /// Name in its id.
    pub(crate) const NAME: &'static str = "contrastive";

    /// Creates the task. `temperature`: τ that cosines are divided by, 1/exp(`logit_scale`) of CLIP and
    /// SigLIP.
    ///
    /// # Shapes
    /// `texts`: `[texts, C]`, embeddings of any length: they are divided by their norms. C is the number of
    /// the network's outputs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for embeddings of another shape or not floating point, with the first that is all zeros or not
    /// finite, or for a parameter out of range.
    pub fn new(texts: &Tensor, temperature: f64, loss: ContrastiveLoss) -> Result<Self> {
        let shape = expect_texts(texts)?;
        crate::autograd::no_grad(|| {
            // On the host first, so that the checksum is that of the numbers given.
            let texts = texts.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
            let checksum = crc32fast::hash(&to_bytes(&texts.f_contiguous()?)?);
            let unit = texts.f_div(&norms(&texts)?)?;
            let sound = unit.f_isfinite()?.f_all_dim(1, false)?;
            if let Some(first) = to_host(&sound)?.iter().position(|sound| *sound == 0.0) {
                let (name, expected) = (format!("text embedding {first}"), "finite, not all zeros");
                let length = texts.f_get(first as i64)?.f_norm()?.f_double_value(&[])?;
                return Err(Error::invalid(name, expected, format!("one of norm {length}")));
            }
            let own = Self { texts: Mutex::new(unit), shape, checksum, temperature, loss };
            own.check()?;
            Ok(own)
        })
    }

    /// Returns the embeddings on a device.
    fn texts_on(&self, device: Device) -> Result<Tensor> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.device() != device {
            *texts = texts.f_to_device(device)?;
        }
        Ok(texts.shallow_clone())
    }
}

impl Task for Contrastive {
    fn id(&self) -> ComponentId {
        let [texts, width] = self.shape;
        let id = ComponentId::new(Self::NAME).with("temperature", self.temperature);
        let id = id.with("texts", texts).with("width", width);
        let id = id.with("crc32", format!("{:08x}", self.checksum));
        match self.loss {
            ContrastiveLoss::Softmax => id.with("loss", "softmax"),
            ContrastiveLoss::Sigmoid { bias } => id.with("loss", "sigmoid").with("bias", bias),
        }
    }

    fn losses(&self, inputs: &TaskInputs) -> Result<Tensor> {
        let (logits, targets) = (self.logits(inputs.outputs)?, &inputs.batch.targets);
        if self.loss == ContrastiveLoss::Softmax {
            return checked_apart(&logits, targets, inputs.label_smoothing, Reduction::None);
        }
        let targets = expect_targets(&logits, targets)?;
        let targets = match targets.kind() {
            Kind::Int64 => targets.f_one_hot(self.shape[0])?.f_to_kind(Kind::Float)?,
            _ => targets,
        };
        // (1 − s)·t + s/n, as in cross-entropy with label smoothing.
        let smoothing = inputs.label_smoothing;
        let targets = targets.f_mul_scalar(1.0 - smoothing)?;
        let targets = targets.f_add_scalar(smoothing / self.shape[0] as f64)?;
        let none: Option<&Tensor> = None;
        let losses =
            logits.f_binary_cross_entropy_with_logits(&targets, none, none, Reduction::None)?;
        Ok(losses.f_sum_dim_intlist([1i64].as_slice(), false, None)?)
    }

    fn logits(&self, outputs: &Tensor) -> Result<Tensor> {
        let images = outputs.size().first().copied().unwrap_or(0);
        let name = "features of the images";
        expect_shape("contrastive task", name, outputs, &[images, self.shape[1]])?;
        let unit = outputs.f_div(&norms(outputs)?.f_clamp_min(1e-12)?)?;
        let texts = self.texts_on(outputs.device())?.f_to_kind(outputs.kind())?;
        let similarities = unit.f_linear(&texts, None::<&Tensor>)?;
        let scaled = similarities.f_div_scalar(self.temperature)?;
        match self.loss {
            ContrastiveLoss::Softmax => Ok(scaled),
            ContrastiveLoss::Sigmoid { bias } => Ok(scaled.f_add_scalar(bias)?),
        }
    }

    fn class_index_flag(&self, inputs: &TaskInputs) -> Result<Option<Tensor>> {
        class_index_flag(self.shape[0], &inputs.batch.targets)
    }

    fn check(&self) -> Result<()> {
        TEMPERATURE.check("task.temperature", self.temperature)?;
        match self.loss {
            ContrastiveLoss::Softmax => Ok(()),
            ContrastiveLoss::Sigmoid { bias } => BIAS.check("task.bias", bias),
        }
    }
}

/// Returns the length of every row, `[rows, 1]`.
fn norms(rows: &Tensor) -> Result<Tensor> {
    Ok(rows.f_norm_scalaropt_dim(2.0, [-1i64].as_slice(), true)?)
}

/// Returns the number of texts and the width of their embeddings.
fn expect_texts(texts: &Tensor) -> Result<[i64; 2]> {
    if !texts.is_floating_point() {
        let actual = format!("{:?}", texts.kind());
        return Err(Error::invalid("kind of the text embeddings", "floating point", actual));
    }
    match <[i64; 2]>::try_from(texts.size()) {
        Ok([count, width]) if count > 1 && width > 0 => Ok([count, width]),
        _ => {
            let expected = "[texts, C] with at least 2 texts";
            let actual = format!("{:?}", texts.size());
            Err(Error::invalid("shape of the text embeddings", expected, actual))
        }
    }
}
