//! The ready properties hold for the crate's own parts, and each of them catches a broken one.

mod support;

use once_for_both::components::{ranks, survival_by_rank, BiMask, Mask, RankedBiMask, UnitState};
use once_for_both::components::{AdaptiveOneHotLoss, ComponentId, EntropyVarianceLoss};
use once_for_both::components::{PmimRegularizer, WindowedPixels};
use once_for_both::models::Architecture;
use once_for_both::space::{ActiveSet, DimensionKind};
use once_for_both::strategies::{
    budgets, check_bi_mask, check_one_hot_loss, check_pmim_regularizer, dimensions,
    lambda_schedules, mask_ratio_schedules, vit_configs, Counterexample, BI_MASK_PROPERTIES,
    ONE_HOT_PROPERTIES, PMIM_PROPERTIES,
};
use once_for_both::Result;
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::test_device;
use tch::Tensor;

const CASES: u32 = 1000;
/// A breakage is noticed sooner.
const FEW: u32 = 200;

#[test]
fn the_ranked_bi_mask_has_every_property() -> Result<(), Counterexample> {
    check_bi_mask(&RankedBiMask, CASES, test_device())
}

#[test]
fn the_one_hot_loss_has_every_property() -> Result<(), Counterexample> {
    let paper = EntropyVarianceLoss::paper();
    for loss in [
        paper,
        EntropyVarianceLoss { tangent: false, ..paper },
        EntropyVarianceLoss { entropy: false, delta: 0.2, ..paper },
    ] {
        check_one_hot_loss(&loss, CASES, test_device())?;
    }
    Ok(())
}

#[test]
fn windowed_pixels_have_every_property() -> Result<(), Counterexample> {
    let pixels = WindowedPixels::new(3).unwrap_or_else(|error| panic!("{error}"));
    check_pmim_regularizer(&pixels, CASES, test_device())
}

/// A bi-mask with one half, or the whole, replaced by something wrong.
#[derive(Debug)]
struct Broken {
    sparsity: fn(UnitState, &Tensor) -> Result<Tensor>,
    lambda: fn(f64) -> f64,
}

impl BiMask for Broken {
    fn id(&self) -> ComponentId {
        ComponentId::new("broken")
    }

    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        RankedBiMask.importance(score)
    }

    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        (self.sparsity)(state, importance)
    }

    fn mask(&self, state: UnitState, lambda: f64) -> Result<Mask> {
        let (importance, lambda) = (self.importance(state.score)?, (self.lambda)(lambda));
        let sparsity = self.sparsity(state, &importance)?;
        let mask = importance.f_mul_scalar(lambda)?.f_add(&sparsity.f_mul_scalar(1.0 - lambda)?)?;
        Ok(Mask { importance, sparsity, mask })
    }
}

