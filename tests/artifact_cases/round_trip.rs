//! Saved networks equal the loaded ones.

use super::{config, images, network, rounding_tolerance, save, verified, PRECISIONS};
use crate::support::{in_words, test_device, TestResult, Tolerance};
use once_for_both::components::Components;
use once_for_both::cost::CostLimit;
use once_for_both::latency::PeakMemory;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::strategies::vit_configs;
use once_for_both::subnet::{
    Description, Differences, Export, LatencyComparison, Precision, Provenance, Subnet,
};
use proptest::prelude::*;
use tch::{nn, Kind};

#[test]
fn f32_artifact_loads_bit_for_bit() -> TestResult {
    let folder = tempfile::tempdir()?;
    for distilled in [false, true] {
        let (subnet, path) = (network(&config(distilled))?, folder.path().join("subnet"));
        let differences = save(&subnet, &path, &Export::default())?;
        assert_eq!((differences.rounding, differences.export), (0.0, None));
        let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
        assert_eq!(loaded.architecture(), subnet.architecture());
        let images = images(subnet.architecture(), 4)?;
        assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    }
    Ok(())
}

#[test]
fn artifact_in_each_precision_loads_as_f32_and_as_stored() -> TestResult {
    let folder = tempfile::tempdir()?;
    let subnet = network(&config(true))?;
    let images = images(subnet.architecture(), 3)?;
    let expected = subnet.predict(&images)?;
    for precision in PRECISIONS {
        let path = folder.path().join(precision.name());
        let differences = save(&subnet, &path, &Export::in_precision(precision))?;
        let widened = Subnet::<VitConfig>::load(&path, test_device())?;
        assert_eq!(widened.precision(), Precision::F32);
        let close = Tolerance::of_scale(rounding_tolerance(precision), &expected)?;
        close.check(precision.name(), &widened.predict(&images)?, &expected)?;
        let measured = widened.predict(&images)?.f_sub(&expected)?.f_abs()?.f_max()?;
        assert_eq!(differences.rounding, measured.f_double_value(&[])?);

        let stored = Subnet::<VitConfig>::load_as_stored(&path, test_device())?;
        assert_eq!(stored.precision(), precision);
        for (name, tensor) in stored.weights() {
            assert_eq!(tensor.kind(), precision.kind(), "{name}");
            let rounded = subnet.weights()[name].to_kind(precision.kind());
            assert!(tensor.equal(&rounded), "{name} in {}", precision.name());
        }
        // In half precision the activations are rounded, too.
        let close = Tolerance::of_scale(4.0 * rounding_tolerance(precision), &expected)?;
        let actual = stored.predict(&images)?.to_kind(Kind::Float);
        close.check(&format!("computed in {}", precision.name()), &actual, &expected)?;
    }
    Ok(())
}

#[test]
fn description_read_from_an_artifact_equals_what_was_saved() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (mut subnet, path) = (verified(network(&config(false))?)?, folder.path().join("subnet"));
    let provenance = Provenance {
        crate_version: "0.1.0".into(),
        seed: Some(3),
        steps: Some(12),
        dense_macs: 1e9 + 0.1,
        dense_params: 2e6,
        limits: vec![CostLimit::macs(5e8 + 0.3), CostLimit::params(1e6)],
        components: Some(Components::paper().ids()),
    };
    subnet.provenance = provenance.clone();
    let latency = LatencyComparison {
        device: "cpu".into(),
        batch: 32,
        dense_ms: 0.1 + 0.2,
        subnet_ms: 0.1,
        memory: Some(PeakMemory { dense: 5_000_000, subnet: 0 }),
    };
    let differences = subnet.save(&path, &Export::bf16().latency(latency.clone()))?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&std::fs::read(path.join("model.safetensors"))?);
    let expected = Description {
        architecture: subnet.architecture().clone(),
        precision: Precision::Bf16,
        macs: subnet.macs()?,
        params: subnet.params()?,
        weights_crc32: crc.finalize(),
        provenance,
        latency: vec![latency],
    };
    assert_eq!(Description::<VitConfig>::read(&path)?, expected);
    let text = std::fs::read_to_string(path.join("verification.json"))?;
    assert_eq!(serde_json::from_str::<Differences>(&text)?, differences);
    Ok(())
}

#[test]
fn provenance_of_a_network_from_elsewhere_has_its_own_costs_and_no_seed_or_steps() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (subnet, path) = (verified(network(&config(false))?)?, folder.path().join("subnet"));
    subnet.save(&path, &Export::default())?;
    let saved = Description::<VitConfig>::read(&path)?.provenance;
    assert_eq!(saved.crate_version, env!("CARGO_PKG_VERSION"));
    assert_eq!((saved.dense_macs, saved.dense_params), (subnet.macs()?, subnet.params()?));
    assert_eq!((saved.seed, saved.steps), (None, None));
    Ok(())
}

#[test]
fn artifact_saved_again_replaces_the_folder() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (subnet, path) = (network(&config(false))?, folder.path().join("subnet"));
    save(&subnet, &path, &Export::default().onnx())?;
    assert!(path.join("model.onnx").exists());
    save(&subnet, &path, &Export::default().torchscript())?;
    assert!(path.join("model.torchscript.pt").exists() && !path.join("model.onnx").exists());
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn random_vit_round_trips_bit_for_bit(config in vit_configs()) {
        in_words(round_trip(&config))?;
    }

    #[test]
    fn vit_variables_equal_those_of_the_built_network(config in vit_configs()) {
        let store = nn::VarStore::new(test_device());
        in_words(config.build(&store.root()).map_err(Into::into))?;
        let built = store.variables().into_iter().map(|(name, tensor)| (name, tensor.size()));
        prop_assert_eq!(in_words(config.variables().map_err(Into::into))?, built.collect());
    }
}

fn round_trip(config: &VitConfig) -> TestResult {
    let folder = tempfile::tempdir()?;
    let (subnet, path) = (network(config)?, folder.path().join("subnet"));
    save(&subnet, &path, &Export::default().torchscript().onnx())?;
    let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
    assert_eq!(loaded.architecture(), config);
    assert_eq!(loaded.weights().len(), subnet.weights().len());
    for (name, tensor) in subnet.weights() {
        assert!(loaded.weights()[name].equal(tensor), "{name}");
    }
    Ok(())
}
