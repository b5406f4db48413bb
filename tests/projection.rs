//! Projection onto budgets, and the range of costs, compared with enumerating every choice.

mod support;

use once_for_both::cost::{
    project, project_close, Budget, Choice, CostLimit, CostModel, Metric, Polynomial, Projection,
};
use once_for_both::models::{Architecture, SwinConfig, VitConfig};
use once_for_both::space::{
    ActiveSet, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::{Error, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use support::little::{little, units};
use support::{in_words, softmax, test_device, TestResult};

/// One dimension of a random space.
#[derive(Debug, Clone)]
struct Part {
    kind: DimensionKind,
    candidates: Candidates,
    active: Vec<bool>,
    log_probability: Vec<f64>,
    /// For each metric, the coefficients of units × embedding, units, units², heads,
    /// units × units of the preceding dimension, and embedding × branch.
    weights: [[i64; 6]; 2],
}

fn parts() -> impl Strategy<Value = Part> {
    let candidates = |most: i64| subsequence((1..=most).collect::<Vec<_>>(), 1..=most as usize);
    let kind = prop_oneof![
        Just(DimensionKind::Embedding),
        Just(DimensionKind::Attention),
        Just(DimensionKind::Hidden),
    ];
    (kind, candidates(2), candidates(3), any::<bool>()).prop_flat_map(
        |(kind, counts, widths, removable)| {
            let candidates = match kind {
                DimensionKind::Attention => Candidates::grid(2, 3, counts, widths),
                DimensionKind::Embedding | DimensionKind::Hidden => Candidates::flat(3, widths),
            };
            let candidates = candidates.unwrap_or_else(|error| panic!("{error}"));
            let candidates = match removable && kind != DimensionKind::Embedding {
                true => candidates.with_removal(),
                false => candidates,
            };
            let count = candidates.len();
            let flags = (0..count, vec(any::<bool>(), count)).prop_map(|(one, mut flags)| {
                flags[one] = true;
                flags
            });
            // Multiples of 1/4, so that equally probable candidates are common.
            let alpha = vec((-6..6).prop_map(|n| f64::from(n) / 4.0), count);
            let weights = || [0..4i64, 1..4i64, 0..2i64, 0..7i64, 0..2i64, 0..5i64];
            (Just(kind), Just(candidates), flags, alpha, [weights(), weights()]).prop_map(
                |(kind, candidates, active, alpha, weights)| {
                    let p = softmax(&alpha, &active);
                    let log_probability = p.iter().map(|p| p.ln()).collect();
                    Part { kind, candidates, active, log_probability, weights }
                },
            )
        },
    )
}

/// A random space with its cost model and choices.
struct Toy {
    space: SearchSpace,
    model: CostModel,
    choices: Vec<Choice>,
}

impl Toy {
    fn new(parts: &[Part]) -> TestResult<Self> {
        let name = |at: usize| format!("d{at}");
        let shared: Vec<usize> =
            (0..parts.len()).filter(|&at| parts[at].kind == DimensionKind::Embedding).collect();
        let mut costs = [Polynomial::from(1), Polynomial::from(2)];
        let mut choices = Vec::new();
        let mut space = SearchSpace::empty();
        for (at, part) in parts.iter().enumerate() {
            // Terms multiply a dimension with one embedding (ViT), with itself, and with the
            // preceding dimension (a chain of convolutions).
            let embedding = match shared.len() {
                0 => Polynomial::from(1),
                count => units(&name(shared[at % count])),
            };
            for (cost, weights) in costs.iter_mut().zip(part.weights) {
                let own = || units(&name(at));
                *cost += own() * embedding.clone() * weights[0] + own() * weights[1];
                *cost += own() * own() * weights[2] + Polynomial::heads(&name(at)) * weights[3];
                let before = at.checked_sub(1).map_or(Polynomial::from(1), |at| units(&name(at)));
                *cost += own() * before * weights[4];
                *cost += embedding.clone() * Polynomial::branch(&name(at)) * weights[5];
            }
            let active = ActiveSet::new(&part.candidates, part.active.clone(), test_device())?;
            choices.push(Choice::new(
                &name(at),
                active.numbers().collect(),
                &part.log_probability,
            )?);
            space.dimensions.push(Dimension::new(name(at), part.kind, part.candidates.clone()));
        }
        let [macs, params] = costs;
        let model = CostModel::new(macs, params, space.full_sizes());
        Ok(Self { space, model, choices })
    }

    fn sizes(&self, candidates: &[usize]) -> Sizes {
        let pairs = self.space.dimensions.iter().zip(candidates);
        pairs.map(|(d, &candidate)| (d.name.clone(), d.candidates.size(candidate))).collect()
    }

    fn costs(&self, budgets: &[CostLimit], candidates: &[usize]) -> Result<Vec<f64>> {
        let sizes = self.sizes(candidates);
        budgets.iter().map(|budget| self.model.cost(budget.metric, &sizes)).collect()
    }

    fn log_probability(&self, candidates: &[usize]) -> f64 {
        let value = |(choice, candidate): (&Choice, &usize)| {
            let at = choice.candidates.iter().position(|own| own == candidate);
            at.map_or(f64::NAN, |at| choice.log_probability[at])
        };
        self.choices.iter().zip(candidates).map(value).sum()
    }

    /// Every choice of one active candidate per dimension.
    fn every_choice(&self) -> Vec<Vec<usize>> {
        self.choices.iter().fold(vec![Vec::new()], |partial, choice| {
            let longer = |candidates: Vec<usize>| {
                choice
                    .candidates
                    .iter()
                    .map(move |&candidate| [candidates.clone(), vec![candidate]].concat())
            };
            partial.into_iter().flat_map(longer).collect()
        })
    }

    /// Largest Σ ln p of the choices within all budgets that use this share of one of them; 1 − share
    /// doubles until there is such a choice.
    fn slow_projection(&self, budgets: &[CostLimit], mut used: f64) -> Result<Option<f64>> {
        let mut fitting = Vec::new();
        for candidates in self.every_choice() {
            let costs = self.costs(budgets, &candidates)?;
            if costs.iter().zip(budgets).all(|(cost, budget)| *cost <= budget.limit) {
                fitting.push((costs, self.log_probability(&candidates)));
            }
        }
        while !fitting.is_empty() {
            let uses = |costs: &[f64]| {
                costs.iter().zip(budgets).any(|(cost, budget)| *cost >= used * budget.limit)
            };
            let near = fitting.iter().filter(|(costs, _)| uses(costs));
            let best = near.map(|(_, value)| *value).max_by(f64::total_cmp);
            if best.is_some() {
                return Ok(best);
            }
            used = 1.0 - 2.0 * (1.0 - used);
        }
        Ok(None)
    }

    fn project(&self, budgets: &[CostLimit], used: f64) -> Result<Projection> {
        let project = if used > 0.0 { project_close } else { project };
        project(&self.model, &self.space, &self.choices, budgets)
    }
}

fn toys() -> impl Strategy<Value = Vec<Part>> {
    vec(parts(), 1..5)
}

/// One or two limits as shares of the dense costs, from below the least cost to above the dense
/// cost.
fn limits() -> impl Strategy<Value = (f64, Option<f64>)> {
    (0.05..1.2, prop::option::of(0.05..1.2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn projection_of_a_random_space_equals_the_best_of_all_choices(
        parts in toys(),
        (macs, params) in limits(),
        used in prop::sample::select(vec![0.0, 0.98]),
    ) {
        let toy = in_words(Toy::new(&parts))?;
        let mut budgets = vec![CostLimit::macs(macs * toy.model.dense_cost(Metric::Macs)?)];
        if let Some(params) = params {
            budgets.push(CostLimit::params(params * toy.model.dense_cost(Metric::Params)?));
        }
        match (toy.project(&budgets, used), toy.slow_projection(&budgets, used)?) {
            (Ok(found), Some(best)) => {
                for (candidate, choice) in found.candidates.iter().zip(&toy.choices) {
                    let active = choice.candidates.contains(candidate);
                    prop_assert!(active, "candidate {} is not active", candidate);
                }
                prop_assert_eq!(&found.costs, &toy.costs(&budgets, &found.candidates)?);
                for (cost, budget) in found.costs.iter().zip(&budgets) {
                    prop_assert!(*cost <= budget.limit, "{} exceeds {:?}", cost, budget);
                }
                let value = toy.log_probability(&found.candidates);
                prop_assert!((found.log_probability - value).abs() < 1e-9);
                prop_assert!((value - best).abs() < 1e-9, "found {}, best {}", value, best);
            }
            (Err(Error::Infeasible { .. } | Error::Conflicting { .. }), None) => {}
            (found, best) => prop_assert!(false, "found {:?}, best {:?}", found, best),
        }
    }

    #[test]
    fn cost_range_of_a_random_space_equals_that_of_all_choices(parts in toys()) {
        let toy = in_words(Toy::new(&parts))?;
        let pairs = toy.space.dimensions.iter().zip(&toy.choices);
        let candidates: Vec<Vec<Size>> = pairs
            .map(|(d, choice)| {
                choice.candidates.iter().map(|&candidate| d.candidates.size(candidate)).collect()
            })
            .collect();
        for metric in [Metric::Macs, Metric::Params] {
            let budget = [CostLimit { metric, limit: 0.0 }];
            let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
            for candidates in toy.every_choice() {
                let cost = toy.costs(&budget, &candidates)?[0];
                (least, most) = (least.min(cost), most.max(cost));
            }
            let range = toy.model.range(metric, &toy.space, &candidates)?;
            prop_assert_eq!(range, (least, most));
        }
    }
}

/// One choice per dimension with the given ln p.
fn choices(active: &[ActiveSet], log_probability: [&[f64]; 3]) -> Result<Vec<Choice>> {
    let choice = |(set, p): (&ActiveSet, _)| Choice::new("toy", set.numbers().collect(), p);
    active.iter().zip(log_probability).map(choice).collect()
}

const EVEN: [&[f64]; 3] = [&[0.0; 2], &[0.0; 4], &[0.0; 3]];

#[test]
fn projection_of_a_small_space_is_the_choice_worked_out_by_hand() -> TestResult {
    let (space, model, active) = little()?;
    // The most probable choice, e = 4, a = 2 × 2, h = 8, costs 2·16 + 3·32 + 5 = 133.
    let likely: [&[f64]; 3] = [&[-3.0, -0.1], &[-5.0, -4.0, -3.0, -0.1], &[-2.0, -1.0, -0.5]];
    let choices = choices(&active, likely)?;
    let found = project(&model, &space, &choices, &[CostLimit::macs(133.0)])?;
    assert_eq!((found.candidates, found.costs), (vec![1, 3, 2], vec![133.0]));
    // e = 4, a = 2 × 2, h = 2 costs 2·16 + 3·8 + 5 = 61.
    let found = project(&model, &space, &choices, &[CostLimit::macs(62.0)])?;
    assert_eq!((found.candidates, found.costs), (vec![1, 3, 1], vec![61.0]));
    assert!((found.log_probability + 1.2).abs() < 1e-12);
    // Only the smallest choice is within its own cost.
    let least = 2.0 * 2.0 + 3.0 * 2.0 + 5.0;
    let found = project(&model, &space, &choices, &[CostLimit::macs(least)])?;
    assert_eq!(found.candidates, [0, 0, 0]);
    // Two budgets hold together.
    let both = [CostLimit::macs(62.0), CostLimit::params(6.0)];
    let found = project(&model, &space, &choices, &both)?;
    assert!(found.costs[0] <= 62.0 && found.costs[1] <= 6.0, "{found:?}");
    Ok(())
}

/// With ln p of −0.1, the smallest of three candidates is the most probable, and the largest is −9.
#[test]
fn projection_close_to_a_budget_is_less_probable_than_projection_within_it() -> TestResult {
    let (space, model, active) = little()?;
    let likely: [&[f64]; 3] = [&[-0.1, -3.0], &[-0.1, -2.0, -2.5, -3.0], &[-0.1, -5.0, -9.0]];
    let choices = choices(&active, likely)?;
    let limit = [CostLimit::macs(62.0)];
    let within = project(&model, &space, &choices, &limit)?;
    assert_eq!((within.candidates, within.costs), (vec![0, 0, 0], vec![15.0]));
    let close = project_close(&model, &space, &choices, &limit)?;
    assert_eq!((close.candidates, close.costs), (vec![1, 3, 1], vec![61.0]));
    Ok(())
}

#[test]
fn projection_with_equal_costs_is_the_most_probable_choice() -> TestResult {
    let (space, mut model, active) = little()?;
    let likely: [&[f64]; 3] = [&[-3.0, -0.1], &[-5.0, -4.0, -3.0, -0.1], &[-2.0, -1.0, -0.5]];
    let choices = choices(&active, likely)?;
    for (cost, limit) in [(0, 0.0), (0, 7.0), (7, 7.0), (7, 8.0)] {
        model.params = Polynomial::from(cost);
        let found = project(&model, &space, &choices, &[CostLimit::params(limit)])?;
        assert_eq!(found.candidates, [1, 3, 2], "{cost} within {limit}");
    }
    Ok(())
}

/// Candidate 1 × 8 has fewer heads, 2 × 3 has fewer units (6 instead of 8). If a head costs 10, the
/// first is cheaper at embedding 1 (18 against 26), the second at embedding 10 (80 against 90).
#[test]
fn cost_range_with_heads_traded_for_channels_compares_costs() -> TestResult {
    let candidates =
        [Candidates::flat(10, vec![1, 10])?, Candidates::grid(2, 8, vec![1, 2], vec![3, 8])?];
    let flags = [vec![true, true], vec![false, true, true, false]];
    let [e, a] = [("e", DimensionKind::Embedding, 0), ("a", DimensionKind::Attention, 1)]
        .map(|(name, kind, at)| Dimension::new(name, kind, candidates[at].clone()));
    let space = SearchSpace { dimensions: vec![e, a] };
    let cost = units("e") * units("a") + Polynomial::heads("a") * 10;
    let model = CostModel::new(cost.clone(), cost, space.full_sizes());
    let grids = [Size { heads: 1, channels: 8 }, Size { heads: 2, channels: 3 }];
    let sizes = [vec![Size::flat(1), Size::flat(10)], grids.to_vec()];
    assert_eq!(model.range(Metric::Params, &space, &sizes)?, (18.0, 90.0));

    let mut choices = Vec::new();
    for (candidates, flags) in candidates.iter().zip(flags) {
        let even = vec![0.0; candidates.len()];
        let active = ActiveSet::new(candidates, flags, test_device())?;
        choices.push(Choice::new("toy", active.numbers().collect(), &even)?);
    }
    for (limit, cost, candidates) in [(20.0, 18.0, [0, 1]), (85.0, 80.0, [1, 2])] {
        let found = project_close(&model, &space, &choices, &[CostLimit::params(limit)])?;
        assert_eq!((found.candidates, found.costs), (candidates.to_vec(), vec![cost]));
    }
    Ok(())
}

#[test]
fn projection_without_a_valid_choice_is_refused() -> TestResult {
    let (space, model, active) = little()?;
    let choices = choices(&active, EVEN)?;
    assert_refused!(
        project(&model, &space, &choices, &[CostLimit::macs(14.0)]),
        Error::Infeasible { budget, least, most, .. }
            if (budget, least, most) == (14.0, 15.0, 133.0)
    );
    // Feasible in MACs, infeasible in parameters.
    let both = [CostLimit::macs(133.0), CostLimit::params(3.0)];
    assert_refused!(
        project(&model, &space, &choices, &both),
        Error::Infeasible { metric: "parameters", .. }
    );
    assert_refused!(project(&model, &space, &choices, &[]), Error::Invalid { .. });
    for limit in [f64::NAN, f64::INFINITY] {
        let refused = project(&model, &space, &choices, &[CostLimit::params(limit)]);
        assert_refused!(refused, Error::Invalid { .. });
    }
    // Each budget alone is feasible, both together are not: 1 × 8 has 1 head and 8 units, 2 × 3 has
    // 2 heads and 6 units.
    let candidates = Candidates::grid(2, 8, vec![1, 2], vec![3, 8])?;
    let space_of_one =
        SearchSpace { dimensions: vec![Dimension::new("a", DimensionKind::Attention, candidates)] };
    let costs = CostModel::new(units("a"), Polynomial::heads("a"), space_of_one.full_sizes());
    let either = vec![Choice { candidates: vec![1, 2], log_probability: vec![0.0; 2] }];
    let both = [CostLimit::macs(6.0), CostLimit::params(1.0)];
    assert_refused!(
        project(&costs, &space_of_one, &either, &both),
        Error::Conflicting { budgets } if budgets == "6 MACs and 1 parameters"
    );
    let unknown = vec![Choice { candidates: vec![4], log_probability: vec![0.0] }];
    assert_refused!(
        project(&costs, &space_of_one, &unknown, &[CostLimit::macs(9.0)]),
        Error::Invalid { name, .. } if name == "candidate of a"
    );
    let nan = vec![Choice { candidates: vec![1, 2], log_probability: vec![0.0, f64::NAN] }];
    assert_refused!(
        project(&costs, &space_of_one, &nan, &[CostLimit::macs(9.0)]),
        Error::NonFinite { dimension, .. } if dimension == "a"
    );
    let nothing = Choice { candidates: Vec::new(), log_probability: Vec::new() };
    let [e, a, _] = [0, 1, 2].map(|at: usize| choices[at].clone());
    for wrong in [vec![e.clone(), a.clone()], vec![e, a, nothing]] {
        let refused = project(&model, &space, &wrong, &[CostLimit::params(9.0)]);
        assert_refused!(refused, Error::Invalid { .. });
    }
    assert_refused!(
        Choice::new("a", vec![0, 1], &[0.0, f64::NAN, 0.0, 0.0]),
        Error::NonFinite { ref dimension, .. } if dimension == "a"
    );
    assert_refused!(
        Choice::new("a", vec![0, 4], &[0.0; 4]),
        Error::Invalid { ref name, .. } if name == "candidate of a"
    );
    Ok(())
}

#[test]
fn projection_of_a_cost_that_multiplies_all_dimension_pairs_is_refused() -> TestResult {
    let name = |at: usize| format!("d{at}");
    let (mut space, mut cost) = (SearchSpace::empty(), Polynomial::from(0));
    for at in 0..12 {
        let candidates = Candidates::flat(8, (1..=8).collect())?;
        space.dimensions.push(Dimension::new(name(at), DimensionKind::Hidden, candidates));
        (0..at).for_each(|other| cost += units(&name(at)) * units(&name(other)));
    }
    let model = CostModel::new(cost.clone(), cost, space.full_sizes());
    let choice = Choice { candidates: (0..8).collect(), log_probability: vec![-1.0; 8] };
    let budget = Budget::share(Metric::Macs, 0.5).resolve(&model)?;
    assert_refused!(
        project(&model, &space, &vec![choice; 12], &[budget]),
        Error::Invalid { name, expected, actual } if name == "search space"
            && actual.starts_with("8589934592 of d0 × d1") && expected.contains("SearchSpace::only")
    );
    Ok(())
}

/// DeiT-S and Swin-T with random p: the cost is within the budget and at least 0.98 of it, and of DeiT-S the choice is
/// the best. Both have more distinct costs than projection can follow exactly.
#[test]
fn projection_of_deit_small_and_swin_tiny_is_close_to_the_budget_and_the_best_of_deit_small(
) -> TestResult {
    let vit = VitConfig::deit_small();
    let (space, model) = (vit.space()?, vit.cost_model());
    let (choices, budget, found) = project_at_random(&space, &model)?;
    let most = most_probable(&space, &model, &choices, budget)?;
    let value = found.log_probability;
    assert!((value - most).abs() < 1e-9, "ln p {value}, expected {most}");

    // So it is with the dimensions reversed, and with the embedding last.
    let mut order: Vec<usize> = (0..space.dimensions.len()).rev().collect();
    for _ in 0..2 {
        let dimensions = order.iter().map(|&at| space.dimensions[at].clone()).collect();
        let shuffled: Vec<Choice> = order.iter().map(|&at| choices[at].clone()).collect();
        let again = project_close(&model, &SearchSpace { dimensions }, &shuffled, &[budget])?;
        assert!(again.costs[0] <= budget.limit && (again.log_probability - most).abs() < 1e-9);
        for (&at, &candidate) in order.iter().zip(&again.candidates) {
            assert!(choices[at].candidates.contains(&candidate));
        }
        order.sort_by_key(|&at| (space.dimensions[at].name == "embed", at % 7, at));
    }

    let swin = SwinConfig::tiny();
    project_at_random(&swin.space()?, &swin.cost_model()).map(drop)
}

/// Highest Σ ln p of the choices for a DeiT within a budget of MACs that use at least 0.98 of it.
///
/// At a fixed embedding its cost is linear in the channels of all attentions together and in the hidden neurons of all
/// MLPs together, so the best choice is among the best ones for each of these two sums.
fn most_probable(
    space: &SearchSpace,
    model: &CostModel,
    choices: &[Choice],
    budget: CostLimit,
) -> TestResult<f64> {
    let attentions = best_by_sum(space, choices, DimensionKind::Attention);
    let hidden = best_by_sum(space, choices, DimensionKind::Hidden);
    let embed = space.dimensions.iter().position(|d| d.name == "embed").ok_or("embed")?;
    let mut most = f64::NEG_INFINITY;
    for (&width, log_p) in choices[embed].candidates.iter().zip(&choices[embed].log_probability) {
        let mut sizes = space.full_sizes();
        sizes.insert("embed".into(), space.dimensions[embed].candidates.size(width));
        let dense = model.cost(Metric::Macs, &sizes)?;
        // MACs saved by one channel, or neuron, less in one block.
        let saved = |name: &str| -> TestResult<f64> {
            let (mut less, full) = (sizes.clone(), sizes[name]);
            less.insert(name.into(), Size { channels: full.channels / 2, ..full });
            let units = full.units() - less[name].units();
            Ok((dense - model.cost(Metric::Macs, &less)?) / units as f64)
        };
        let (channel, neuron) = (saved("blocks.0.attn")?, saved("blocks.0.mlp")?);
        let [all_channels, all_neurons] =
            [&attentions, &hidden].map(|sums| *sums.keys().next_back().unwrap_or(&0));
        for (channels, of_attentions) in &attentions {
            for (neurons, of_hidden) in &hidden {
                let less = channel * (all_channels - channels) as f64
                    + neuron * (all_neurons - neurons) as f64;
                if (0.98 * budget.limit..=budget.limit).contains(&(dense - less)) {
                    most = most.max(log_p + of_attentions + of_hidden);
                }
            }
        }
    }
    Ok(most)
}

/// Highest Σ ln p over the dimensions of a kind, by the sum of their units.
fn best_by_sum(space: &SearchSpace, choices: &[Choice], kind: DimensionKind) -> BTreeMap<i64, f64> {
    let mut best = BTreeMap::from([(0, 0.0)]);
    for (dimension, choice) in space.dimensions.iter().zip(choices).filter(|own| own.0.kind == kind)
    {
        let mut next: BTreeMap<i64, f64> = BTreeMap::new();
        for (sum, value) in &best {
            for (&candidate, log_p) in choice.candidates.iter().zip(&choice.log_probability) {
                let units = sum + dimension.candidates.size(candidate).units();
                let most = next.entry(units).or_insert(f64::NEG_INFINITY);
                *most = most.max(value + log_p);
            }
        }
        best = next;
    }
    best
}

fn project_at_random(
    space: &SearchSpace,
    model: &CostModel,
) -> TestResult<(Vec<Choice>, CostLimit, Projection)> {
    let mut runner = TestRunner::deterministic();
    let mut choices = Vec::new();
    for dimension in &space.dimensions {
        let count = dimension.candidates.len();
        let alpha =
            vec(0.0..2.0, count).new_tree(&mut runner).map_err(|e| e.to_string())?.current();
        let p = softmax(&alpha, &vec![true; count]);
        let candidates = (0..count).collect();
        choices.push(Choice { candidates, log_probability: p.iter().map(|p| p.ln()).collect() });
    }
    let budget = Budget::share(Metric::Macs, 0.5).resolve(model)?;
    let found = project_close(model, space, &choices, &[budget])?;
    assert!(found.costs[0] <= budget.limit, "{} of {}", found.costs[0], budget.limit);
    assert!(found.costs[0] >= 0.98 * budget.limit, "{} of {}", found.costs[0], budget.limit);
    Ok((choices, budget, found))
}
