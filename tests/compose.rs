//! A subnet is a network like any other: it can be searched again, from disk too.

mod support;

use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::Search;
use once_for_both::subnet::{
    verify, Export, FoldingExtractor, LatencyComparison, Subnet, SubnetExtractor,
};
use once_for_both::Error;
use support::tiny_run::{alone, batch, fade_out_options, run, session, vit, STEPS};
use support::{test_device, TestResult, Tolerance};

#[test]
fn searching_twice_gives_smaller_subnets_and_extraction_composes() -> TestResult {
    let _alone = alone();
    let images = batch(99)?.images;
    let mut network = vit();
    let mut subnet: Option<Subnet<VitConfig>> = None;
    let mut macs = vit().cost_model().dense_cost(Metric::Macs)?;
    for round in 0..3 {
        let mut search = match &subnet {
            None => session(0.7)?,
            Some(subnet) => {
                let space = network.space()?;
                let budget = Budget::share(Metric::Macs, 0.8, &network.cost_model())?;
                let (weights, options) = (Some(subnet.weights()), fade_out_options());
                let again = Search::new(
                    network.clone(),
                    space,
                    weights,
                    vec![budget],
                    options,
                    test_device(),
                )?;
                // The search starts at the subnet.
                let expected = subnet.predict(&images)?;
                let found = again.supernet().network_logits(&images)?;
                Tolerance::of_scale(1e-5, &expected)?.check("logits", &found, &expected)?;
                again
            }
        };
        run(&mut search, STEPS)?;
        let found = FoldingExtractor.extract(search.supernet())?;
        let verification = verify(search.supernet(), &found, &images)?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("subnet");
        found.save(&path, &images, &verification, &Export::default())?;
        let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
        assert!(loaded.macs()? < macs, "round {round}: {} of {macs} MACs", loaded.macs()?);
        macs = loaded.macs()?;
        network = loaded.architecture().clone();
        subnet = Some(loaded);
    }
    Ok(())
}

#[test]
fn latency_is_measured_in_turn() -> TestResult {
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
