//! The property checks of importances and extractors pass for the crate's components, and each
//! property fails for a component that breaks it.

mod support;

use once_for_both::components::{magnitude, ComponentId, Importance, Observation, UnitImportance};
use once_for_both::cost::CostModel;
use once_for_both::models::{
    Architecture, Mlp, Norm, Pooling, QkvBias, SwinConfig, VisionTransformer, VitConfig,
};
use once_for_both::space::{Dimension, SearchSpace, Size, Sizes};
use once_for_both::strategies::{
    check_extractor, check_importance, extractor_properties, IMPORTANCE_PROPERTIES,
};
use once_for_both::subnet::{FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::{Supernet, Weights};
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use support::tiny_run::alone;
use support::{cases_on_device, test_device, TestResult};
use tch::{nn, Kind, Tensor};

const CASES: u32 = 200;
/// Cases that are enough to find a broken component.
const FEW: u32 = 10;

#[test]
fn check_importance_of_every_ready_importance_passes() -> TestResult {
    let _alone = alone();
    for importance in [
        UnitImportance::Learned,
        UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 },
        UnitImportance::Magnitude { mean: 2.0, std: 0.5 },
        UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.5 },
        UnitImportance::Random { mean: 2.0, std: 0.5 },
    ] {
        check_importance(&importance, cases_on_device(CASES), test_device())?;
    }
    Ok(())
}

/// An importance that differs from the weights' magnitude by one mistake.
#[derive(Debug)]
struct Broken {
    mistake: Mistake,
    calls: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mistake {
    /// A parameter of the id is NaN, which JSON does not have.
    NanInId,
    /// Scores are flat instead of `[heads, channels]`.
    FlatScores,
    /// Scores are computed with a gradient to the weights.
    KeepsGraph,
    /// Scores are added to the bias in place.
    WritesBias,
    /// Scores grow with the number of calls.
    CountsCalls,
    /// Scores contain the mean of all weights, those of PMIM too.
    ReadsAllWeights,
    /// Scores grow with the index of the unit.
    ByIndex,
}

impl Importance for Broken {
    fn id(&self) -> ComponentId {
        let parameter = if self.mistake == Mistake::NanInId { f64::NAN } else { 0.5 };
        ComponentId::new("broken").with("parameter", parameter)
    }

    fn initial(&self, dimension: &Dimension, weights: &Weights) -> Result<Tensor> {
        let score = magnitude(dimension, weights)?;
        match self.mistake {
            Mistake::NanInId => Ok(score),
            Mistake::FlatScores => Ok(score.f_flatten(0, -1)?.f_unsqueeze(0)?.f_unsqueeze(0)?),
            Mistake::KeepsGraph => {
                tch::with_grad(|| Ok(score.f_add(&weights["d.weight"].f_mean(None)?)?))
            }
            Mistake::WritesBias => {
                let _ = weights["d.bias"].shallow_clone().f_add_scalar_(1.0)?;
                Ok(score)
            }
            Mistake::CountsCalls => {
                let calls = self.calls.fetch_add(1, Ordering::Relaxed);
                Ok(score.f_add_scalar(calls as f64)?)
            }
            Mistake::ReadsAllWeights => weights
                .values()
                .try_fold(score, |sum, weight| Ok(sum.f_add(&weight.f_mean(None)?)?)),
            Mistake::ByIndex => {
                let index = Tensor::f_arange(score.numel() as i64, (Kind::Float, score.device()))?;
                Ok(score.f_add(&index.f_view_as(&score)?)?)
            }
        }
    }

