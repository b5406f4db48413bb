//! Bi-masks, one-hot losses and expected sizes of several dimensions at once: those of each alone.

mod support;

use once_for_both::components::{
    AdaptiveOneHotLoss, BiMask, EntropyVarianceLoss, RankedBiMask, UnitState,
};
use once_for_both::space::{ActiveSet, ActiveSets, Candidates, DimensionKind};
use support::{gradients, leaf, test_device, TestResult, Tolerance};
use tch::{Kind, Tensor};

const CLOSE: Tolerance = Tolerance { relative: 1e-5, absolute: 1e-6 };

/// A dimension's scores and α, leaves of the autograd graph, and what else its bi-mask depends on.
struct Own {
    score: Tensor,
    alpha: Tensor,
    active: ActiveSet,
    pruned_importance: Option<Tensor>,
    kind: DimensionKind,
}

impl Own {
    fn state(&self) -> UnitState<'_> {
        UnitState {
            score: &self.score,
            alpha: &self.alpha,
            active: &self.active,
            pruned_importance: self.pruned_importance.as_ref(),
        }
    }
}

/// Dimensions of all shapes: heads and one head, many and few candidates, some dropped, one decided.
fn dimensions() -> TestResult<Vec<Own>> {
    let candidates = [
        (Candidates::flat(12, vec![3, 6, 12])?, DimensionKind::Embedding),
        (Candidates::attention(4, 16)?, DimensionKind::Attention),
        (Candidates::flat(40, vec![10, 20, 30, 40])?, DimensionKind::Hidden),
        (Candidates::attention(2, 8)?, DimensionKind::Attention),
        (Candidates::flat(5, vec![5])?, DimensionKind::Hidden),
    ];
    once_for_both::randomness::seed(5);
    let device = test_device();
    let numbers = |shape: [i64; 2]| leaf(&Tensor::randn(shape, (Kind::Float, device)));
    let own = candidates.into_iter().enumerate().map(|(at, (candidates, kind))| {
        let flags = (0..candidates.len()).map(|own| own % 3 != 1).collect();
        let heads = candidates.heads();
        let pruned = (at == 1).then(|| Tensor::rand([heads], (Kind::Float, device)) * 5);
        Ok(Own {
            score: numbers(candidates.unit_shape()),
            alpha: numbers(candidates.shape()),
            active: ActiveSet::new(&candidates, flags, device)?,
            pruned_importance: pruned,
            kind,
        })
    });
    own.collect()
}

fn sets(all: &[Own]) -> TestResult<ActiveSets> {
    let active: Vec<&ActiveSet> = all.iter().map(|own| &own.active).collect();
    Ok(ActiveSets::new(&active, test_device())?)
}

#[test]
fn bi_masks_of_several_dimensions_equal_that_of_each_with_their_gradients() -> TestResult {
    let all = dimensions()?;
    let states: Vec<UnitState> = all.iter().map(Own::state).collect();
    let together = RankedBiMask.masks(&states, &sets(&all)?, 0.4)?;
    for (own, found) in all.iter().zip(&together) {
        let alone = RankedBiMask.mask(own.state(), 0.4)?;
        CLOSE.check("importance", &found.importance, &alone.importance)?;
        CLOSE.check("sparsity", &found.sparsity, &alone.sparsity)?;
        CLOSE.check("mask", &found.mask, &alone.mask)?;
        let leaves = [&own.score, &own.alpha];
        let found = gradients(&found.mask.square().sum(Kind::Float), &leaves)?;
        let alone = gradients(&alone.mask.square().sum(Kind::Float), &leaves)?;
        CLOSE.check("gradient of score", &found[0], &alone[0])?;
        CLOSE.check("gradient of alpha", &found[1], &alone[1])?;
    }
    Ok(())
}

#[test]
fn one_hot_losses_of_several_dimensions_are_the_sums_over_each() -> TestResult {
    let (all, loss) = (dimensions()?, EntropyVarianceLoss::paper());
    let alphas: Vec<&Tensor> = all.iter().map(|own| &own.alpha).collect();
    let together = loss.alpha_losses(&alphas, &sets(&all)?)?;
    let alone = all.iter().map(|own| loss.alpha_loss(&own.alpha, &own.active));
    let alone: Tensor = alone.collect::<Result<Vec<_>, _>>()?.iter().sum();
    CLOSE.check("loss of alpha", &together, &alone)?;
    let (found, expected) = (gradients(&together, &alphas)?, gradients(&alone, &alphas)?);
    for (found, expected) in found.iter().zip(&expected) {
        CLOSE.check("gradient of alpha", found, expected)?;
    }
    let importance: Vec<_> = all.iter().map(|own| (own.kind, &own.score)).collect();
    let alone = importance.iter().map(|(kind, own)| loss.importance_loss(*kind, own));
    let alone: Tensor = alone.collect::<Result<Vec<_>, _>>()?.iter().sum();
    CLOSE.check("loss of importance", &loss.importance_losses(&importance)?, &alone)
}

#[test]
fn active_sets_are_of_the_same_flags_and_candidates_alone() -> TestResult {
    let all = dimensions()?;
    let sets = sets(&all)?;
    let mut active: Vec<&ActiveSet> = all.iter().map(|own| &own.active).collect();
    assert!(sets.are_of(&active));
    let everything = ActiveSet::all(active[0].candidates(), test_device())?;
    active[0] = &everything;
    assert!(!sets.are_of(&active));
    assert!(!sets.are_of(&active[1..]));
    Ok(())
}
