use super::*;
use crate::cost::projection::Choice;
use crate::cost::CostLimit;
use crate::models::{Architecture, SwinConfig, VitConfig};
use crate::space::{DimensionKind, SearchSpace};

type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

/// Dimensions of a space, coupled as MACs and parameters of a network couple them.
fn coupled<A: Architecture>(network: &A, space: &SearchSpace) -> Result<Coupled> {
    with_problem(network, space, Coupled::of)
}

fn choice(count: usize) -> Choice {
    Choice { candidates: (0..count).collect(), log_probability: vec![0.0; count] }
}

fn with_problem<A: Architecture, T>(
    network: &A,
    space: &SearchSpace,
    used: impl Fn(&Problem) -> Result<T>,
) -> Result<T> {
    let choices: Vec<Choice> =
        space.dimensions.iter().map(|own| choice(own.candidates.len())).collect();
    let (model, budgets) = (network.cost_model(), [CostLimit::macs(1.0), CostLimit::params(1.0)]);
    used(&Problem { model: &model, space, choices: &choices, budgets: &budgets })
}

/// Returns the most keys after a step of the order.
fn most_keys<A: Architecture>(network: &A, space: &SearchSpace) -> Result<usize> {
    let (own, order) = (coupled(network, space)?, with_problem(network, space, decision_order)?);
    let keys = (1..=order.len()).map(|count| {
        let (decided, open) = order.split_at(count);
        let live = decided.iter().filter(|&&at| open.iter().any(|&other| own.coupled[at][other]));
        live.fold(1, |keys: usize, &at| keys.saturating_mul(own.candidates[at]))
    });
    Ok(keys.max().unwrap_or(1))
}

#[test]
fn order_with_queries_and_keys_apart_has_few_keys() -> TestResult {
    for vit in [VitConfig::deit_tiny(), VitConfig::deit_small(), VitConfig::deit_base()] {
        let vit = vit.qk_v_apart()?;
        let space = vit.space()?;
        let mut spaces = vec![space.clone(), space.clone().removable_branches()];
        for factor in [16, 32] {
            spaces.push(space.clone().multiple_of(DimensionKind::Attention, factor)?);
        }
        for space in &spaces {
            assert!(most_keys(&vit, space)? <= 400, "{vit:?}");
        }
    }
    for swin in [SwinConfig::tiny(), SwinConfig::small()] {
        let swin = swin.qk_v_apart()?;
        for space in [swin.space()?, swin.space()?.removable_branches()] {
            assert!(most_keys(&swin, &space)? <= 400, "{swin:?}");
        }
    }
    Ok(())
}

/// Checks that the order is the greedy one without a given first dimension.
fn expect_greedy<A: Architecture>(network: &A, space: &SearchSpace) -> TestResult {
    let greedy = coupled(network, space)?.greedy(None, usize::MAX).ok_or("no order")?;
    assert_eq!(with_problem(network, space, decision_order)?, greedy.dimensions);
    Ok(())
}

#[test]
fn order_with_joint_queries_keys_and_values_is_greedy() -> TestResult {
    for vit in [VitConfig::deit_tiny(), VitConfig::deit_small(), VitConfig::deit_base()] {
        expect_greedy(&vit, &vit.space()?)?;
        expect_greedy(&vit, &vit.space()?.removable_branches())?;
        expect_greedy(&vit, &vit.space()?.multiple_of(DimensionKind::Attention, 32)?)?;
    }
    for swin in [SwinConfig::tiny(), SwinConfig::small(), SwinConfig::base()] {
        expect_greedy(&swin, &swin.space()?)?;
        expect_greedy(&swin, &swin.space()?.removable_branches())?;
    }
    Ok(())
}

#[test]
fn decided_dimensions_come_first_and_are_left_out_of_the_search() -> TestResult {
    let vit = VitConfig::uniform(192, 48, 3).qk_v_apart()?;
    let space = vit.space()?;
    // All but the embedding and two blocks are decided.
    let is_open = |name: &str| {
        !name.contains("blocks.")
            || ["blocks.7.", "blocks.30."].iter().any(|own| name.contains(own))
    };
    let choices: Vec<Choice> = space
        .dimensions
        .iter()
        .map(|own| choice(if is_open(&own.name) { own.candidates.len() } else { 1 }))
        .collect();
    let (model, budgets) = (vit.cost_model(), [CostLimit::macs(1.0), CostLimit::params(1.0)]);
    let problem = Problem { model: &model, space: &space, choices: &choices, budgets: &budgets };
    let (own, order) = (Coupled::of(&problem)?, decision_order(&problem)?);
    let decided = choices.len() - own.open.len();
    assert!(decided > 100 && own.open.len() > 4, "{decided} of {}", choices.len());
    assert!(order[..decided].iter().all(|&at| choices[at].candidates.len() == 1));
    assert!(own.open.iter().all(|open| order[decided..].contains(open)));
    // The keys are those of the couplings of all dimensions.
    let all = coupled(&vit, &space)?;
    let keys = (1..=order.len()).map(|count| {
        let (before, after) = order.split_at(count);
        let live = before.iter().filter(|&&at| after.iter().any(|&other| all.coupled[at][other]));
        live.fold(1, |keys: usize, &at| keys.saturating_mul(own.candidates[at]))
    });
    assert!(keys.max() <= Some(400));
    Ok(())
}
