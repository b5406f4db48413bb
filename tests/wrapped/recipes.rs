//! The recipes of docs/wrapping.md as networks: each is found sound, searched, measured, extracted and saved.

use super::recipe_network::{recipe, Attention, Mlp, Recipe, CLASSES};
use crate::assert_refused;
use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use once_for_both::batch::Batch;
use once_for_both::check::self_check;
use once_for_both::cost::{Budget, Metric};
use once_for_both::error::{Advice, Fault};
use once_for_both::models::Architecture;
use once_for_both::search::Search;
use once_for_both::sensitivity::Calibration;
use once_for_both::space::{DimensionKind, Role, Size};
use once_for_both::subnet::{Export, Subnet};
use once_for_both::Error;
use tch::{Kind, Tensor};

const RECIPES: [(Attention, Mlp); 4] = [
    (Attention::Separate, Mlp::SwiGlu),
    (Attention::Fused, Mlp::FusedSwiGlu),
    (Attention::Grouped, Mlp::BatchNorm),
    (Attention::Fused, Mlp::Normed),
];

fn images() -> TestResult<Tensor> {
    Ok(Tensor::f_randn([4, 3, 16, 16], (Kind::Float, test_device()))?)
}

#[test]
fn every_recipe_is_found_sound_searched_extracted_and_saved() -> TestResult {
    let _alone = alone();
    for (attention, mlp) in RECIPES {
        let own = recipe(attention, mlp);
        self_check(&own, &own.space()?, &images()?)?.expect_sound()?;
        // Without the embedding, so that attention and MLP have to become smaller.
        let mut space = own.space()?;
        space.dimensions.remove(0);
        // A tenth above the least cost: neither can stay dense.
        let candidates: Vec<Vec<Size>> =
            space.dimensions.iter().map(|own| own.candidates.sizes().collect()).collect();
        let (least, _) = own.cost_model().range(Metric::Macs, &space, &candidates)?;
        let search = Search::of(own).space(space).budget(Budget::macs(1.1 * least)).steps(12, 8);
        let mut search = search.device(test_device()).build()?;
        let mut batches = |step: u64| {
            once_for_both::randomness::seed(step);
            let images = Tensor::f_randn([4, 3, 16, 16], (Kind::Float, test_device()))?;
            let classes = Tensor::f_randint(CLASSES, [4], (Kind::Int64, test_device()))?;
            Ok(Batch::classes(images, classes))
        };
        search.train(&mut batches, &mut ())?;
        let images = images()?;
        let subnet = search.extract(&images)?;
        subnet.verification.check()?;
        let sizes = search.supernet().sizes();
        let dense = &search.supernet().cost_model().dense;
        for name in ["attn", "mlp"] {
            assert!(sizes[name].units() < dense[name].units(), "{attention:?} {mlp:?}: {name}");
        }
        assert!(subnet.macs()? <= search.limits()[0].limit, "{attention:?} {mlp:?}");
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("subnet");
        subnet.save(&path, &Export::default())?;
        let loaded = Subnet::<Recipe>::load(&path, test_device())?;
        assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    }
    Ok(())
}

#[test]
fn self_check_without_any_binding_of_a_recipe_finds_it() -> TestResult {
    let _alone = alone();
    for ((attention, mlp), dimension) in [(RECIPES[0], 1), (RECIPES[2], 2)] {
        let own = recipe(attention, mlp);
        for at in 0..own.space()?.dimensions[dimension].bindings.len() {
            let mut space = own.space()?;
            let binding = space.dimensions[dimension].bindings.remove(at);
            let found = self_check(&own, &space, &images()?)?.expect_sound();
            let text = found.err().ok_or(format!("{binding:?}"))?.to_string();
            assert!(text.contains(&binding.variable), "{binding:?}: {text}");
        }
    }
    Ok(())
}

