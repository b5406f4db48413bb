//! Quality of predictions, image by image.

use crate::distributed::Collective;
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
        let hits = logits.f_argmax(-1, true)?.f_eq_tensor(&classes.f_unsqueeze(1)?)?;
        // The device is waited for once a batch.
        let both = to_host(&Tensor::f_cat(&[own, hits.f_to_kind(Kind::Float)?], 1)?)?;
        self.nll.extend(both.iter().step_by(2));
        self.hit.extend(both.iter().skip(1).step_by(2).map(|hit| *hit > 0.5));
        Ok(())
    }

    /// Returns the judgement of all images on every rank, in the order of the images: each rank has
    /// judged its share of every batch of at most `batch` images.
    pub(super) fn of_all_ranks(self, group: &dyn Collective, batch: usize) -> Result<Self> {
        if group.world_size() == 1 {
            return Ok(self);
        }
        let own = self.nll.iter().zip(&self.hit);
        let bytes: Vec<u8> = own
            .flat_map(|(nll, hit)| [&nll.to_le_bytes()[..], &[u8::from(*hit)]].concat())
            .collect();
        let all = group.all_gather(&bytes)?;
        let mut ranks: Vec<_> = all.iter().map(|bytes| bytes.chunks_exact(9)).collect();
        let (mut together, images) =
            (Self::default(), ranks.iter().map(ExactSizeIterator::len).sum());
        for place in 0..images {
            // Rank r has places r, r + n, … of every batch.
            let Some(image) = ranks[place % batch % all.len()].next() else { continue };
            let (nll, hit) = image.split_at(8);
            together.nll.push(f64::from_le_bytes(nll.try_into().unwrap_or_default()));
            together.hit.push(hit == [1]);
        }
        Ok(together)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judgement_of_hand_made_logits_has_their_nll_and_hits() -> Result<()> {
        // p = [3/4, 1/4] for both images, of which the second is of class 1.
        let logits = Tensor::f_from_slice(&[3f64.ln(), 0.0, 3f64.ln(), 0.0])?.f_view([2, 2])?;
        let mut judgement = Judgement::default();
        judgement.add(&logits, &Tensor::f_from_slice(&[0i64, 1])?)?;
        assert_eq!(judgement.hit, [true, false]);
        assert_eq!(judgement.top1(), 0.5);
        for (nll, p) in judgement.nll.iter().zip([0.75f64, 0.25]) {
            assert!((nll + p.ln()).abs() < 1e-6, "{nll}");
        }
        assert!((judgement.mean_nll() + 0.1875f64.ln() / 2.0).abs() < 1e-6);
        Ok(())
    }
}
