//! Importance scores in a complete search, and components written by a user.

mod support;

use once_for_both::components::{
    magnitude, AdaptiveOneHotLoss, BiMask, Classification, ComponentId, Components,
    EntropyVarianceLoss, Importance, Observation, PmimRegularizer, RankedBiMask, UnitImportance,
    UnitState,
};
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, Rope, VitConfig};
use once_for_both::search::{Checkpoints, Search};
use once_for_both::space::{ActiveSet, ActiveSets, Binding, Candidates, Dimension, DimensionKind};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use std::sync::Arc;
use support::tiny_run::{alone, batch, builder, options, run, search, vit, without_times, STEPS};
use support::{test_device, TestResult, Tolerance};
use tch::{nn, Tensor};

const READY: [UnitImportance; 5] = [
    UnitImportance::Learned,
    UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 },
    UnitImportance::Magnitude { mean: 2.0, std: 0.5 },
    UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.5 },
    UnitImportance::Random { mean: 2.0, std: 0.5 },
];

fn search_by(importance: UnitImportance, share: f64) -> TestResult<Search<VitConfig>> {
    Ok(builder(options(), share).importance(importance).build()?)
}

#[test]
fn search_with_any_ready_importance_meets_its_budget() -> TestResult {
    let _alone = alone();
    for importance in READY {
        let mut search = search_by(importance, 0.5)?;
        run(&mut search, STEPS)?;
        let supernet = search.supernet();
        let macs = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
        assert!(macs <= search.limits()[0].limit, "{importance:?}: {macs} MACs");
        assert!(supernet.is_decided(), "{importance:?}");
    }
    Ok(())
}

/// Copies of the scores of every dimension.
fn scores(search: &Search<VitConfig>) -> Vec<Tensor> {
    search.supernet().states().iter().map(|state| state.score.detach().copy()).collect()
}

#[test]
fn scores_change_in_a_step_unless_their_importance_is_random() -> TestResult {
    let _alone = alone();
    for importance in READY {
        let mut search = search_by(importance, 0.9)?;
        let before = scores(&search);
        let weights: Weights = search.supernet().raw_weights();
        let weights = weights.into_iter().map(|(name, w)| (name, w.copy())).collect::<Weights>();
        run(&mut search, 1)?;
        let after = scores(&search);
        let moved = before.iter().zip(&after).any(|(before, after)| !before.equal(after));
        let frozen = matches!(importance, UnitImportance::Random { .. });
        assert_eq!(moved, !frozen, "{importance:?}");
        if let UnitImportance::Magnitude { mean, std } = importance {
            // From the weights before the update, without mask token and decoder of PMIM.
            for (score, dimension) in after.iter().zip(&vit().space()?.dimensions) {
                let expected = magnitude(dimension, &weights)? * std + mean;
                Tolerance { relative: 1e-4, absolute: 1e-4 }.check("score", score, &expected)?;
            }
        }
    }
    Ok(())
}

