//! Every importance, ready or one's own, drives a whole search; so do other masks and losses.

mod support;

use once_for_both::components::PmimRegularizer;
use once_for_both::components::{
    magnitude, BiMask, Importance, Observation, RankedBiMask, UnitImportance, UnitState,
};
use once_for_both::components::{AdaptiveOneHotLoss, EntropyVarianceLoss};
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Checkpoints, Method, Search, SearchOptions};
use once_for_both::space::{ActiveSet, Binding, Candidates, Dimension, DimensionKind};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use std::rc::Rc;
use support::tiny_run::{alone, options, run, session_with, vit, without_times, STEPS};
use support::{test_device, TestResult, Tolerance};
use tch::Tensor;

const READY: [UnitImportance; 5] = [
    UnitImportance::Learned,
    UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 },
    UnitImportance::Magnitude { mean: 2.0, std: 0.5 },
    UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.5 },
    UnitImportance::Random { mean: 2.0, std: 0.5 },
];

fn with(importance: UnitImportance) -> SearchOptions {
    SearchOptions { importance, ..options() }
}

#[test]
fn every_importance_leads_a_search_to_its_budget() -> TestResult {
    let _alone = alone();
    for importance in READY {
        let mut session = session_with(with(importance), 0.5, Method::of)?;
        run(&mut session, STEPS)?;
        let supernet = session.supernet();
        let macs = supernet.cost_model().cost(Metric::Macs, &supernet.sizes())?;
        assert!(macs <= session.budgets()[0].limit, "{importance:?}: {macs} MACs");
        assert!(supernet.is_decided(), "{importance:?}");
    }
    Ok(())
}

/// Scores of every dimension, in memory of their own.
fn scores(session: &Search<VitConfig>) -> Vec<Tensor> {
    session.supernet().states().iter().map(|state| state.score.detach().copy()).collect()
}

#[test]
fn scores_move_as_their_importance_says() -> TestResult {
    let _alone = alone();
    for importance in READY {
        let mut session = session_with(with(importance), 0.9, Method::of)?;
        let before = scores(&session);
        let weights: Weights = session.supernet().raw_weights();
        let weights = weights.into_iter().map(|(name, w)| (name, w.copy())).collect::<Weights>();
        run(&mut session, 1)?;
        let after = scores(&session);
        let moved = before.iter().zip(&after).any(|(before, after)| !before.equal(after));
        let frozen = matches!(importance, UnitImportance::Random { .. });
        assert_eq!(moved, !frozen, "{importance:?}");
        if let UnitImportance::Magnitude { mean, std } = importance {
            // The scores of a step come from the weights before its update.
            // Not from mask token and decoder, which begin at random.
            for (score, dimension) in after.iter().zip(&vit().space()?.dimensions) {
                let expected = magnitude(dimension, &weights)? * std + mean;
                Tolerance { relative: 1e-4, absolute: 1e-4 }.check("score", score, &expected)?;
            }
        }
    }
    Ok(())
}

/// By hand: a unit's logarithms of norms, summed over what has several numbers of it, in three
/// layouts (rows; 3 × heads × channels; columns), standardised.
#[test]
fn magnitude_is_the_norm_of_a_unit_in_all_its_matrices() -> TestResult {
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
        // A bias is no matrix, and one number of a token says nothing: each would turn the order.
        ("qkv.bias", tensor(&[1., 9., 1., 9., 1., 9.], &[6])),
        // Columns (2, 0) and (1, 1).
        ("proj.weight", tensor(&[2., 1., 0., 1.], &[2, 2])),
        ("token", tensor(&[1e-9, 1e9], &[1, 1, 2])),
    ]
    .into_iter()
    .map(|(name, tensor)| (name.to_string(), tensor))
    .collect();
    let log_norm = [(5f64 * 2.0).ln(), (3f64 * 2f64.sqrt()).ln()];
    // Of two numbers the standardised ones are ±1, but for the 1e-6 in the denominator.
    let spread = (log_norm[0] - log_norm[1]) / 2.0;
    let expected = tensor(
        &[(spread / (spread.abs() + 1e-6)) as f32, (-spread / (spread.abs() + 1e-6)) as f32],
        &[1, 2],
    );
    let found = magnitude(&dimension, &weights)?;
    Tolerance { relative: 1e-5, absolute: 1e-5 }.check("magnitude", &found, &expected)?;

    let missing = Weights::new();
    assert_refused!(magnitude(&dimension, &missing), Error::UnknownVariable { ref variable, .. } if variable == "qkv.weight");
    dimension.bindings.drain(..3);
    assert_refused!(magnitude(&dimension, &weights), Error::Invalid { ref name, .. } if name == "bindings of a");
    Ok(())
}

