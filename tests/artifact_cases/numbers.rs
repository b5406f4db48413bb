//! Numbers that are not finite: in half precision, in the fields of an artifact; and images without numbers.

use super::verification::damaged;
use super::{config, images, network, save, verified};
use crate::assert_refused;
use crate::support::{test_device, TestResult};
use once_for_both::cost::CostLimit;
use once_for_both::models::VitConfig;
use once_for_both::subnet::{
    verify_against, Differences, Export, Extracted, LatencyComparison, Subnet,
};
use once_for_both::Error;

#[test]
fn subnet_whose_logits_are_not_finite_in_f16_is_saved_in_bf16_alone() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    // Each weight is a number of f16; their sum in the residual stream is not.
    let first = damaged(&network(&config(false))?, "blocks.0.mlp.fc2.bias", 6e4)?;
    let large = damaged(&first, "blocks.1.mlp.fc2.bias", 6e4)?;
    let verified = verified(large)?;
    assert_refused!(
        verified.save(&path, &Export::f16()),
        Error::Invalid { name, expected, actual } if name == "precision of the saved weights"
            && expected.ends_with("save bf16 or f32") && actual == "f16"
    );
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    verified.save(&path, &Export::bf16())?;
    let stored = Subnet::<VitConfig>::load_as_stored(&path, test_device())?;
    assert!(stored.predict(&verified.images)?.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1);
    Ok(())
}

#[test]
fn number_that_is_not_finite_is_refused_by_its_field() -> TestResult {
    type Change = fn(&mut Extracted<VitConfig>);
    let changes: [(&str, Change); 5] = [
        ("verification.tolerance", |own| own.verification.tolerance = f64::NAN),
        ("verification.logit_scale", |own| own.verification.logit_scale = f64::INFINITY),
        ("provenance.dense_macs", |own| own.provenance.dense_macs = f64::NAN),
        ("provenance.dense_params", |own| own.provenance.dense_params = f64::NEG_INFINITY),
        ("provenance.limits.1.limit", |own| {
            own.provenance.limits = [1.0, f64::NAN].map(CostLimit::macs).to_vec();
        }),
    ];
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    for (field, change) in changes {
        let mut changed = verified(network(&config(false))?)?;
        change(&mut changed);
        let refused = changed.save(&path, &Export::default());
        assert_refused!(refused, Error::Invalid { name, .. } if name == field);
    }
    let subnet = verified(network(&config(false))?)?;
    for (field, dense_ms, subnet_ms) in
        [("latency.0.dense_ms", f64::NAN, 1.0), ("latency.0.subnet_ms", 1.0, f64::INFINITY)]
    {
        let device = "cpu".into();
        let latency = LatencyComparison { device, batch: 1, dense_ms, subnet_ms, memory: None };
        let refused = subnet.save(&path, &Export::default().latency(latency));
        assert_refused!(refused, Error::Invalid { name, .. } if name == field);
    }
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}

#[test]
fn subnet_held_in_f16_and_saved_as_f32_has_no_difference_by_rounding() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    save(&network(&config(false))?, &path, &Export::f16())?;
    let stored = Subnet::<VitConfig>::load_as_stored(&path, test_device())?;
    assert_eq!(verified(stored)?.save(&path, &Export::f32())?.rounding, 0.0);
    Ok(())
}

#[test]
fn subnet_loaded_from_an_artifact_in_f16_and_saved_again_keeps_its_difference_by_rounding(
) -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f16");
    let first = save(&network(&config(false))?, &path, &Export::f16())?.rounding;
    assert!(first > 0.0);
    let loaded = verified(Subnet::<VitConfig>::load(&path, test_device())?)?;
    for (mut export, added) in [(Export::f32(), 0.0), (Export::f16(), 0.0), (Export::bf16(), 1e-9)]
    {
        let path = folder.path().join("again").join(export.precision.name());
        export.rounded_before = first;
        let found = loaded.save(&path, &export)?.rounding;
        assert!(found >= first + added && (added > 0.0 || found == first), "{found} of {first}");
        assert_eq!(Differences::read(&path)?.rounding, found);
    }
    for number in [f64::NAN, f64::INFINITY, -1.0] {
        let mut export = Export::f32();
        export.rounded_before = number;
        let refused = loaded.save(folder.path().join("refused"), &export);
        assert_refused!(refused, Error::Invalid { name, .. } if name == "rounded_before");
    }
    Ok(())
}

#[test]
fn verification_on_no_images_is_refused() -> TestResult {
    let subnet = network(&config(false))?;
    let none = images(subnet.architecture(), 3)?.f_narrow(0, 0, 0)?;
    let scalar = none.f_new_zeros([1i64; 0], (none.kind(), none.device()))?;
    let folder = tempfile::tempdir()?;
    for (images, size) in [(none, "[0, 2, 12, 12]"), (scalar, "[]")] {
        let expect = |refused: Option<Error>| {
            assert_refused!(
                refused.map_or(Ok(()), Err),
                Error::Invalid { ref name, ref actual, .. }
                    if name == "images of the verification" && actual == size
            );
        };
        expect(verify_against(&subnet, &subnet, &images).err());
        let empty = Extracted { images, ..verified(network(&config(false))?)? };
        for export in [Export::f32(), Export::f16()] {
            expect(empty.save(folder.path().join("subnet"), &export).err());
        }
    }
    Ok(())
}
