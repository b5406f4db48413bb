//! Failed verifications: what the error says, and that nothing is written.

use super::{config, images, network, save, verified};
use crate::assert_refused;
use crate::support::{test_device, Tensors, TestResult};
use once_for_both::models::VitConfig;
use once_for_both::subnet::{verify_against, Export, Subnet, Verification};
use once_for_both::Error;
use tch::Kind;

/// A copy with the first number of one weight changed.
pub fn damaged(subnet: &Subnet<VitConfig>, name: &str, by: f64) -> TestResult<Subnet<VitConfig>> {
    let mut weights: Tensors =
        subnet.weights().iter().map(|(n, t)| (n.clone(), t.copy())).collect();
    let weight = weights.get_mut(name).ok_or("no such weight")?;
    let _ = tch::no_grad(|| weight.f_view(-1)?.f_get(0)?.f_add_scalar_(by))?;
    Ok(Subnet::new(subnet.architecture().clone(), &weights, test_device())?)
}

#[test]
fn verification_of_a_changed_weight_names_the_first_part_that_differs() -> TestResult {
    let subnet = network(&config(true))?;
    let images = images(subnet.architecture(), 3)?;
    for (weight, part) in [
        ("patch_embed.proj.bias", "patch_embed"),
        ("dist_token", "pos_embed"),
        ("pos_embed", "pos_embed"),
        ("blocks.0.attn.qkv.weight", "blocks.0"),
        ("blocks.1.norm1.bias", "blocks.1"),
        ("blocks.1.mlp.fc2.weight", "blocks.1"),
        ("norm.weight", "norm"),
        ("head.bias", "head"),
        ("head_dist.weight", "head_dist"),
    ] {
        let wrong = damaged(&subnet, weight, 0.5)?;
        match verify_against(&subnet, &wrong, &images) {
            Err(error @ Error::Verification { .. }) => {
                let message = error.to_string();
                assert!(
                    message.ends_with(&format!("; it begins in {part}")),
                    "{weight}: {message}"
                );
            }
            other => return Err(format!("{weight}: {other:?}").into()),
        }
    }
    Ok(())
}

#[test]
fn images_that_are_not_normalised_are_refused_by_prediction_verification_and_save() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    let mut subnet = verified(network(&config(false))?)?;
    subnet.images = subnet.images.f_to_kind(Kind::Uint8)?;
    for refused in [
        subnet.predict(&subnet.images).map(drop),
        verify_against(&subnet, &subnet, &subnet.images).map(drop),
        subnet.save(&path, &Export::f32()).map(drop),
    ] {
        assert_refused!(refused, Error::Invalid { name, actual, .. }
            if name == "kind of the images" && actual == "Uint8");
    }
    assert!(!path.exists());
    Ok(())
}

#[test]
fn verification_with_nan_fails() -> TestResult {
    let subnet = network(&config(false))?;
    let images = images(subnet.architecture(), 3)?;
    let wrong = damaged(&subnet, "blocks.1.attn.proj.bias", f64::NAN)?;
    assert_refused!(
        verify_against(&subnet, &wrong, &images),
        Error::Verification { begins: Some(part), difference, .. }
            if part == "blocks.1" && difference.is_nan()
    );
    for (random_images, real_images) in [(f64::NAN, 0.0), (0.0, f64::NAN)] {
        let nan = Verification { random_images, real_images, logit_scale: 1.0, tolerance: 1e-5 };
        assert_refused!(nan.check(), Error::Verification { difference, .. } if difference.is_nan());
    }
    Ok(())
}

#[test]
fn subnet_with_a_failed_verification_is_not_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut subnet = verified(network(&config(false))?)?;
    subnet.verification.real_images = 2.0 * subnet.verification.allowed();
    let path = folder.path().join("subnet");
    assert_refused!(
        subnet.save(&path, &Export::f32()),
        Error::Verification { difference, allowed, .. } if difference == 2.0 * allowed
    );
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}

#[test]
fn subnet_with_a_weight_too_large_for_f16_is_not_written_as_f16() -> TestResult {
    let folder = tempfile::tempdir()?;
    let large = damaged(&network(&config(false))?, "head.bias", 1e5)?;
    let path = folder.path().join("subnet");
    let copy = damaged(&large, "head.bias", 0.0)?;
    assert_refused!(
        verified(copy)?.save(&path, &Export::f16()),
        Error::NonFinite { dimension, .. } if dimension == "head.bias"
    );
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    save(&large, &path, &Export::bf16())?;
    Ok(())
}