/// A score that falls from unit to unit, whatever the network.
#[derive(Debug)]
struct ByPlace;

impl Importance for ByPlace {
    fn initial(&self, dimension: &Dimension, _: &Weights) -> Result<Tensor> {
        let [heads, channels] = dimension.candidates.unit_shape();
        let place = Tensor::f_arange(heads * channels, (tch::Kind::Float, test_device()))?;
        Ok(place.f_mul_scalar(-0.01)?.f_add_scalar(2.0)?.f_view([heads, channels])?)
    }

    fn update(&self, seen: Observation) -> Result<Option<Tensor>> {
        Ok(Some(seen.score.f_detach()?))
    }
}

/// Units that stay are those the importance wants, and the parts of one's own are the ones used.
#[test]
fn parts_of_ones_own_are_accepted_and_kept_on_resume() -> TestResult {
    let _alone = alone();
    let own = |_: &SearchOptions| {
        Ok(Method {
            importance: Box::new(ByPlace),
            bi_mask: Rc::new(Halfway),
            one_hot: Box::new(EntropyOnly),
            reconstruction: Box::new(RawPixels),
            teacher: None,
        })
    };
    let mut whole = session_with(options(), 0.5, own)?;
    let expected = run(&mut whole, STEPS)?;
    for state in whole.supernet().states() {
        let channels = state.candidates().channels();
        let first: Vec<i64> = (0..channels).collect();
        assert_eq!(state.origin[..channels as usize], first, "{}", state.name);
    }

    let folder = tempfile::tempdir()?;
    let mut first = session_with(options(), 0.5, own)?;
    let mut events = run(&mut first, 5)?;
    let saved = Checkpoints::new(folder.path(), 1).save(&first)?;
    assert_refused!(
        Search::<VitConfig>::resume(&saved, test_device()),
        Error::File { reason, .. } if reason.contains("ByPlace") && reason.contains("RankedBiMask")
    );
    let mut second = Search::<VitConfig>::resume_with(own, &saved, test_device())?;
    events.extend(run(&mut second, STEPS)?);
    assert_eq!(without_times(&events), without_times(&expected));
    Ok(())
}

/// Sparsity in the middle between certain and the paper's.
#[derive(Debug)]
struct Halfway;

impl BiMask for Halfway {
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
    fn targets(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_detach()?)
    }

    fn loss(&self, targets: &Tensor, prediction: &Tensor, _: &Tensor, _: i64) -> Result<Tensor> {
        Ok(targets.f_sub(prediction)?.f_square()?.f_mean(None)?)
    }
}

#[test]
fn numbers_that_make_no_scores_are_refused() -> TestResult {
    let _alone = alone();
    for importance in [
        UnitImportance::Magnitude { mean: f64::NAN, std: 1.0 },
        UnitImportance::Random { mean: 0.0, std: -1.0 },
        UnitImportance::Taylor { mean: 0.0, std: 1.0, momentum: 1.0 },
    ] {
        assert_refused!(with(importance).check(), Error::Invalid { .. });
    }
    Ok(())
}

#[test]
fn scores_and_alphas_that_are_no_numbers_are_refused_by_name() -> TestResult {
    let _alone = alone();
    let mut session = session_with(options(), 0.5, Method::of)?;
    let space = session.supernet().architecture().space()?;
    let (name, state) = (&space.dimensions[1].name, &mut session.supernet_mut().states_mut()[1]);
    let endless = state.score.detach() / 0.0;
    assert_refused!(state.set_score(&endless), Error::NonFinite { ref dimension, .. } if dimension == name);
    let nothing = state.alpha.detach() * f64::NAN;
    assert_refused!(state.set_alpha(&nothing), Error::NonFinite { ref name, .. } if name == "alpha");
    Ok(())
}
