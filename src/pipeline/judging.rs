//! Evaluation on the test images of a feed, shared by the processes that train together.

use super::feed::Source;
use super::{Feed, ImageClassifier, Judgement, Pipeline};
use crate::batch::{Batch, Targets};
use crate::subnet::Subnet;
use crate::tensors::bit_sum;
use crate::transfer::upload;
use crate::{Error, Result};
use serde_json::{json, Map, Value};
use tch::{Kind, Tensor};

/// Images that a process evaluates at once.
const EVALUATION_BATCH: usize = 200;

impl<A: ImageClassifier> Pipeline<'_, A> {
    /// Returns the top-1 accuracy, in [0, 1], of a network on the test images, of which each process
    /// evaluates its share.
    ///
    /// # Errors
    /// Those of the data set; [`Error::Distributed`] for a rank with another configuration, network or
    /// data set than rank 0's.
    pub fn top1(&self, network: &Subnet<A>) -> Result<f64> {
        let sums = network.weights().iter().map(|(name, weight)| {
            let sum = bit_sum(&weight.f_to_kind(Kind::Float)?)?.f_int64_value(&[])?;
            Ok((name.clone(), sum.into()))
        });
        let sums = self.group.agree(sums.collect::<Result<Map<String, Value>>>())?;
        self.expect_alike(json!({ "weights": sums }))?;
        self.feed.top1(|images| network.predict(images))
    }
}

impl Feed {
    /// Returns the top-1 accuracy, in [0, 1], of `predict` on the test images.
    ///
    /// # Shapes
    /// `predict`: `[B, C, H, W]` to logits `[B, classes]`.
    ///
    /// # Errors
    /// Those of `predict` and of the data set.
    pub fn top1(&self, predict: impl Fn(&Tensor) -> Result<Tensor>) -> Result<f64> {
        Ok(self.judge(predict)?.top1())
    }

    /// Returns the negative log-likelihood (NLL) and the hit of `predict` on every test image. Where
    /// several processes train together, each predicts for its share, and all get the result.
    ///
    /// # Shapes
    /// `predict`: `[B, C, H, W]` to logits `[B, classes]`.
    ///
    /// # Errors
    /// Those of `predict` and of the data set; [`Error::Distributed`] if another rank failed.
    pub fn judge(&self, predict: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Judgement> {
        let judged = self.group.agree(self.judge_share(predict))?;
        judged.of_all_ranks(&*self.group, self.evaluation_batch())
    }

    /// Judges this process's share of every batch of test images.
    fn judge_share(&self, predict: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Judgement> {
        let (mut judgement, share) = (Judgement::default(), self.share());
        let mut add = |images: &Tensor, classes: &Tensor| match images.size().first() {
            Some(0) => Ok(()),
            _ => judgement.add(&predict(images)?, classes),
        };
        match &self.source {
            Source::Memory { test, .. } => {
                let all = test.len() as usize;
                for first in (0..all).step_by(self.evaluation_batch()) {
                    let own = share.judged(self.evaluation_batch().min(all - first));
                    let own: Vec<i64> = own.map(|place| (first + place) as i64).collect();
                    let (images, classes) = test.select(&upload(&own, self.device)?)?;
                    add(&images, &classes)?;
                }
            }
            Source::Folder { test, .. } => {
                let options = self.evaluation_options(self.evaluation_batch());
                let mut loader = self.loader(test, options)?.share(share)?;
                for step in 0..loader.steps_per_epoch() {
                    let Batch { images, targets: Targets::Classes(classes) } = loader.at(step)?
                    else {
                        return Err(Error::invalid("mixing of an evaluation", "None", "Some"));
                    };
                    add(&images, &classes)?;
                }
            }
        }
        Ok(judgement)
    }

    /// Images that all processes evaluate at once.
    fn evaluation_batch(&self) -> usize {
        EVALUATION_BATCH * self.group.world_size()
    }
}