#[test]
fn self_check_with_pairs_in_the_other_layout_names_it() -> TestResult {
    let _alone = alone();
    let own = recipe(Attention::Separate, Mlp::SwiGlu);
    let mut space = own.space()?;
    for binding in space.dimensions[1].bindings.iter_mut().filter(|own| own.half_split) {
        (binding.half_split, binding.inner) = (false, 2);
    }
    let faults = self_check(&own, &space, &images()?)?.faults;
    let Some(Fault::Order { suspects, explained: true, .. }) = faults.first() else {
        return Err(format!("{faults:?}").into());
    };
    let advice = Advice::HalfSplit { outer: 1, inner: 1 };
    let all = ["q.weight", "k.weight", "v.weight", "out.weight"];
    assert!(suspects.iter().all(|suspect| suspect.advice == advice), "{suspects:?}");
    assert!(all.iter().all(|name| suspects.iter().any(|own| own.variable == *name)));
    Ok(())
}

#[test]
fn half_split_outside_an_attention_is_refused() -> TestResult {
    let _alone = alone();
    let own = recipe(Attention::Separate, Mlp::FusedSwiGlu);
    let mut space = own.space()?;
    for binding in space.dimensions[2].bindings.iter_mut().filter(|own| own.outer == 2) {
        (binding.half_split, binding.outer) = (true, 1);
    }
    assert_refused!(self_check(&own, &space, &images()?), Error::Invalid { ref name, .. }
        if name == "half_split of w12.weight in mlp");
    Ok(())
}

#[test]
fn role_of_an_embedding_in_another_dimension_is_refused() -> TestResult {
    let _alone = alone();
    let own = recipe(Attention::Fused, Mlp::Normed);
    for role in [Role::Scaled, Role::GatedNorm, Role::Written] {
        let mut space = own.space()?;
        let mlp = space.dimension_mut("mlp")?;
        mlp.kind = DimensionKind::Hidden;
        for norm in mlp.bindings.iter_mut().filter(|own| own.role == Role::Scaled) {
            norm.role = role;
        }
        assert_refused!(self_check(&own, &space, &images()?), Error::Invalid { ref name, .. }
            if name == "role of hidden_norm.weight in mlp");
    }
    Ok(())
}

/// Units set to zero in place are those that a network built without them does not have.
#[test]
fn calibration_of_a_recipe_measures_the_network_pruned_to_each_size() -> TestResult {
    let _alone = alone();
    for (attention, mlp) in RECIPES {
        let own = recipe(attention, mlp);
        let mut space = own.space()?;
        space.dimensions.remove(0);
        let full = space.dimensions[0].candidates.full();
        let half = Size { heads: full.heads / 2, channels: (full.channels + 1) / 2 };
        // A tenth above the least cost: neither can stay dense.
        let candidates: Vec<Vec<Size>> =
            space.dimensions.iter().map(|own| own.candidates.sizes().collect()).collect();
        let (least, _) = own.cost_model().range(Metric::Macs, &space, &candidates)?;
        let search = Search::of(own).space(space).budget(Budget::macs(1.1 * least)).steps(12, 8);
        let mut search = search.device(test_device()).build()?;
        let classes = Tensor::f_randint(CLASSES, [4], (Kind::Int64, test_device()))?;
        let batches = [Batch::classes(images()?, classes)];
        let found = search.evaluate(|net| Calibration::cross_entropy(&batches).measure(net))?;
        let rise = found.dimensions[0].candidates.iter().find(|own| own.size == half);
        let rise = rise.ok_or("no candidate of half the size")?.rise.mean;
        search.narrow(&[(0, half)])?;
        let pruned = search.evaluate(|net| Calibration::cross_entropy(&batches).measure(net))?;
        let expected = pruned.loss - found.loss;
        assert!((rise - expected).abs() < 1e-5, "{attention:?}: {rise} {expected}");
        assert!(rise.abs() > 1e-4, "{attention:?}: {rise}");
    }
    Ok(())
}