/// What breaks a bi-mask, by the first property that has to notice.
fn broken_bi_masks() -> [(&'static str, Broken); 8] {
    let same = |lambda| lambda;
    let right = |state: UnitState, importance: &Tensor| RankedBiMask.sparsity(state, importance);
    [
        (
            "mask stays in [0, 1]",
            Broken {
                sparsity: |state, s| Ok(RankedBiMask.sparsity(state, s)?.f_mul_scalar(1.1)?),
                lambda: same,
            },
        ),
        (
            "V is non-increasing in rank",
            Broken {
                // By place instead of rank.
                sparsity: |state, _| survival_by_rank(state.alpha, state.active),
                lambda: same,
            },
        ),
        (
            "permuting units permutes the mask",
            Broken {
                // All units are the less probable the further behind the first one is.
                sparsity: |state, s| {
                    let first = ranks(state.score)?.f_flatten(0, -1)?.f_narrow(0, 0, 1)?;
                    let scale = first.f_mul_scalar(-1e-3)?.f_add_scalar(1.0)?;
                    Ok(RankedBiMask.sparsity(state, s)?.f_mul(&scale)?)
                },
                lambda: same,
            },
        ),
        ("λ = 1 is S and λ = 0 is V", Broken { sparsity: right, lambda: |lambda| 1.0 - lambda }),
        (
            "one active candidate gives a 0/1 V",
            Broken {
                sparsity: |state, s| Ok(RankedBiMask.sparsity(state, s)?.f_mul_scalar(0.5)?),
                lambda: same,
            },
        ),
        (
            "raising α of a candidate never lowers V of the units it keeps",
            Broken {
                sparsity: |state, s| {
                    let alpha = state.alpha.f_neg()?;
                    RankedBiMask.sparsity(UnitState { alpha: &alpha, ..state }, s)
                },
                lambda: same,
            },
        ),
        (
            "no gradient from V to scores, none from S to α",
            Broken {
                // Nothing in value, one in gradient.
                sparsity: |state, s| {
                    let leak = state.score.f_sub(&state.score.f_detach()?)?;
                    Ok(RankedBiMask.sparsity(state, s)?.f_add(&leak)?)
                },
                lambda: same,
            },
        ),
        (
            "sum of V equals the expected size",
            Broken {
                // Right at both ends, wrong in between.
                sparsity: |state, s| Ok(RankedBiMask.sparsity(state, s)?.f_square()?),
                lambda: same,
            },
        ),
    ]
}

/// Every property has something to say: the broken part breaks it.
#[test]
fn every_property_of_a_bi_mask_catches_its_breakage() {
    for ((name, _), (broken, mask)) in BI_MASK_PROPERTIES.iter().zip(broken_bi_masks()) {
        assert_eq!(*name, broken, "the list of breakages follows the list of properties");
        match check_bi_mask(&mask, FEW, test_device()) {
            Err(found) => assert_eq!(found.property, broken, "{found}"),
            Ok(()) => panic!("nothing notices what breaks {broken:?}"),
        }
    }
}

/// A mask that forgets what has left reorders heads at a cut.
#[test]
fn forgetting_departed_channels_is_noticed() {
    let forgetful = Broken {
        sparsity: |state, s| {
            RankedBiMask.sparsity(UnitState { pruned_importance: None, ..state }, s)
        },
        lambda: |lambda| lambda,
    };
    match check_bi_mask(&forgetful, FEW, test_device()) {
        Err(found) => assert_eq!(found.property, "V is non-increasing in rank", "{found}"),
        Ok(()) => panic!("nothing notices that pruned_importance channels are forgotten"),
    }
}

type Sharpen = fn(&Tensor, &ActiveSet) -> Result<Tensor>;

#[derive(Debug)]
struct BrokenLoss(Sharpen, f64);

impl AdaptiveOneHotLoss for BrokenLoss {
    fn id(&self) -> ComponentId {
        ComponentId::new("broken")
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        (self.0)(alpha, active)
    }

    fn importance_loss(&self, _: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        Ok(importance.f_sum(None)?.f_mul_scalar(self.1)?)
    }
}

#[test]
fn every_property_of_a_one_hot_loss_catches_its_breakage() {
    let broken: [(&str, Sharpen); 5] = [
        ("loss falls as p sharpens", |alpha, active| {
            Ok(EntropyVarianceLoss::paper().alpha_loss(alpha, active)?.f_neg()?)
        }),
        // The formula as it stands: 0 · ln 0.
        ("loss and gradient finite for every finite α", |alpha, active| {
            let log_p = active.log_probabilities(alpha)?;
            let p = log_p.f_exp()?;
            Ok(p.f_mul(&log_p.f_masked_fill(active.inactive(), 0.0)?)?.f_sum(None)?.f_neg()?)
        }),
        ("decided dimension costs nothing", |alpha, active| {
            Ok(EntropyVarianceLoss::paper().alpha_loss(alpha, active)?.f_add_scalar(1.0)?)
        }),
        ("inactive candidates have no say", |alpha, active| {
            let say = alpha.f_masked_select(active.inactive())?.f_clamp(-1.0, 1.0)?.f_sum(None)?;
            let decided = if active.decided().is_some() { 0.0 } else { 1e-7 };
            let loss = EntropyVarianceLoss::paper().alpha_loss(alpha, active)?;
            Ok(loss.f_add(&say.f_mul_scalar(decided)?)?)
        }),
        ("importance costs a finite number, and more of it no less", |alpha, active| {
            EntropyVarianceLoss::paper().alpha_loss(alpha, active)
        }),
    ];
    for ((name, _), (expected, loss)) in ONE_HOT_PROPERTIES.iter().zip(broken) {
        assert_eq!(*name, expected, "the list of breakages follows the list of properties");
        let sign = if expected.starts_with("importance") { -1.0 } else { 1.0 };
        match check_one_hot_loss(&BrokenLoss(loss, sign), FEW, test_device()) {
            Err(found) => assert_eq!(found.property, expected, "{found}"),
            Ok(()) => panic!("nothing notices what breaks {expected:?}"),
        }
    }
}

/// Loss, target, prediction.
type Distort = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

#[derive(Debug)]
struct BrokenPixels(Distort);

impl PmimRegularizer for BrokenPixels {
    fn id(&self) -> ComponentId {
        ComponentId::new("broken")
    }

    fn targets(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.shallow_clone())
    }

    fn loss(&self, t: &Tensor, prediction: &Tensor, mask: &Tensor, rows: i64) -> Result<Tensor> {
        let loss = WindowedPixels::new(3)?.loss(t, prediction, mask, rows)?;
        (self.0)(&loss, t, prediction)
    }
}

