//! The property checks pass for the crate's components, and each property fails for a component
//! that breaks it.

mod support;

use once_for_both::components::{random_token_mask, PmimRegularizer, WindowedPixels};
use once_for_both::components::{ranks, survival_by_rank, BiMask, Mask, RankedBiMask, UnitState};
use once_for_both::components::{AdaptiveOneHotLoss, ComponentId, EntropyVarianceLoss};
use once_for_both::models::Architecture;
use once_for_both::space::{ActiveSet, ActiveSets, DimensionKind};
use once_for_both::strategies::{
    budgets, check_bi_mask, check_one_hot_loss, check_pmim_regularizer, dimensions,
    lambda_schedules, mask_ratio_schedules, vit_configs, Counterexample, BI_MASK_PROPERTIES,
    ONE_HOT_PROPERTIES, PMIM_PROPERTIES,
};
use once_for_both::Result;
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{cases_on_device, test_device};
use tch::{Device, Tensor};

const CASES: u32 = 300;
/// Cases that are enough to find a broken component.
const FEW: u32 = 100;

#[test]
fn check_bi_mask_of_the_paper_passes() -> Result<(), Counterexample> {
    check_bi_mask(&RankedBiMask, cases_on_device(CASES), test_device())
}

#[test]
fn check_one_hot_loss_of_the_paper_passes() -> Result<(), Counterexample> {
    let paper = EntropyVarianceLoss::paper();
    for loss in [
        paper,
        EntropyVarianceLoss { tangent: false, ..paper },
        EntropyVarianceLoss { entropy: false, delta: 0.2, ..paper },
    ] {
        check_one_hot_loss(&loss, cases_on_device(CASES), test_device())?;
    }
    Ok(())
}

#[test]
fn check_pmim_regularizer_of_the_paper_passes() -> Result<(), Counterexample> {
    let pixels = WindowedPixels::new(3).unwrap_or_else(|error| panic!("{error}"));
    check_pmim_regularizer(&pixels, cases_on_device(CASES), test_device())
}

/// A bi-mask with wrong V or wrong λ.
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

