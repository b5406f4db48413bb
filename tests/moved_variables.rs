//! A search moves the variables of a network to buffers of its own: what networks and components may
//! rely on.

mod support;

use once_for_both::batch::Batch;
use once_for_both::check::self_check;
use once_for_both::components::{AdaptiveOneHotLoss, BiMask, ComponentId, RankedBiMask, UnitState};
use once_for_both::cost::{Budget, CostModel, Polynomial};
use once_for_both::models::{Architecture, TchModule};
use once_for_both::search::{Checkpoints, Event, Search, SearchOptions};
use once_for_both::space::{
    ActiveSet, Binding, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use support::tiny_run::{alone, builder, fade_out_options, options, run};
use support::{numbers, test_device, TestResult};
use tch::{nn, Kind, Tensor};

/// Two layers; the second is trained from the start, or made trainable later, and is read in the forward
/// pass, or transposed once when the network is built.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct TwoLayers {
    keeps_transpose: bool,
    frozen: bool,
}

impl Architecture for TwoLayers {
    type Network = TchModule<nn::Func<'static>>;
    const FAMILY: &'static str = "two layers";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        let first = nn::linear(path / "first", 12, 8, Default::default());
        let second = path.f_randn("second", &[3, 8], 0.0, 0.3)?;
        if self.frozen {
            let _ = second.f_set_requires_grad(false)?;
        }
        let (keeps, transpose) = (self.keeps_transpose, second.f_tr()?);
        Ok(TchModule(nn::func(move |images| {
            let hidden = images.flatten(1, -1).apply(&first).relu();
            match keeps {
                true => hidden.matmul(&transpose),
                false => hidden.matmul(&second.tr()),
            }
        })))
    }

    fn space(&self) -> Result<SearchSpace> {
        let candidates = Candidates::flat(8, vec![2, 4, 6, 8])?;
        let hidden = Dimension::new("hidden", DimensionKind::Hidden, candidates)
            .bind(Binding::gated("first.weight", 0))
            .bind(Binding::gated("first.bias", 0))
            .bind(Binding::narrowed("second", 1));
        Ok(SearchSpace { dimensions: vec![hidden] })
    }

    fn cost_model(&self) -> CostModel {
        let cost = Polynomial::units("hidden") * 16;
        let dense = [("hidden".to_string(), Size::flat(8))].into();
        CostModel::new(cost.clone(), cost, dense)
    }

    fn resized(&self, _: &Sizes) -> Result<Self> {
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation: "resizing" })
    }
}

fn batch() -> Batch {
    let images = Tensor::randn([6, 3, 2, 2], (Kind::Float, test_device()));
    Batch::classes(images, Tensor::randint(3, [6], (Kind::Int64, test_device())))
}

#[test]
fn self_check_of_a_network_that_keeps_a_transpose_names_the_variable() -> TestResult {
    let _alone = alone();
    let network = TwoLayers { keeps_transpose: true, frozen: false };
    let refused = self_check(&network, &network.space()?, &batch().images);
    assert_refused!(refused, Error::Invalid { ref actual, .. } if actual == "second");
    let network = TwoLayers { keeps_transpose: false, ..network };
    self_check(&network, &network.space()?, &batch().images)?;
    Ok(())
}

#[test]
fn variable_made_trainable_after_the_search_was_built_is_trained() -> TestResult {
    let _alone = alone();
    let options = options().with(|options| {
        options.pmim = None;
        options.optimiser.weight_rate.peak = 0.05;
        options.optimiser.weight_rate.warmup_steps = 0;
    });
    let network = TwoLayers { keeps_transpose: false, frozen: true };
    let search = Search::of(network).budget(Budget::macs_share(0.6)).options(options);
    let mut search = search.device(test_device()).build()?;
    let second = |search: &Search<TwoLayers>| search.supernet().raw_weights()["second"].copy();
    let before = second(&search);
    search.step(&[batch()], &mut ())?;
    assert!(second(&search).equal(&before));
    let _ = search.supernet().folded_weights()["second"].set_requires_grad(true);
    search.step(&[batch()], &mut ())?;
    assert!(!second(&search).equal(&before));
    Ok(())
}

/// Entropy over ln n, which no decided dimension has.
#[derive(Debug)]
struct Normalised;

impl AdaptiveOneHotLoss for Normalised {
    fn id(&self) -> ComponentId {
        ComponentId::new("normalised")
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        let p = active.probabilities(alpha)?;
        let entropy = p.f_mul(&p.f_add_scalar(1e-12)?.f_log()?)?.f_sum(None)?.f_neg()?;
        Ok(entropy.f_div_scalar((active.count() as f64).ln())?)
    }

    fn importance_loss(&self, _: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        Ok(importance.f_sum(None)?.f_mul_scalar(1e-5)?)
    }
}