/// Sum over the matrices of the logarithm of a unit's norm, standardised, computed by hand for
/// rows (3 × heads × channels) and columns.
#[test]
fn magnitude_of_units_in_rows_and_columns_is_the_sum_of_log_norms() -> TestResult {
    let _alone = alone();
    let mut dimension =
        Dimension::new("a", DimensionKind::Attention, Candidates::grid(1, 2, vec![1], vec![1, 2])?);
    dimension.bindings = vec![
        Binding::gated("qkv.weight", 0).outer(3),
        Binding::gated("qkv.bias", 0).outer(3),
        Binding::narrowed("proj.weight", 1),
        Binding::gated("token", 2),
    ];
    let tensor = |values: &[f32], shape: &[i64]| {
        Tensor::from_slice(values).view(shape).to_device(test_device())
    };
    let weights: Weights = [
        // Unit 0 has rows 0, 2 and 4: 3, 0, 4. Unit 1 has 1, 3 and 5: 1, 2, 2.
        ("qkv.weight", tensor(&[3., 1., 0., 2., 4., 2.], &[6, 1])),
        // Left out, because they are no matrices; each of them would reverse the order.
        ("qkv.bias", tensor(&[1., 9., 1., 9., 1., 9.], &[6])),
        // Columns (2, 0) and (1, 1).
        ("proj.weight", tensor(&[2., 1., 0., 1.], &[2, 2])),
        ("token", tensor(&[1e-9, 1e9], &[1, 1, 2])),
    ]
    .into_iter()
    .map(|(name, tensor)| (name.to_string(), tensor))
    .collect();
    let log_norm = [(5f64 * 2.0).ln(), (3f64 * 2f64.sqrt()).ln()];
    // Two standardised numbers are ±1, except for the 1e-6 in the denominator.
    let spread = (log_norm[0] - log_norm[1]) / 2.0;
    let expected = tensor(
        &[(spread / (spread.abs() + 1e-6)) as f32, (-spread / (spread.abs() + 1e-6)) as f32],
        &[1, 2],
    );
    let found = magnitude(&dimension, &weights)?;
    Tolerance { relative: 1e-5, absolute: 1e-5 }.check("magnitude", &found, &expected)?;

    let missing = Weights::new();
    assert_refused!(
        magnitude(&dimension, &missing),
        Error::UnknownVariable { ref variable, .. } if variable == "qkv.weight"
    );
    let scalar = Weights::from([("qkv.weight".into(), tensor(&[1.0], &[]))]);
    assert_refused!(
        magnitude(&dimension, &scalar),
        Error::BindingAxis { ref variable, axis: 0, expected: 6, actual: 0, .. }
            if variable == "qkv.weight"
    );
    dimension.bindings.drain(..3);
    assert_refused!(
        magnitude(&dimension, &weights),
        Error::Invalid { ref name, .. } if name == "bindings of a"
    );
    Ok(())
}

/// Scores that fall with the index of the unit.
#[derive(Debug)]
struct ByIndex;

impl Importance for ByIndex {
    fn id(&self) -> ComponentId {
        ComponentId::new("by_index")
    }

    fn initial(&self, dimension: &Dimension, _: &Weights) -> Result<Tensor> {
        let [heads, channels] = dimension.candidates.unit_shape();
        let place = Tensor::f_arange(heads * channels, (tch::Kind::Float, test_device()))?;
        Ok(place.f_mul_scalar(-0.01)?.f_add_scalar(2.0)?.f_view([heads, channels])?)
    }

    fn update(&self, seen: Observation) -> Result<Option<Tensor>> {
        Ok(Some(seen.score.f_detach()?))
    }
}

fn search_by_own_components() -> TestResult<Search<VitConfig>> {
    Ok(builder(options(), 0.5).components(own_components()).build()?)
}

fn own_components() -> Components {
    Components {
        importance: Arc::new(ByIndex),
        bi_mask: Arc::new(Halfway),
        one_hot: Arc::new(EntropyOnly),
        pmim: Arc::new(RawPixels),
        task: Arc::new(Classification),
        teacher: None,
    }
}

#[test]
fn search_with_own_components_keeps_the_units_of_highest_score() -> TestResult {
    let _alone = alone();
    let mut search = search_by_own_components()?;
    run(&mut search, STEPS)?;
    for state in search.supernet().states() {
        let channels = state.candidates().channels();
        let first: Vec<i64> = (0..channels).collect();
        assert_eq!(state.origin[..channels as usize], first, "{}", state.name);
    }
    Ok(())
}

#[test]
fn search_with_own_components_resumes_only_with_the_same_components() -> TestResult {
    let _alone = alone();
    let expected = run(&mut search_by_own_components()?, STEPS)?;
    let folder = tempfile::tempdir()?;
    let mut first = search_by_own_components()?;
    let mut events = run(&mut first, 5)?;
    let saved = Checkpoints::new(folder.path(), 1).save(&first)?;
    assert_refused!(
        Search::<VitConfig>::resume(&saved, test_device()),
        Error::Component { component: "bi_mask", actual, .. } if actual == "halfway"
    );
    assert_refused!(
        Search::<VitConfig>::resume_with(&Components::default(), &saved, test_device()),
        Error::Component { component: "importance", expected, .. } if expected == "by_index"
    );
    let mut second = Search::<VitConfig>::resume_with(&own_components(), &saved, test_device())?;
    events.extend(run(&mut second, STEPS)?);
    assert_eq!(without_times(&events), without_times(&expected));
    Ok(())
}