/// Broken bi-masks, by the first property that fails.
fn broken_bi_masks() -> [(&'static str, Broken); 8] {
    let same = |lambda| lambda;
    let right = |state: UnitState, importance: &Tensor| RankedBiMask.sparsity(state, importance);
    [
        (
            "S, V and m are in [0, 1]",
            Broken {
                sparsity: |state, s| Ok(RankedBiMask.sparsity(state, s)?.f_mul_scalar(1.1)?),
                lambda: same,
            },
        ),
        (
            "V does not increase with rank",
            Broken {
                // By index instead of rank.
                sparsity: |state, _| survival_by_rank(state.alpha, state.active),
                lambda: same,
            },
        ),
        (
            "permuting units permutes the gates",
            Broken {
                // V falls with the rank of the unit of index 0.
                sparsity: |state, s| {
                    let first = ranks(state.score)?.f_flatten(0, -1)?.f_narrow(0, 0, 1)?;
                    let scale = first.f_mul_scalar(-1e-3)?.f_add_scalar(1.0)?;
                    Ok(RankedBiMask.sparsity(state, s)?.f_mul(&scale)?)
                },
                lambda: same,
            },
        ),
        (
            "m is S at λ = 1 and V at λ = 0",
            Broken { sparsity: right, lambda: |lambda| 1.0 - lambda },
        ),
        (
            "V is 0 or 1 with one active candidate",
            Broken {
                sparsity: |state, s| Ok(RankedBiMask.sparsity(state, s)?.f_mul_scalar(0.5)?),
                lambda: same,
            },
        ),
        (
            "raising α of a candidate does not lower V of its units",
            Broken {
                sparsity: |state, s| {
                    let alpha = state.alpha.f_neg()?;
                    RankedBiMask.sparsity(UnitState { alpha: &alpha, ..state }, s)
                },
                lambda: same,
            },
        ),
        (
            "scores get no gradient from V, α gets none from S",
            Broken {
                // Adds 0 with a gradient of 1.
                sparsity: |state, s| {
                    let leak = state.score.f_sub(&state.score.f_detach()?)?;
                    Ok(RankedBiMask.sparsity(state, s)?.f_add(&leak)?)
                },
                lambda: same,
            },
        ),
        (
            "sum of V is the expected number of units",
            Broken {
                // Right only where V is 0 or 1.
                sparsity: |state, s| Ok(RankedBiMask.sparsity(state, s)?.f_square()?),
                lambda: same,
            },
        ),
    ]
}

/// The paper's bi-mask with a broken [`BiMask::masks`], which a search calls.
#[derive(Debug, Clone, Copy)]
enum BrokenMasks {
    Missing,
    Detached,
    ImportanceDetached,
    AlwaysByImportance,
}

impl BrokenMasks {
    const ALL: [Self; 4] =
        [Self::Missing, Self::Detached, Self::ImportanceDetached, Self::AlwaysByImportance];

    fn distort(self, own: Mask) -> Result<Mask> {
        let importance = own.importance.f_detach()?;
        Ok(match self {
            Self::Missing => own,
            Self::Detached => Mask { mask: own.mask.f_detach()?, ..own },
            Self::ImportanceDetached => Mask { importance, ..own },
            Self::AlwaysByImportance => Mask { mask: own.importance.shallow_clone(), ..own },
        })
    }
}

impl BiMask for BrokenMasks {
    fn id(&self) -> ComponentId {
        ComponentId::new("broken")
    }

    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        RankedBiMask.importance(score)
    }

    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        RankedBiMask.sparsity(state, importance)
    }

    fn masks(&self, states: &[UnitState], sets: &ActiveSets, lambda: f64) -> Result<Vec<Mask>> {
        let all = RankedBiMask.masks(states, sets, lambda)?.into_iter();
        let count = if matches!(self, Self::Missing) { states.len() - 1 } else { states.len() };
        all.take(count).map(|own| self.distort(own)).collect()
    }
}

/// Checks that every property has a component that breaks it.
fn expect_each_broken<'a>(properties: impl Iterator<Item = &'a str>, broken: &[&str]) {
    let mut broken = broken.to_vec();
    broken.dedup();
    assert_eq!(
        properties.collect::<Vec<_>>(),
        broken,
        "broken components are listed in the order of the properties, at least one for each"
    );
}

#[test]
fn check_bi_mask_of_broken_ones_names_the_broken_property() {
    let boxed = |(broken, mask)| (broken, Box::new(mask) as Box<dyn BiMask>);
    let mut all: Vec<_> = broken_bi_masks().into_iter().map(boxed).collect();
    let several = "masks of several dimensions are those of each";
    all.extend(BrokenMasks::ALL.map(|mask| (several, Box::new(mask) as Box<dyn BiMask>)));
    let names: Vec<&str> = all.iter().map(|(broken, _)| *broken).collect();
    expect_each_broken(BI_MASK_PROPERTIES.iter().map(|(name, _)| *name), &names);
    for (broken, mask) in all {
        match check_bi_mask(&*mask, FEW, test_device()) {
            Err(found) => assert_eq!(found.property, broken, "{found}"),
            Ok(()) => panic!("no counterexample for {mask:?}, which breaks {broken:?}"),
        }
    }
}

/// Without the importance of pruned channels, pruning would reorder the heads.
#[test]
fn check_bi_mask_that_ignores_pruned_channels_fails() {
    let ignoring = Broken {
        sparsity: |state, s| {
            RankedBiMask.sparsity(UnitState { pruned_importance: None, ..state }, s)
        },
        lambda: |lambda| lambda,
    };
    match check_bi_mask(&ignoring, FEW, test_device()) {
        Err(found) => assert_eq!(found.property, "V does not increase with rank", "{found}"),
        Ok(()) => panic!("no counterexample for a bi-mask that ignores pruned channels"),
    }
}

