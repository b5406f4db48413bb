//! The network whose queries and keys are apart from values computes what the joint one does; what cannot be is refused.

use crate::support::tiny_run::{alone, batch, vit};
use crate::support::{test_device, TestResult, Tolerance};
use crate::{assert_refused, network, swin};
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, AttentionPool, Norm, Pooling, QkvBias, Rope, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::subnet::{verify_against, Export, Extracted, Provenance, Subnet};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use tch::{Kind, Tensor};

/// Checks that the logits of a network are those of the network whose queries and keys are apart from values.
fn expect_same_function<A: Architecture>(architecture: &A) -> TestResult {
    let joint = network(architecture)?;
    let apart = joint.qk_v_apart()?;
    let images = batch(0)?.images;
    let expected = joint.predict(&images)?;
    Tolerance::of_scale(1e-5, &expected)?.check("logits", &apart.predict(&images)?, &expected)?;
    for metric in [Metric::Macs, Metric::Params] {
        let cost = |own: &A| own.cost_model().dense_cost(metric);
        assert_eq!(cost(apart.architecture())?, cost(architecture)?);
    }
    // Apart already: nothing is left to do.
    let again = apart.qk_v_apart()?;
    assert!(again.predict(&images)?.equal(&apart.predict(&images)?));
    Ok(())
}

#[test]
fn queries_and_keys_apart_from_values_leave_the_logits_as_they_are() -> TestResult {
    let _alone = alone();
    expect_same_function(&vit().distilled())?;
    expect_same_function(&VitConfig { qkv_bias: QkvBias::None, ..vit() })?;
    let mut shallow = vit();
    (shallow.blocks[1].heads, shallow.blocks[0].scale_dim) = (0, 5);
    expect_same_function(&shallow)?;
    expect_same_function(&swin())
}

#[test]
fn channels_of_queries_and_keys_are_sorted_by_the_product_of_their_lengths() -> TestResult {
    let _alone = alone();
    let joint = network(&vit())?;
    let apart = joint.qk_v_apart()?;
    let weight = &apart.weights()["blocks.1.attn.qk.weight"];
    assert_eq!(weight.size(), [2, 4, 8, 32]);
    let squares = weight.f_square()?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?;
    let products = squares.f_get(0)?.f_mul(&squares.f_get(1)?)?;
    let rises = products.f_diff(1, -1, None::<&Tensor>, None::<&Tensor>)?.f_gt(0.0)?.f_any()?;
    assert!(!bool::try_from(rises)?);
    // Values stay as they are.
    let qkv = &joint.weights()["blocks.1.attn.qkv.weight"];
    assert!(apart.weights()["blocks.1.attn.v.weight"].equal(&qkv.f_narrow(0, 64, 32)?));
    Ok(())
}

#[test]
fn split_of_weights_that_are_missing_or_of_another_shape_is_refused_and_changes_none() -> TestResult
{
    let _alone = alone();
    let joint = network(&vit())?;
    let copy = || -> Weights {
        joint.weights().iter().map(|(name, own)| (name.clone(), own.shallow_clone())).collect()
    };
    let mut weights = copy();
    weights.remove("blocks.1.attn.qkv.bias");
    let missing = vit().split_qkv(&mut weights);
    assert_refused!(missing, Error::Missing { name, .. } if name == "blocks.1.attn.qkv.bias");
    assert!(weights.contains_key("blocks.0.attn.qkv.weight"));
    let mut weights = copy();
    weights.insert(
        "blocks.1.attn.qkv.bias".into(),
        Tensor::f_zeros([3], (Kind::Float, test_device()))?,
    );
    assert_refused!(vit().split_qkv(&mut weights), Error::Shape { .. });
    assert!(weights.contains_key("blocks.0.attn.qkv.weight"));
    Ok(())
}

#[test]
fn queries_and_keys_apart_from_values_are_refused_beside_what_needs_all_their_channels(
) -> TestResult {
    for (other, config) in [
        ("qk_norm", VitConfig { qk_norm: Some(Norm::Layer), ..vit() }),
        ("rope", VitConfig { rope: Some(Rope::Normalised { base: 10.0 }), ..vit() }),
        ("qkv_bias = query_value", VitConfig { qkv_bias: QkvBias::QueryValue, ..vit() }),
    ] {
        let refused = config.qk_v_apart();
        assert_refused!(refused, Error::Invalid { name, expected, .. }
            if name == "qk_v_apart" && expected.contains(other));
        let mut set = config;
        set.blocks[1].qk_dim = Some(4);
        assert_refused!(set.check(), Error::Invalid { name, expected, .. }
            if name == "blocks.1.qk_dim" && expected.contains(other));
    }
    for wrong in [0, -1, 1 << 21] {
        let mut vit = vit();
        vit.blocks[0].qk_dim = Some(wrong);
        assert_refused!(vit.check(), Error::Invalid { name, .. } if name == "blocks.0.qk_dim");
        let mut swin = swin();
        swin.stages[1].blocks[0].qk_dim = Some(wrong);
        assert_refused!(swin.check(), Error::Invalid { name, .. } if name == "stages.1.blocks.0.qk_dim");
    }
    let mut pool = AttentionPool::new(32, 2, 8);
    pool.sizes.qk_dim = Some(4);
    let pooled = VitConfig { class_token: false, ..vit().pooling(Pooling::Attention(pool)) };
    assert_refused!(pooled.check(), Error::Invalid { name, .. } if name == "attn_pool.qk_dim");
    Ok(())
}

#[test]
fn queries_and_keys_of_a_half_precision_artifact_are_split_without_rounding() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let images = batch(0)?.images;
    for precision in [Precision::F16, Precision::Bf16] {
        let path = folder.path().join(format!("{precision:?}"));
        let subnet = network(&vit())?;
        let verification = verify_against(&subnet, &subnet, &images)?;
        let provenance = Provenance::of(subnet.architecture())?;
        let images = images.shallow_clone();
        let saved = Extracted { subnet, verification, provenance, images };
        saved.save(&path, &Export::in_precision(precision))?;
        let joint = Subnet::<VitConfig>::load_as_stored(&path, test_device())?;
        let apart = joint.qk_v_apart()?;
        assert_eq!(apart.precision(), precision);
        let name = |own: &str| format!("blocks.1.attn.{own}");
        let sum = |weight: &Tensor| -> TestResult<f64> {
            assert_eq!(weight.kind(), precision.kind());
            Ok(f64::try_from(weight.f_to_kind(Kind::Double)?.f_sum(None)?)?)
        };
        let weights = apart.weights();
        let sums = [sum(&weights[&name("qk.weight")])?, sum(&weights[&name("v.weight")])?];
        let joint_sum = sum(&joint.weights()[&name("qkv.weight")])?;
        assert!(
            (sums[0] + sums[1] - joint_sum).abs() < 1e-9,
            "{precision:?}: {sums:?} {joint_sum}"
        );
        // The f32 copies compute the same.
        let copy = |own: &Subnet<VitConfig>| {
            Subnet::new(own.architecture().clone(), own.weights(), test_device())
        };
        let expected = copy(&joint)?.predict(&saved.images)?;
        let found = copy(&apart)?.predict(&saved.images)?;
        Tolerance::of_scale(1e-5, &expected)?.check("logits", &found, &expected)?;
    }
    Ok(())
}
