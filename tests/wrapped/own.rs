//! Our ViT with LayerScale and the head of DINOv2, by the ordinary way: the network shrinks.

use super::Batches;
use crate::support::tiny_run::{alone, fade_out_options, options};
use crate::support::{test_device, TestResult};
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, Pooling, VitConfig};
use once_for_both::search::{Event, Search};
use once_for_both::subnet::{verify, FoldingExtractor, SubnetExtractor};
use once_for_both::{Error, Result};
use tch::nn;

fn vit() -> VitConfig {
    let vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(5);
    vit.layer_scale(0.5).pooling(Pooling::ClassAndMean)
}

#[test]
fn layer_scale_and_pooled_head_are_searched_and_extracted() -> TestResult {
    let _alone = alone();
    let batches = Batches { count: 6, side: 16, classes: 5 };
    for options in [options(), fade_out_options()] {
        let budgets = vec![Budget::share(Metric::Macs, 0.5, &vit().cost_model())?];
        let (space, device) = (vit().space()?, test_device());
        let mut session = Search::new(vit(), space, None, budgets, options, device)?;
        let mut cuts = 0;
        let mut check = |event: &Event| {
            if let Event::Pruned(cut) = event {
                cuts += 1;
                assert!(cut.exact_difference <= 1e-5 * cut.logit_scale);
            }
            Ok(())
        };
        while !session.is_done() {
            session.step(&[batches.at(session.steps_done())?], &mut check)?;
        }
        assert!(cuts > 0);
        session.materialise()?;
        let subnet = FoldingExtractor.extract(session.supernet())?;
        verify(session.supernet(), &subnet, &batches.at(50)?.images)?;
        assert!(subnet.macs()? <= session.budgets()[0].limit);
    }
    Ok(())
}

#[test]
fn parameters_are_those_of_the_variables() -> TestResult {
    let store = nn::VarStore::new(test_device());
    vit().build(&store.root())?;
    let variables = store.variables();
    let count: usize = variables.values().map(|variable| variable.numel()).sum();
    assert_eq!(vit().cost_model().dense_cost(Metric::Params)?, count as f64);
    Ok(())
}

#[test]
fn descriptions_from_before_have_neither() -> TestResult {
    let mut json = serde_json::to_value(VitConfig::uniform(32, 2, 4))?;
    let fields = json.as_object_mut().ok_or("an object")?;
    assert!(fields.remove("layer_scale").is_some() && fields.remove("pooling").is_some());
    assert_eq!(serde_json::from_value::<VitConfig>(json)?, VitConfig::uniform(32, 2, 4));
    Ok(())
}

#[test]
fn a_pooled_head_beside_a_distillation_token_is_refused() {
    let check: Result<()> = vit().distilled().check();
    assert!(matches!(check, Err(Error::Invalid { name, .. }) if name == "pooling"));
    let check = vit().layer_scale(f64::NAN).check();
    assert!(matches!(check, Err(Error::Invalid { name, .. }) if name == "layer_scale"));
}
