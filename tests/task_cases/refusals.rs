//! Tasks that are refused.

use super::{own_task, search_of, texts, WIDTH};
use crate::assert_refused;
use crate::support::tiny_run::{alone, batch};
use crate::support::{test_device, TestResult};
use once_for_both::batch::Batch;
use once_for_both::components::{Contrastive, ContrastiveLoss, FeatureMatching};
use once_for_both::models::{Pooling, VitConfig};
use once_for_both::search::{Search, SearchOptions};
use once_for_both::sensitivity::Calibration;
use once_for_both::Error;
use tch::{Kind, Tensor};

#[test]
fn text_embeddings_that_are_none_are_refused() -> TestResult {
    let new = |texts: &Tensor, temperature| {
        Contrastive::new(texts, temperature, ContrastiveLoss::Softmax)
    };
    let own = texts()?;
    for shape in [vec![0, 4], vec![1, 4], vec![3, 0], vec![4], vec![2, 2, 2]] {
        let refused = new(&Tensor::f_ones(&shape[..], (Kind::Float, test_device()))?, 0.1);
        assert_refused!(refused, Error::Invalid { ref name, .. }
            if name == "shape of the text embeddings");
    }
    assert_refused!(new(&own.f_to_kind(Kind::Int64)?, 0.1), Error::Invalid { ref name, .. }
        if name == "kind of the text embeddings");
    for number in [0.0, f64::NAN, f64::INFINITY] {
        let broken = own.f_detach_copy()?;
        let _ = broken.f_select(0, 2)?.f_fill_(number)?;
        assert_refused!(new(&broken, 0.1), Error::Invalid { ref name, ref actual, .. }
            if name == "text embedding 2" && actual.starts_with("one of norm "));
    }
    for temperature in [0.0, -1.0, f64::NAN, 1e6] {
        assert_refused!(new(&own, temperature), Error::Invalid { ref name, .. }
            if name == "task.temperature");
    }
    let refused = Contrastive::new(&own, 0.1, ContrastiveLoss::Sigmoid { bias: f64::NAN });
    assert_refused!(refused, Error::Invalid { ref name, .. } if name == "task.bias");
    Ok(())
}

#[test]
fn tokens_that_the_network_does_not_have_are_refused_by_the_parameter() -> TestResult {
    let _alone = alone();
    let mut vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(WIDTH);
    (vit.pooling, vit.class_token, vit.registers) = (Pooling::Tokens, false, 3);
    let dense = Search::training(vit.clone(), 1).task(own_task("own")).device(test_device());
    let weights = dense.build()?.supernet().raw_weights();
    let network = (vit.clone(), weights);
    let own = FeatureMatching::of(&vit);
    let images = [Batch::unlabelled(batch(0)?.images)];
    let mut search = search_of(&network, own, SearchOptions::new(8, 4)).build()?;
    for (task, parameter, words) in [
        (FeatureMatching::default(), "task.class_token", ["true", "false of the network"]),
        (FeatureMatching { registers: 2, ..own }, "task.registers", ["2", "3 of the network"]),
    ] {
        let built = search_of(&network, task, SearchOptions::new(8, 4)).build();
        let measured = search.evaluate(|net| Calibration::task(&images, &task).measure(net));
        for refused in [built.map(|_| ()), measured.map(|_| ())] {
            assert_refused!(refused, Error::Invalid { ref name, ref actual, ref expected }
                if name == parameter && actual == words[0] && expected.starts_with(words[1]));
        }
    }
    // A distillation token is behind the class token, as registers are.
    let own = FeatureMatching::of(&VitConfig { class_token: true, ..vit.distilled() });
    assert_eq!((own.class_token, own.registers), (true, 4));
    Ok(())
}
