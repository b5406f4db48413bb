//! tch's DINOv2, whose sizes are fixed by its constructor, wrapped without a change.

use super::{extract, missing, options, run, search, Batches};
use crate::support::tiny_run::alone;
use crate::support::{numbers, test_device, TestResult};
use once_for_both::check::self_check;
use once_for_both::cost::CostModel;
use once_for_both::models::{Architecture, Logits, Network, Pooling, VitConfig};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::subnet::{ExtractInto, Subnet};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::nn::Module;
use tch::vision::dinov2::DinoVisionTransformer;
use tch::{nn, Kind, Tensor};

/// Patch size and grid of the position table, constants in tch's code.
const PATCH: i64 = 14;
const POSITIONS: i64 = 37;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct DinoV2 {
    image_size: i64,
    embed_dim: i64,
    depth: usize,
    heads: i64,
}

impl DinoV2 {
    /// The `VitConfig` of the same function: variables have the same names, and all but the
    /// position table the same shapes.
    fn vit(&self) -> VitConfig {
        let vit = VitConfig::uniform(self.embed_dim, self.depth, self.heads);
        let vit = vit.input(self.image_size, 3, PATCH).layer_scale(0.0);
        VitConfig { norm_eps: 1e-5, ..vit.pooling(Pooling::ClassAndMean) }
    }
}

#[derive(Debug)]
struct Dino {
    network: DinoVisionTransformer,
    side: i64,
}

impl Network for Dino {
    fn forward(&self, images: &Tensor, _train: bool) -> Result<Logits> {
        let (actual, side) = (images.size(), self.side);
        if actual.len() != 4 || actual[1..] != [3, side, side] {
            let expected = vec![actual.first().copied().unwrap_or(0), 3, side, side];
            let (operation, name) = ("DINOv2 forward", "images".into());
            return Err(Error::Shape { operation, name, expected, actual });
        }
        Ok(Logits::single(self.network.forward(images)))
    }
}

impl Architecture for DinoV2 {
    type Network = Dino;
    const FAMILY: &'static str = "tch_dinov2";

    fn build(&self, path: &nn::Path) -> Result<Dino> {
        self.vit().check()?;
        if self.image_size == PATCH * POSITIONS {
            // At this size tch 0.26 adds the tokens to themselves instead of the positions.
            let (name, expected) = ("image_size".into(), "other than 518".into());
            return Err(Error::Invalid { name, expected, actual: self.image_size.to_string() });
        }
        let network = DinoVisionTransformer::new(path, self.depth, self.embed_dim, self.heads);
        Ok(Dino { network, side: self.image_size })
    }

    fn space(&self) -> Result<SearchSpace> {
        self.vit().space()?.without(&["embed"])
    }

    fn cost_model(&self) -> CostModel {
        self.vit().cost_model()
    }
}

impl ExtractInto for DinoV2 {
    type Target = VitConfig;

    fn translate(&self, sizes: &Sizes, mut weights: Weights) -> Result<(VitConfig, Weights)> {
        let table = weights.get("pos_embed").ok_or_else(|| missing("pos_embed"))?;
        let positions = positions(table, self.image_size)?;
        weights.insert("pos_embed".into(), positions);
        Ok((self.vit().resized(sizes)?, weights))
    }
}

/// The position table at another resolution, interpolated by the call that tch's model uses.
fn positions(table: &Tensor, image_size: i64) -> Result<Tensor> {
    let side = image_size / PATCH;
    let scale = (side as f64 + 0.1) / POSITIONS as f64;
    let class = table.f_narrow(1, 0, 1)?;
    let grid = table.f_narrow(1, 1, POSITIONS * POSITIONS)?;
    let grid = grid.f_reshape([1, POSITIONS, POSITIONS, -1])?.f_permute([0, 3, 1, 2])?;
    let grid = grid.f_upsample_bicubic2d([side, side], false, scale, scale)?;
    let grid = grid.f_permute([0, 2, 3, 1])?.f_reshape([1, side * side, -1])?;
    Ok(Tensor::f_cat(&[class, grid], 1)?)
}