    fn update(&self, seen: Observation) -> Result<Option<Tensor>> {
        Ok(Some(seen.score.f_detach()?))
    }
}

#[test]
fn check_importance_of_broken_ones_names_the_broken_property() {
    let _alone = alone();
    let mistakes = [
        Mistake::NanInId,
        Mistake::FlatScores,
        Mistake::KeepsGraph,
        Mistake::WritesBias,
        Mistake::CountsCalls,
        Mistake::ReadsAllWeights,
        Mistake::ByIndex,
    ];
    assert_eq!(IMPORTANCE_PROPERTIES.len(), mistakes.len(), "one mistake for each property");
    for ((expected, _), mistake) in IMPORTANCE_PROPERTIES.iter().zip(mistakes) {
        let broken = Broken { mistake, calls: AtomicU64::new(0) };
        match check_importance(&broken, FEW, test_device()) {
            Err(found) => assert_eq!(found.property, *expected, "{mistake:?}: {found}"),
            Ok(()) => panic!("no counterexample for {mistake:?}, which breaks {expected:?}"),
        }
    }
}

/// A ViT small enough for hundreds of extractions.
fn vit() -> VitConfig {
    VitConfig::uniform(6, 2, 2).input(4, 3, 2).classes(3)
}

fn images(side: i64) -> TestResult<Tensor> {
    Ok(Tensor::f_randn([2, 3, side, side], (Kind::Float, test_device()))?)
}

#[test]
fn check_extractor_of_folding_passes_for_vit_and_swin() -> TestResult {
    let _alone = alone();
    let family = VitConfig {
        registers: 1,
        pre_norm: true,
        norm: Norm::Rms,
        mlp: Mlp::SwiGlu,
        qkv_bias: QkvBias::QueryValue,
        qk_norm: Some(Norm::Layer),
        ..vit().pooling(Pooling::MeanNorm)
    };
    let apart = vit().qk_v_apart()?;
    for vit in [vit(), vit().distilled(), vit().layer_scale(0.1), family, apart] {
        check_extractor(&FoldingExtractor, &vit, &images(4)?, FEW)?;
    }
    let swin = SwinConfig::uniform(4, &[1, 1], 2).input(8, 3, 2).classes(3);
    let swin = SwinConfig { window_size: 2, ..swin };
    check_extractor(&FoldingExtractor, &swin, &images(8)?, FEW)?;
    check_extractor(&FoldingExtractor, &swin.qk_v_apart()?, &images(8)?, FEW)?;
    // A low budget removes attentions, with their queries and keys.
    check_extractor(&FoldingExtractor, &vit().qk_v_apart()?, &images(4)?, 4 * FEW)?;
    Ok(())
}

/// Another family with the network of a ViT and other names of its dimensions.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Renamed(VitConfig);

impl Architecture for Renamed {
    type Network = VisionTransformer;
    const FAMILY: &'static str = "renamed";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        self.0.build(path)
    }

    fn space(&self) -> Result<SearchSpace> {
        Ok(SearchSpace::empty())
    }

    fn cost_model(&self) -> CostModel {
        self.0.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        Ok(Self(self.0.resized(sizes)?))
    }
}

/// Another family whose dimensions have the names of a ViT's.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Alike(VitConfig);

impl Architecture for Alike {
    type Network = VisionTransformer;
    const FAMILY: &'static str = "alike";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        self.0.build(path)
    }

    fn space(&self) -> Result<SearchSpace> {
        self.0.space()
    }

    fn cost_model(&self) -> CostModel {
        self.0.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        Ok(Self(self.0.resized(sizes)?))
    }
}

/// Extracts correctly, then drops an MLP that should stay; of a dense network, none.
struct DropsBranch;

impl SubnetExtractor<VitConfig> for DropsBranch {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> Result<Subnet<VitConfig>> {
        let subnet = FoldingExtractor.extract(supernet)?;
        let own = subnet.architecture();
        if *own == vit() {
            return Ok(subnet);
        }
        let smaller = own.resized(&Sizes::from([("blocks.1.mlp".into(), Size::REMOVED)]))?;
        let shapes = smaller.variables()?;
        let left = subnet.weights().iter().filter(|(name, _)| shapes.contains_key(*name));
        let left: Weights = left.map(|(name, own)| (name.clone(), own.shallow_clone())).collect();
        Subnet::new(smaller, &left, supernet.device())
    }
}

impl SubnetExtractor<VitConfig, Alike> for DropsBranch {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> Result<Subnet<Alike>> {
        let subnet = SubnetExtractor::<VitConfig>::extract(self, supernet)?;
        let architecture = Alike(subnet.architecture().clone());
        Subnet::new(architecture, subnet.weights(), supernet.device())
    }
}

