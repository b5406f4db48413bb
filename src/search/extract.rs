//! The subnet of a decided search, verified.

use super::step::Search;
use crate::cost::Metric;
use crate::models::Architecture;
use crate::subnet::{
    extract_decided, verify, Extracted, FoldingExtractor, Provenance, SubnetExtractor,
};
use crate::{Error, Result};
use tch::{Kind, Tensor};

impl<A: Architecture> Search<A> {
    /// Extracts the subnet that was decided, and verifies on `images` that it computes what the
    /// masked network does. Where the options keep an EMA, the subnet has its weights.
    ///
    /// # Shapes
    /// `images`: a few real images, `[B, C, H, W]`; random ones of the same shape are used too.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) while a dimension is undecided or its gates fade out;
    /// [`Verification`](crate::Error::Verification) if logits differ by more than 1e-5 of their
    /// scale; [`Diverged`](crate::Error::Diverged) if those of the masked network are not finite.
    pub fn extract(&mut self, images: &Tensor) -> Result<Extracted<A>> {
        self.extract_with(&FoldingExtractor, images)
    }

    /// [`extract`](Self::extract) by an extractor of the caller's.
    ///
    /// # Errors
    /// Those of [`extract`](Self::extract) and of the extractor.
    pub fn extract_with<B: Architecture>(
        &mut self,
        extractor: &dyn SubnetExtractor<A, B>,
        images: &Tensor,
    ) -> Result<Extracted<B>> {
        let provenance = self.provenance()?;
        // θ is f32: the subnet of a search that still computes in bf16 is not rounded.
        self.supernet.set_compute_kind(Kind::Float)?;
        let extracted = self.evaluate(|supernet| {
            let subnet = extract_decided(extractor, supernet)?;
            let verification = verify(supernet, &subnet, images)?;
            Ok(Extracted { subnet, verification, provenance, images: images.shallow_clone() })
        });
        self.set_compute_precision()?;
        match extracted {
            // The allowed difference is a share of the masked network's logits.
            Err(Error::Verification { allowed, .. }) if !allowed.is_finite() => {
                let counts = self.non_finite.counts()?;
                let (in_a_row, first) = (counts.in_a_row, self.first_not_finite(counts));
                Err(Error::Diverged { step: self.step, in_a_row, first })
            }
            other => other,
        }
    }

    fn provenance(&self) -> Result<Provenance> {
        let model = self.supernet.cost_model();
        Ok(Provenance {
            seed: Some(self.options.seed),
            steps: Some(self.step),
            dense_macs: model.dense_cost(Metric::Macs)?,
            dense_params: model.dense_cost(Metric::Params)?,
            limits: self.limits.clone(),
            components: Some(self.components.ids()),
            ..Provenance::of(self.supernet.architecture())?
        })
    }
}