/// (1 + V)/2 instead of V.
#[derive(Debug)]
struct Halfway;

impl BiMask for Halfway {
    fn id(&self) -> ComponentId {
        ComponentId::new("halfway")
    }

    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        RankedBiMask.importance(score)
    }

    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        Ok(RankedBiMask.sparsity(state, importance)?.f_mul_scalar(0.5)?.f_add_scalar(0.5)?)
    }
}

#[derive(Debug)]
struct EntropyOnly;

impl AdaptiveOneHotLoss for EntropyOnly {
    fn id(&self) -> ComponentId {
        ComponentId::new("entropy_only")
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        EntropyVarianceLoss { tangent: false, ..EntropyVarianceLoss::paper() }
            .alpha_loss(alpha, active)
    }

    fn importance_loss(&self, _: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        Ok(importance.f_sum(None)?.f_mul_scalar(1e-5)?)
    }
}

#[derive(Debug)]
struct RawPixels;

impl PmimRegularizer for RawPixels {
    fn id(&self) -> ComponentId {
        ComponentId::new("raw_pixels")
    }

    fn targets(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_detach()?)
    }

    fn loss(&self, targets: &Tensor, prediction: &Tensor, _: &Tensor, _: i64) -> Result<Tensor> {
        Ok(targets.f_sub(prediction)?.f_square()?.f_mean(None)?)
    }
}

#[test]
fn importance_with_parameters_out_of_range_is_refused() {
    let _alone = alone();
    for importance in [
        UnitImportance::Magnitude { mean: f64::NAN, std: 1.0 },
        UnitImportance::Random { mean: 0.0, std: -1.0 },
        UnitImportance::Taylor { mean: 0.0, std: 1.0, momentum: 1.0 },
    ] {
        assert_refused!(importance.check(), Error::Invalid { .. });
        let built = builder(options(), 0.5).importance(importance).build();
        assert_refused!(built, Error::Invalid { ref name, .. } if name.starts_with("importance."));
    }
}

#[test]
fn score_and_alpha_that_are_not_finite_are_refused_by_name() -> TestResult {
    let _alone = alone();
    let mut search = search(0.5)?;
    let space = search.supernet().architecture().space()?;
    let (name, state) = (&space.dimensions[1].name, &mut search.supernet_mut().states_mut()[1]);
    let infinite = state.score.detach() / 0.0;
    assert_refused!(
        state.set_score(&infinite),
        Error::NonFinite { ref dimension, .. } if dimension == name
    );
    let not_a_number = state.alpha.detach() * f64::NAN;
    assert_refused!(
        state.set_alpha(&not_a_number),
        Error::NonFinite { ref name, .. } if name == "alpha"
    );
    Ok(())
}

/// The bias of queries and keys apart has two numbers a head for every unit, and several registers one each.
#[test]
fn magnitude_leaves_biases_and_tokens_out_however_many_numbers_they_have() -> TestResult {
    let _alone = alone();
    let registers = VitConfig { registers: 3, ..vit() };
    for (config, name, variable) in [
        (vit().qk_v_apart()?, "blocks.0.attn.qk", "blocks.0.attn.qk.bias"),
        (registers, "embed", "reg_token"),
    ] {
        let mut space = config.space()?;
        let store = nn::VarStore::new(test_device());
        config.build(&store.root())?;
        let mut weights: Weights = store.variables().into_iter().collect();
        let dimension = space.dimension_mut(name)?;
        let mut magnitudes = Vec::new();
        for scale in [0.0, 1.0] {
            let other = weights[variable].detach().f_randn_like()?.f_mul_scalar(scale)?;
            weights.insert(variable.into(), other);
            magnitudes.push(magnitude(dimension, &weights)?);
        }
        assert!(magnitudes[0].equal(&magnitudes[1]), "{variable}");
    }
    Ok(())
}