/// Extracts the network with zeros for pruned units, which is larger.
struct MaskedExtractor;

impl SubnetExtractor<VitConfig> for MaskedExtractor {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> Result<Subnet<VitConfig>> {
        let (architecture, weights) = supernet.masked_network()?;
        Subnet::new(architecture, &weights, supernet.device())
    }
}

impl SubnetExtractor<VitConfig, Renamed> for MaskedExtractor {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> Result<Subnet<Renamed>> {
        let (architecture, weights) = supernet.masked_network()?;
        Subnet::new(Renamed(architecture), &weights, supernet.device())
    }
}

/// Extracts the weights without their gates.
struct WithoutGates;

impl SubnetExtractor<VitConfig> for WithoutGates {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> Result<Subnet<VitConfig>> {
        let mut weights = supernet.raw_weights();
        let architecture = supernet.architecture().standardised(&mut weights)?;
        Subnet::new(architecture, &weights, supernet.device())
    }
}

/// Extracts correctly, then scales a weight θ of the supernet in place.
struct WritesWeights;

impl SubnetExtractor<VitConfig> for WritesWeights {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> Result<Subnet<VitConfig>> {
        let subnet = FoldingExtractor.extract(supernet)?;
        let weights = supernet.raw_weights();
        tch::no_grad(|| {
            weights["patch_embed.proj.weight"].shallow_clone().f_mul_scalar_(2.0).map(drop)
        })?;
        Ok(subnet)
    }
}

/// Adds 1e-8 to the bias of the classifier in every second call: far less than the allowed rounding.
struct CountsCalls(AtomicU64);

impl SubnetExtractor<VitConfig> for CountsCalls {
    fn extract(&self, supernet: &Supernet<VitConfig>) -> Result<Subnet<VitConfig>> {
        let subnet = FoldingExtractor.extract(supernet)?;
        let calls = self.0.fetch_add(1, Ordering::Relaxed) % 2;
        let mut bias = subnet.weights()["head.bias"].shallow_clone();
        tch::no_grad(|| bias.f_add_scalar_(calls as f64 * 1e-8).map(drop))?;
        Ok(subnet)
    }
}

#[test]
fn check_extractor_of_broken_ones_names_the_broken_property() -> TestResult {
    let _alone = alone();
    let (vit, images) = (vit(), images(4)?);
    let found = [
        check_extractor::<_, VitConfig>(&MaskedExtractor, &vit, &images, FEW),
        check_extractor::<_, Renamed>(&MaskedExtractor, &vit, &images, FEW),
        check_extractor(&WithoutGates, &vit, &images, FEW),
        check_extractor(&WritesWeights, &vit, &images, FEW),
        check_extractor(&CountsCalls(AtomicU64::new(0)), &vit, &images, FEW),
    ];
    let properties = extractor_properties::<VitConfig, VitConfig>();
    assert_eq!(properties.len(), found.len(), "one broken extractor for each property");
    for ((expected, _), found) in properties.iter().zip(found) {
        match found {
            Err(found) => assert_eq!(found.property, *expected, "{found}"),
            Ok(()) => panic!("no counterexample for an extractor that breaks {expected:?}"),
        }
    }
    Ok(())
}

/// A branch that is no dimension of the subnet has to be one that the search removed.
#[test]
fn check_extractor_of_one_that_drops_a_branch_to_keep_names_the_sizes() -> TestResult {
    let _alone = alone();
    let (vit, images) = (vit(), images(4)?);
    for found in [
        check_extractor::<_, VitConfig>(&DropsBranch, &vit, &images, FEW),
        check_extractor::<_, Alike>(&DropsBranch, &vit, &images, FEW),
    ] {
        let found = found.err().ok_or("no counterexample")?;
        assert_eq!(found.property, "subnet has the decided sizes", "{found}");
        assert!(found.reason.contains("blocks.1.mlp"), "{found}");
    }
    Ok(())
}
