//! Searches of subnets that were extracted and loaded from disk.

mod support;

use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::Search;
use once_for_both::subnet::{Export, LatencyComparison, Subnet};
use once_for_both::Error;
use support::tiny_run::{alone, batch, fade_out_options, run, search, vit, STEPS};
use support::{test_device, TestResult, Tolerance};

#[test]
fn subnet_loaded_from_disk_and_searched_again_gets_smaller() -> TestResult {
    let _alone = alone();
    let images = batch(99)?.images;
    let mut network = vit();
    let mut subnet: Option<Subnet<VitConfig>> = None;
    let mut macs = vit().cost_model().dense_cost(Metric::Macs)?;
    for round in 0..3 {
        let mut search = match &subnet {
            None => search(0.7)?,
            Some(subnet) => {
                let again = Search::of(network.clone())
                    .weights(subnet.weights())
                    .budget(Budget::macs_share(0.8))
                    .options(fade_out_options())
                    .device(test_device())
                    .build()?;
                // The search starts from the subnet's function.
                let expected = subnet.predict(&images)?;
                let found = again.supernet().network_logits(&images)?;
                Tolerance::of_scale(1e-5, &expected)?.check("logits", &found, &expected)?;
                again
            }
        };
        run(&mut search, STEPS)?;
        let found = search.extract(&images)?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("subnet");
        found.save(&path, &Export::default())?;
        let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
        assert!(loaded.macs()? < macs, "round {round}: {} of {macs} MACs", loaded.macs()?);
        macs = loaded.macs()?;
        network = loaded.architecture().clone();
        subnet = Some(loaded);
    }
    Ok(())
}

#[test]
fn latency_comparison_of_a_slow_and_a_fast_network_tells_them_apart() -> TestResult {
    let _alone = alone();
    let images = batch(0)?.images;
    let slow = |images: &tch::Tensor| -> once_for_both::Result<tch::Tensor> {
        std::thread::sleep(std::time::Duration::from_millis(8));
        Ok(images.shallow_clone())
    };
    let fast =
        |images: &tch::Tensor| -> once_for_both::Result<tch::Tensor> { Ok(images.shallow_clone()) };
    let measured = LatencyComparison::measure(&slow, &fast, &images, 5)?;
    assert_eq!(measured.batch, 6);
    assert!(measured.dense_ms >= 8.0 && measured.subnet_ms < measured.dense_ms, "{measured:?}");
    let refused = LatencyComparison::measure(&slow, &fast, &images, 0);
    assert_refused!(refused, Error::Invalid { .. });
    Ok(())
}
