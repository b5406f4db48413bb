//! Quality of predictions, image by image.

use crate::tensors::to_host;
use crate::Result;
use tch::{Kind, Tensor};

/// Negative log-likelihood and hit of every test image, in the order of the images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// −ln p of the true class.
    pub nll: Vec<f64>,
    /// Whether the true class has the largest logit.
    pub hit: Vec<bool>,
}

impl Judgement {
    /// Adds the images of a batch.
    pub(super) fn add(&mut self, logits: &Tensor, classes: &Tensor) -> Result<()> {
        let log_p = logits.f_to_kind(Kind::Float)?.f_log_softmax(-1, None)?;
        let own = log_p.f_gather(1, &classes.f_unsqueeze(1)?, false)?.f_neg()?;
        self.nll.extend(to_host(&own)?);
        let hits = logits.f_argmax(-1, false)?.f_eq_tensor(classes)?;
        self.hit.extend(to_host(&hits)?.into_iter().map(|hit| hit > 0.5));
        Ok(())
    }

    /// Returns the mean NLL.
    pub fn mean_nll(&self) -> f64 {
        self.nll.iter().sum::<f64>() / self.nll.len().max(1) as f64
    }

    /// Returns the top-1 accuracy, in [0, 1].
    pub fn top1(&self) -> f64 {
        let hits = self.hit.iter().filter(|hit| **hit).count();
        hits as f64 / self.hit.len().max(1) as f64
    }
}