type AlphaLoss = fn(&Tensor, &ActiveSet) -> Result<Tensor>;

#[derive(Debug)]
struct BrokenLoss(AlphaLoss, f64);

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

/// The paper's loss with a broken sum over dimensions, which a search calls.
#[derive(Debug, Clone, Copy)]
enum BrokenSums {
    AlphaDetached,
    ImportanceOfTheFirst,
    ImportanceDetached,
}

impl BrokenSums {
    const ALL: [Self; 3] =
        [Self::AlphaDetached, Self::ImportanceOfTheFirst, Self::ImportanceDetached];
}

impl AdaptiveOneHotLoss for BrokenSums {
    fn id(&self) -> ComponentId {
        ComponentId::new("broken")
    }

    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        EntropyVarianceLoss::paper().alpha_loss(alpha, active)
    }

    fn importance_loss(&self, _: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        Ok(importance.f_sum(None)?)
    }

    fn alpha_losses(&self, alphas: &[&Tensor], sets: &ActiveSets) -> Result<Tensor> {
        let sum = EntropyVarianceLoss::paper().alpha_losses(alphas, sets)?;
        Ok(if matches!(self, Self::AlphaDetached) { sum.f_detach()? } else { sum })
    }

    fn importance_losses(&self, importance: &[(DimensionKind, &Tensor)]) -> Result<Tensor> {
        let sums = importance.iter().map(|(_, own)| own.f_sum(None));
        let sums = sums.collect::<std::result::Result<Vec<_>, _>>()?;
        let sum = Tensor::f_stack(&sums, 0)?.f_sum(None)?;
        Ok(match self {
            Self::AlphaDetached => sum,
            Self::ImportanceOfTheFirst => sums[0].shallow_clone(),
            Self::ImportanceDetached => sum.f_detach()?,
        })
    }
}

#[test]
fn check_one_hot_loss_of_broken_ones_names_the_broken_property() {
    let broken: [(&str, AlphaLoss); 5] = [
        ("loss does not rise as p sharpens", |alpha, active| {
            Ok(EntropyVarianceLoss::paper().alpha_loss(alpha, active)?.f_neg()?)
        }),
        // Without a limit for ln 0.
        ("loss and gradient are finite for every finite α", |alpha, active| {
            let log_p = active.log_probabilities(alpha)?;
            let p = log_p.f_exp()?;
            Ok(p.f_mul(&log_p.f_masked_fill(active.inactive(), 0.0)?)?.f_sum(None)?.f_neg()?)
        }),
        ("loss and gradient of a decided dimension are 0", |alpha, active| {
            Ok(EntropyVarianceLoss::paper().alpha_loss(alpha, active)?.f_add_scalar(1.0)?)
        }),
        ("dropped candidates change neither loss nor gradient", |alpha, active| {
            let dropped =
                alpha.f_masked_select(active.inactive())?.f_clamp(-1.0, 1.0)?.f_sum(None)?;
            let weight = if active.decided().is_some() { 0.0 } else { 1e-7 };
            let loss = EntropyVarianceLoss::paper().alpha_loss(alpha, active)?;
            Ok(loss.f_add(&dropped.f_mul_scalar(weight)?)?)
        }),
        ("importance loss is finite and does not fall as importance rises", |alpha, active| {
            EntropyVarianceLoss::paper().alpha_loss(alpha, active)
        }),
    ];
    let sign = |name: &str| if name.starts_with("importance") { -1.0 } else { 1.0 };
    let boxed = |(name, loss)| {
        (name, Box::new(BrokenLoss(loss, sign(name))) as Box<dyn AdaptiveOneHotLoss>)
    };
    let mut all: Vec<_> = broken.into_iter().map(boxed).collect();
    let several = "loss of several dimensions is the sum over each";
    all.extend(BrokenSums::ALL.map(|own| (several, Box::new(own) as Box<dyn AdaptiveOneHotLoss>)));
    let names: Vec<&str> = all.iter().map(|(broken, _)| *broken).collect();
    expect_each_broken(ONE_HOT_PROPERTIES.iter().map(|(name, _)| *name), &names);
    for (expected, loss) in all {
        match check_one_hot_loss(&*loss, FEW, test_device()) {
            Err(found) => assert_eq!(found.property, expected, "{found}"),
            Ok(()) => panic!("no counterexample for {loss:?}, which breaks {expected:?}"),
        }
    }
}