#[test]
fn one_hot_loss_of_ones_own_is_not_asked_for_decided_dimensions() -> TestResult {
    let _alone = alone();
    let mut search = builder(options(), 0.6).one_hot(Normalised).build()?;
    let state = &mut search.supernet_mut().states_mut()[1];
    let last = state.candidates().len() - 1;
    state.set_active((0..=last).map(|candidate| candidate == last).collect())?;
    let events = run(&mut search, 8)?;
    assert!(!events.iter().any(|event| matches!(event, Event::NonFinite { .. })), "{events:?}");
    Ok(())
}

/// V times the share of the importance that is left, of heads and flat dimensions alike.
#[derive(Debug)]
struct Left;

impl BiMask for Left {
    fn id(&self) -> ComponentId {
        ComponentId::new("left")
    }

    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        Ok(score.f_sigmoid()?)
    }

    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        let v = RankedBiMask.sparsity(state, importance)?;
        let left = importance.f_detach()?.f_sum_dim_intlist([1i64].as_slice(), true, None)?;
        let all = match state.pruned_importance {
            Some(pruned) => left.f_add(&pruned.f_unsqueeze(1)?)?,
            None => left.shallow_clone(),
        };
        Ok(v.f_mul(&left.f_div(&all)?)?)
    }
}

#[test]
fn bi_mask_of_ones_own_in_a_fade_out_knows_the_pruned_importance_of_every_dimension() -> TestResult
{
    let _alone = alone();
    let options = fade_out_options().with(|options| options.training.ema_decay = None);
    let steps = options.total_steps;
    let mut search = builder(options, 0.6).bi_mask(Left).build()?;
    let mut pruned = 0;
    for event in run(&mut search, steps)? {
        if let Event::Pruned(own) = event {
            pruned += 1;
            assert!(own.exact_difference <= 1e-5 * own.logit_scale, "{own:?}");
        }
    }
    assert!(pruned > 0);
    Ok(())
}

/// m₀ is 0 and no gate: a share of it would take kept gates with it.
#[test]
fn gates_of_units_kept_in_place_are_the_bi_mask_at_once_and_after_a_resume() -> TestResult {
    let _alone = alone();
    let network = TwoLayers { keeps_transpose: false, frozen: false };
    let options = SearchOptions::learned(40, 30).with(|options| options.pmim = None);
    let search = Search::of(network).budget(Budget::macs_share(0.6)).options(options);
    let mut search = search.device(test_device()).build()?;
    search.step(&[batch()], &mut ())?;
    search.narrow(&[(0, Size::flat(4))])?;
    search.step(&[batch()], &mut ())?;
    let kept_gates = |search: &Search<TwoLayers>| -> TestResult<Vec<f64>> {
        let masks = search.supernet().masks(search.lambda())?;
        let gates = numbers(&masks[0].mask)?;
        Ok(gates.into_iter().filter(|gate| *gate > 0.0).collect())
    };
    let gates = kept_gates(&search)?;
    assert!(gates.len() == 4 && gates.iter().all(|gate| *gate > 0.5), "{gates:?}");
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints::new(folder.path(), 1);
    checkpoints.save(&search)?;
    let resumed = checkpoints.resume::<TwoLayers>(test_device())?.ok_or("no checkpoint")?.search;
    assert_eq!(kept_gates(&resumed)?, gates);
    Ok(())
}

#[test]
fn units_pruned_in_place_are_not_kept_again() -> TestResult {
    let _alone = alone();
    let network = TwoLayers { keeps_transpose: false, frozen: false };
    let options = SearchOptions::learned(40, 30).with(|options| options.pmim = None);
    let search = Search::of(network).budget(Budget::macs_share(0.6)).options(options);
    let mut search = search.device(test_device()).build()?;
    search.narrow(&[(0, Size::flat(4))])?;
    let kept = |search: &Search<TwoLayers>| -> TestResult<Vec<i64>> {
        let fade_out = search.supernet().states()[0].fade_out.as_ref();
        Ok(fade_out.ok_or("nothing is pruned")?.kept().to_vec())
    };
    let four = kept(&search)?;
    // The pruned units have the highest scores now.
    let scores: Vec<f32> =
        (0..8).map(|at| f32::from(!four.contains(&at)) + 0.01 * at as f32).collect();
    let scores = Tensor::f_from_slice(&scores)?.f_to_device(test_device())?;
    let state = &mut search.supernet_mut().states_mut()[0];
    let scores = scores.f_view_as(&state.score)?;
    state.set_score(&scores)?;
    let on_device = Vec::<i64>::try_from(state.kept_units(Size::flat(2))?)?;
    search.narrow(&[(0, Size::flat(2))])?;
    assert_eq!(kept(&search)?, four[2..]);
    assert_eq!(on_device, four[2..]);
    Ok(())
}