#[test]
fn every_property_of_a_reconstruction_loss_catches_its_breakage() {
    let broken: [(&str, Distort); 3] = [
        ("loss and gradient finite, loss not negative", |loss, _, _| Ok(loss.f_neg()?)),
        ("painting the target costs nothing", |loss, _, _| Ok(loss.f_add_scalar(1.0)?)),
        ("visible patches have no say", |loss, target, prediction| {
            Ok(loss.f_add(&target.f_sub(prediction)?.f_abs()?.f_mean(None)?)?)
        }),
    ];
    for ((name, _), (expected, loss)) in PMIM_PROPERTIES.iter().zip(broken) {
        assert_eq!(*name, expected, "the list of breakages follows the list of properties");
        match check_pmim_regularizer(&BrokenPixels(loss), FEW, test_device()) {
            Err(found) => assert_eq!(found.property, expected, "{found}"),
            Ok(()) => panic!("nothing notices what breaks {expected:?}"),
        }
    }
}

/// A mask that weighs units by their place instead of their rank: what docs/property-testing.md
/// walks through.
#[test]
fn a_counterexample_is_small_enough_to_read() {
    let by_place = Broken {
        sparsity: |state, _| survival_by_rank(state.alpha, state.active),
        lambda: |lambda| lambda,
    };
    let Err(found) = check_bi_mask(&by_place, FEW, test_device()) else {
        panic!("nothing notices that ranks are ignored");
    };
    // Few units and a single candidate: a rank that is not a place needs no more.
    let one_candidate = found.case.contains("alpha: [[0.0]]") && found.case.contains("lambda: 0.0");
    let scores = found.case.split("score: ").nth(1).and_then(|rest| rest.split(", alpha").next());
    let units = scores.map_or(0, |scores| scores.split(',').count());
    assert!(one_candidate && (2..=4).contains(&units), "{found}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn dimensions_fit_variables_of_their_own_sizes(dimension in dimensions("d")) {
        let outer = dimension.bindings[0].outer;
        let units = dimension.candidates.units();
        let shapes = BTreeMap::from([
            ("d.weight".to_owned(), vec![outer * units, 3]),
            ("d.out.weight".to_owned(), vec![5, units]),
        ]);
        let space = once_for_both::space::SearchSpace { dimensions: vec![dimension] };
        prop_assert!(space.validate(&shapes).is_ok());
    }

    #[test]
    fn networks_can_be_built_and_budgets_kept((config, budget) in vit_configs().prop_flat_map(|config| {
        let budgets = budgets(&config).unwrap_or_else(|error| panic!("{error}"));
        (Just(config), budgets)
    })) {
        prop_assert!(config.check().is_ok());
        let (space, model) = (config.space()?, config.cost_model());
        prop_assert!(budget.check(&model, &space).is_ok(), "{:?}", budget);
    }

    #[test]
    fn schedules_stay_between_their_ends(
        lambda in lambda_schedules(),
        ratio in mask_ratio_schedules(),
        step in 0..2000u64,
    ) {
        prop_assert!((0.0..=1.0).contains(&lambda.start) && (0.0..=1.0).contains(&lambda.end));
        prop_assert!((0.0..1.0).contains(&ratio.start) && (0.0..1.0).contains(&ratio.end));
        let between = |value: f64, a: f64, b: f64| (a.min(b) - 1e-12..=a.max(b) + 1e-12).contains(&value);
        prop_assert!(between(lambda.at(step), lambda.start, lambda.end));
        prop_assert!(between(ratio.at(step), ratio.start, ratio.end));
    }
}