/// The base of rotary positions changes the frequencies alone, which are no weights.
#[test]
fn scores_by_magnitude_do_not_depend_on_rotary_frequencies() -> TestResult {
    let _alone = alone();
    let mut found = Vec::new();
    for base in [2.0, 1e4] {
        let rope = Some(Rope::Grid { base, reference: 4 });
        let search = Search::of(VitConfig { rope, ..vit() }).budget(Budget::macs_share(0.5));
        let search = search.importance(UnitImportance::Magnitude { mean: 2.0, std: 0.5 });
        let mut search = search.options(options()).device(test_device()).build()?;
        let initial = scores(&search);
        run(&mut search, 1)?;
        found.push((initial, scores(&search)));
    }
    let equal = |left: &[Tensor], right: &[Tensor]| left.iter().zip(right).all(|(l, r)| l.equal(r));
    assert!(equal(&found[0].0, &found[1].0) && equal(&found[0].1, &found[1].1));
    Ok(())
}

/// Its value is that of the right loss, and its gradient is lost.
#[derive(Debug)]
struct Detached;

impl AdaptiveOneHotLoss for Detached {
    fn id(&self) -> ComponentId {
        ComponentId::new("detached")
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        Ok(EntropyVarianceLoss::paper().alpha_loss(alpha, active)?.f_detach()?)
    }

    fn importance_loss(&self, _: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        Ok(importance.f_sum(None)?.f_mul_scalar(1e-5)?)
    }
}

/// Its loss of decided dimensions alone is a number without gradient.
#[derive(Debug)]
struct ConstantAtTheEnd;

impl AdaptiveOneHotLoss for ConstantAtTheEnd {
    fn id(&self) -> ComponentId {
        ComponentId::new("constant at the end")
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        EntropyVarianceLoss::paper().alpha_loss(alpha, active)
    }

    fn alpha_losses(&self, alphas: &[&Tensor], sets: &ActiveSets) -> Result<Tensor> {
        let losses = EntropyVarianceLoss::paper().alpha_losses(alphas, sets)?;
        match losses.requires_grad() {
            true => Ok(losses),
            false => Ok(losses.f_add_scalar(1.0)?),
        }
    }

    fn importance_loss(&self, _: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        Ok(importance.f_sum(None)?.f_mul_scalar(1e-5)?)
    }
}

/// The answer would be read from the device in every step.
#[test]
fn one_hot_loss_is_not_asked_for_a_gradient_once_all_dimensions_are_decided() -> TestResult {
    let _alone = alone();
    let mut search = builder(options(), 0.5).one_hot(ConstantAtTheEnd).build()?;
    for state in search.supernet_mut().states_mut() {
        let count = state.candidates().len();
        state.set_active((0..count).map(|candidate| candidate + 1 == count).collect())?;
    }
    search.gradients(&[batch(0)?])?;
    Ok(())
}

#[test]
fn one_hot_loss_without_gradient_is_refused_unless_it_is_switched_off() -> TestResult {
    let _alone = alone();
    let detached = builder(options(), 0.5).one_hot(Detached).build()?;
    assert_refused!(
        detached.gradients(&[batch(0)?]),
        Error::Invalid { ref name, .. } if name == "one-hot loss of α"
    );
    let without = options().with(|own| own.one_hot.weight = 0.0);
    builder(without, 0.5).one_hot(Detached).build()?.gradients(&[batch(0)?])?;
    let paper = EntropyVarianceLoss::paper();
    let off = EntropyVarianceLoss { entropy: false, tangent: false, ..paper };
    builder(options(), 0.5).one_hot(off).build()?.gradients(&[batch(0)?])?;
    Ok(())
}
