//! The search space of queries and keys apart from values, and pruning to chosen sizes.

use crate::support::tiny_run::{alone, batch, vit};
use crate::support::{test_device, TestResult};
use crate::{network, swin};
use once_for_both::check::self_check;
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, QkvBias, VitConfig};
use once_for_both::space::{DimensionKind, Size, Sizes};
use once_for_both::subnet::{verify, FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::Supernet;
use tch::{Kind, Tensor};

#[test]
fn space_with_queries_and_keys_apart_has_a_dimension_of_their_channels() -> TestResult {
    let space = VitConfig::deit_small().qk_v_apart()?.space()?;
    assert_eq!(space.dimensions.len(), 1 + 3 * 12);
    let own = space.dimensions.iter().find(|own| own.name == "blocks.3.attn.qk").ok_or("none")?;
    assert_eq!(own.kind, DimensionKind::Attention);
    assert_eq!(own.candidates.full(), Size::flat(64));
    assert_eq!(own.candidates.widths(), [16, 24, 32, 40, 48, 56, 64]);
    assert!(!own.removable);
    let space = space.multiple_of(DimensionKind::Attention, 32)?;
    let own = space.dimensions.iter().find(|own| own.name == "blocks.3.attn.qk").ok_or("none")?;
    assert_eq!(own.candidates.widths(), [32, 64]);
    Ok(())
}

#[test]
fn self_check_with_queries_and_keys_apart_is_sound() -> TestResult {
    let _alone = alone();
    let images = Tensor::f_randn([2, 3, 16, 16], (Kind::Float, test_device()))?;
    let vit = VitConfig { qkv_bias: QkvBias::None, ..vit() }.qk_v_apart()?;
    self_check(&vit, &vit.space()?.removable_branches(), &images)?.expect_sound()?;
    let swin = swin().qk_v_apart()?;
    self_check(&swin, &swin.space()?.removable_branches(), &images)?.expect_sound()?;
    Ok(())
}

/// Checks that pruning to these sizes leaves what the masked network computes, and the parameters and MACs that the cost
/// model counts.
fn expect_exact<A: Architecture>(architecture: &A, wanted: &[(&str, Size)]) -> TestResult {
    let apart = network(architecture)?.qk_v_apart()?;
    let space = apart.architecture().space()?.removable_branches();
    let mut supernet = Supernet::new(apart.architecture().clone(), space, false, test_device())?;
    supernet.load_weights(apart.weights())?;
    let mut sizes = Vec::new();
    for (at, state) in supernet.states_mut().iter_mut().enumerate() {
        let own = wanted.iter().find(|(name, _)| *name == state.name);
        let size = own.map_or(state.candidates().full(), |(_, size)| *size);
        state.set_active(state.candidates().sizes().map(|own| own == size).collect())?;
        state.set_score(&state.score.f_randn_like()?)?;
        sizes.push((at, size));
    }
    supernet.narrow(&sizes)?;
    let gates = supernet.masks(0.5)?.into_iter().map(|own| own.mask.detach());
    supernet.materialise(&gates.collect::<Vec<_>>())?;
    let subnet = FoldingExtractor.extract(&supernet)?;
    let verification = verify(&supernet, &subnet, &batch(0)?.images)?;
    let difference = verification.max_abs_logit_difference();
    let scale = verification.logit_scale.max(1.0);
    assert!(difference <= 2e-6 * scale, "{wanted:?}: {verification:?}");
    let numbers: usize = subnet.weights().values().map(Tensor::numel).sum();
    for metric in [Metric::Macs, Metric::Params] {
        let cost = architecture_cost(&apart, metric, &supernet.sizes())?;
        assert_eq!(subnet.architecture().cost_model().dense_cost(metric)?, cost);
    }
    let params = architecture_cost(&apart, Metric::Params, &supernet.sizes())?;
    assert_eq!(params, numbers as f64, "{wanted:?}");
    Ok(())
}

fn architecture_cost<A: Architecture>(
    network: &Subnet<A>,
    metric: Metric,
    sizes: &Sizes,
) -> TestResult<f64> {
    Ok(network.architecture().cost_model().cost(metric, sizes)?)
}

#[test]
fn pruned_widths_of_queries_and_values_leave_what_the_masked_network_computes() -> TestResult {
    let _alone = alone();
    let (heads, removed) = (Size { heads: 2, channels: 5 }, Size::REMOVED);
    for vit in [vit(), VitConfig { qkv_bias: QkvBias::None, ..vit() }.layer_scale(0.5)] {
        expect_exact(&vit, &[("blocks.0.attn.qk", Size::flat(3))])?;
        expect_exact(&vit, &[("blocks.0.attn.qk", Size::flat(3)), ("blocks.0.attn", heads)])?;
        expect_exact(&vit, &[("blocks.1.attn.qk", Size::flat(2)), ("blocks.1.attn", removed)])?;
        expect_exact(&vit, &[("blocks.1.attn", removed), ("embed", Size::flat(20))])?;
    }
    let heads = Size { heads: 2, channels: 3 };
    for (block, size) in [("layers.0.blocks.1", heads), ("layers.1.blocks.1", removed)] {
        let (queries, attention) = (format!("{block}.attn.qk"), format!("{block}.attn"));
        expect_exact(&swin(), &[(&queries, Size::flat(3)), (&attention, size)])?;
    }
    Ok(())
}