/// Random weights of a trained network's scale; tch initialises tokens, positions and LayerScale to
/// zero.
fn drawn(network: &DinoV2) -> TestResult<Weights> {
    once_for_both::randomness::seed(11);
    let store = nn::VarStore::new(test_device());
    network.build(&store.root())?;
    let draw = |(name, variable): (String, Tensor)| -> TestResult<(String, Tensor)> {
        let randn = variable.f_randn_like()?.f_detach()?;
        let drawn = match name.rsplit('.').next() {
            Some("gamma") => randn.f_mul_scalar(0.1)?.f_add_scalar(0.2)?,
            Some("weight") if variable.dim() == 1 => randn.f_mul_scalar(0.1)?.f_add_scalar(1.0)?,
            Some("weight" | "bias") => randn.f_mul_scalar(0.02)?,
            _ => randn.f_mul_scalar(0.5)?,
        };
        Ok((name, drawn))
    };
    // In the order of their names, because that of the store is random.
    let variables: Weights = store.variables().into_iter().collect();
    variables.into_iter().map(draw).collect()
}

fn tiny() -> DinoV2 {
    DinoV2 { image_size: 42, embed_dim: 24, depth: 2, heads: 3 }
}

#[test]
fn self_check_of_dinov2_is_sound() -> TestResult {
    let _alone = alone();
    let images = Tensor::f_randn([2, 3, 42, 42], (Kind::Float, test_device()))?;
    self_check(&tiny(), &tiny().space()?, &images)?.expect_sound()?;
    Ok(())
}

#[test]
fn vit_with_translated_weights_equals_dinov2() -> TestResult {
    let _alone = alone();
    for image_size in [14, 28, 42, 98] {
        let network = DinoV2 { image_size, ..tiny() };
        let weights = drawn(&network)?;
        let store = nn::VarStore::new(test_device());
        let theirs = network.build(&store.root())?;
        for (name, mut variable) in store.variables() {
            tch::no_grad(|| variable.f_copy_(&weights[&name]))?;
        }
        let (vit, weights) = network.translate(&Sizes::new(), weights)?;
        let ours = Subnet::new(vit, &weights, test_device())?;
        let shape = [3, 3, image_size, image_size];
        let images = Tensor::f_randn(shape, (Kind::Float, test_device()))?;
        let expected = tch::no_grad(|| theirs.forward(&images, false))?.prediction()?;
        let scale = expected.f_abs()?.f_max()?.f_double_value(&[])?;
        let difference = ours.predict(&images)?.f_sub(&expected)?.f_abs()?.f_max()?;
        let difference = difference.f_double_value(&[])?;
        assert!(difference <= 1e-5 * scale, "{difference} of {scale} at {image_size}");
    }
    Ok(())
}

/// DINOv2-S, with 22 million parameters.
#[test]
fn search_of_dinov2_small_with_gates_alone_is_extracted_into_a_vit() -> TestResult {
    let _alone = alone();
    let network = DinoV2 { image_size: 28, embed_dim: 384, depth: 12, heads: 6 };
    let batches = Batches { count: 2, side: 28, classes: 1000 };
    let weights = drawn(&network)?;
    let mut search = search(&network, &weights, options(5, 4))?;
    run(&mut search, &batches, 5)?;
    extract(&mut search, &batches)?;
    Ok(())
}

/// The wrapper refuses 518², where tch's model ignores the position table.
#[test]
fn tch_dinov2_at_518_pixels_ignores_positions_and_is_refused() -> TestResult {
    let _alone = alone();
    let store = nn::VarStore::new(test_device());
    let network = DinoVisionTransformer::new(&store.root(), 1, 8, 2);
    let logits = |side: i64, seed: u64| -> TestResult<Vec<f64>> {
        once_for_both::randomness::seed(seed);
        let images = Tensor::f_randn([1, 3, side, side], (Kind::Float, test_device()))?;
        numbers(&tch::no_grad(|| network.forward(&images)))
    };
    let mut positions = store.variables()["pos_embed"].shallow_clone();
    let before = [logits(518, 1)?, logits(28, 1)?];
    tch::no_grad(|| positions.f_normal_(0.0, 1.0).map(drop))?;
    assert_eq!(logits(518, 1)?, before[0]);
    assert_ne!(logits(28, 1)?, before[1]);
    let refused = DinoV2 { image_size: 518, ..tiny() }.build(&store.root());
    assert!(matches!(refused, Err(Error::Invalid { name, .. }) if name == "image_size"));
    Ok(())
}