/// Loss as a function of the right loss, target and prediction.
type Distort = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

#[derive(Debug)]
struct BrokenPixels(Distort, f64);

impl PmimRegularizer for BrokenPixels {
    fn id(&self) -> ComponentId {
        ComponentId::new("broken")
    }

    fn token_mask(&self, batch: i64, tokens: i64, ratio: f64, device: Device) -> Result<Tensor> {
        Ok(random_token_mask(batch, tokens, ratio, device)?.f_mul_scalar(self.1)?)
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
fn check_pmim_regularizer_of_broken_ones_names_the_broken_property() {
    let broken: [(&str, Distort); 5] = [
        ("loss is finite and not negative, gradient is finite", |loss, _, _| Ok(loss.f_neg()?)),
        ("loss of the target itself is 0", |loss, _, _| Ok(loss.f_add_scalar(1.0)?)),
        ("visible patches change neither loss nor gradient", |loss, target, prediction| {
            Ok(loss.f_add(&target.f_sub(prediction)?.f_abs()?.f_mean(None)?)?)
        }),
        ("loss above 0 has a gradient", |loss, _, _| Ok(loss.f_detach()?)),
        ("token mask is 0 or 1 for every token", |loss, _, _| Ok(loss.shallow_clone())),
    ];
    let names = broken.map(|(broken, _)| broken);
    expect_each_broken(PMIM_PROPERTIES.iter().map(|(name, _)| *name), &names);
    for (expected, loss) in broken {
        let scale = if expected.starts_with("token mask") { 0.5 } else { 1.0 };
        match check_pmim_regularizer(&BrokenPixels(loss, scale), FEW, test_device()) {
            Err(found) => assert_eq!(found.property, expected, "{found}"),
            Ok(()) => panic!("no counterexample for a component that breaks {expected:?}"),
        }
    }
}

/// The example of docs/property-testing.md.
#[test]
fn counterexample_of_bi_mask_by_index_is_small() {
    let by_index = Broken {
        sparsity: |state, _| survival_by_rank(state.alpha, state.active),
        lambda: |lambda| lambda,
    };
    let Err(found) = check_bi_mask(&by_index, FEW, test_device()) else {
        panic!("no counterexample for a bi-mask that ignores ranks");
    };
    // A few units and one candidate are enough for a rank that differs from the index.
    let one_candidate = found.case.contains("alpha: [[0.0]]");
    // V, which is wrong, does not depend on λ.
    let simple = ["lambda: 0.0", "lambda: 1.0"].iter().any(|own| found.case.contains(own));
    let scores = found.case.split("score: ").nth(1).and_then(|rest| rest.split(", alpha").next());
    let units = scores.map_or(0, |scores| scores.split(',').count());
    assert!(one_candidate && simple && (2..=4).contains(&units), "{found}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn dimensions_bind_variables_of_their_sizes(dimension in dimensions("d")) {
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
    fn vit_configs_are_valid_and_budgets_within_their_space((config, budget) in vit_configs().prop_flat_map(|config| {
        let budgets = budgets(&config).unwrap_or_else(|error| panic!("{error}"));
        (Just(config), budgets)
    })) {
        prop_assert!(config.check().is_ok());
        let (space, model) = (config.space()?.removable_branches(), config.cost_model());
        prop_assert!(budget.check(&model, &space).is_ok(), "{:?}", budget);
    }

    #[test]
    fn schedules_are_between_their_ends(
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
