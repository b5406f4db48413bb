//! A network without a gated bias or token, whose rows do not divide a section of θ.

use super::Batches;
use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use once_for_both::components::MaskedTokens;
use once_for_both::cost::{Budget, CostModel, Polynomial};
use once_for_both::models::{Architecture, Logits, Network, PmimPorts};
use once_for_both::search::{Search, SearchOptions};
use once_for_both::space::{
    Binding, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{nn, Tensor};

/// Pixels of a patch of 8 × 8, in three channels: 3·4096 is no multiple of it, nor of its multiples of 64.
const PIXELS: i64 = 192;
const GRID: i64 = 2;
const CLASSES: i64 = 5;

/// Patches, which a linear map projects, and a head of their mean.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bare {
    width: i64,
}

#[derive(Debug)]
struct BareNetwork {
    patches: Tensor,
    head: Tensor,
}

impl BareNetwork {
    fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        let patches = images.f_unfold(2, 8, 8)?.f_unfold(3, 8, 8)?.f_permute([0, 2, 3, 1, 4, 5])?;
        let patches = patches.f_reshape([-1, GRID * GRID, PIXELS])?;
        Ok(patches.f_linear(&self.patches, None::<&Tensor>)?)
    }

    fn logits(&self, tokens: &Tensor) -> Result<Logits> {
        let mean = tokens.f_mean_dim([1i64].as_slice(), false, None)?;
        Ok(Logits::single(mean.f_linear(&self.head, None::<&Tensor>)?))
    }
}

impl Network for BareNetwork {
    fn forward(&self, images: &Tensor, _train: bool) -> Result<Logits> {
        self.logits(&self.tokens(images)?)
    }

    fn forward_masked(
        &self,
        images: &Tensor,
        masked: &MaskedTokens,
        _train: bool,
    ) -> Result<(Logits, Tensor)> {
        let tokens = masked.apply(&self.tokens(images)?)?;
        Ok((self.logits(&tokens)?, tokens))
    }
}

impl Architecture for Bare {
    type Network = BareNetwork;
    const FAMILY: &'static str = "bare";

    fn build(&self, path: &nn::Path) -> Result<BareNetwork> {
        let patches = path.f_randn("patches", &[self.width, PIXELS], 0.0, 0.1)?;
        let head = path.f_randn("head", &[CLASSES, self.width], 0.0, 0.1)?;
        Ok(BareNetwork { patches, head })
    }

    fn space(&self) -> Result<SearchSpace> {
        let candidates = Candidates::embedding(self.width)?;
        let embed = Dimension::new("embed", DimensionKind::Embedding, candidates)
            .bind(Binding::gated("patches", 0))
            .bind(Binding::narrowed("head", 1));
        Ok(SearchSpace { dimensions: vec![embed] })
    }

    fn cost_model(&self) -> CostModel {
        let cost = Polynomial::units("embed") * (PIXELS + CLASSES);
        CostModel::new(cost.clone(), cost, [("embed".into(), Size::flat(self.width))].into())
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        Ok(Self { width: sizes.get("embed").map_or(self.width, |size| size.channels) })
    }

    fn pmim_ports(&self) -> Result<PmimPorts> {
        Ok(PmimPorts {
            token_dimension: "embed".into(),
            token_width: self.width,
            feature_dimension: "embed".into(),
            feature_width: self.width,
            token_grid: [GRID, GRID],
            feature_rows: GRID,
            feature_patch: 8,
            channels: 3,
        })
    }
}

#[test]
fn network_without_gated_bias_or_token_learns_with_masked_images() -> TestResult {
    let _alone = alone();
    let batches = Batches { count: 6, side: 16, classes: CLASSES };
    let search = Search::of(Bare { width: 32 }).budget(Budget::macs_share(0.5));
    let mut search = search.options(SearchOptions::learned(4, 3)).device(test_device()).build()?;
    let before = search.supernet().raw_weights()["patches"].copy();
    search.step(&[batches.at(0)?], &mut ())?;
    assert!(!search.supernet().raw_weights()["patches"].equal(&before));
    Ok(())
}
