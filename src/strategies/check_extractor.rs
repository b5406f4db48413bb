//! Properties of a subnet extractor.

use super::architectures::budgets;
use super::dimension_units::{alphas, scores};
use super::runner::{drawing, expect_true, failed, run_once, Counterexample, Verdict};
use crate::cost::{project_close, Choice, CostLimit};
use crate::models::Architecture;
use crate::randomness::{seed_torch, Purpose};
use crate::space::{Size, Sizes};
use crate::subnet::{extract_decided, verify, Subnet, SubnetExtractor};
use crate::supernet::Supernet;
use crate::tensors::{to_host, Weights};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tch::{Device, Tensor};

/// What a decided supernet is made of: its sizes are the most probable ones under the budget.
#[derive(Debug, Clone)]
pub struct ExtractorCase {
    /// Budget that the sizes are decided under.
    pub budget: CostLimit,
    /// Scores of every dimension, one per unit.
    pub scores: Vec<Vec<f64>>,
    /// Candidate logits α of every dimension, one per candidate.
    pub alphas: Vec<Vec<f64>>,
    /// λ of the gates, in [0, 0.5].
    pub lambda: f64,
    /// Seed of the random weights.
    pub seed: u64,
}

/// A property of an extractor on one decided supernet; the tensor is a batch of images.
pub type ExtractorProperty<A, B> =
    fn(&dyn SubnetExtractor<A, B>, &Supernet<A>, &ExtractorCase, &Tensor) -> Verdict;

/// Returns all properties, with their names.
pub fn extractor_properties<A: Architecture, B: Architecture>(
) -> [(&'static str, ExtractorProperty<A, B>); 5] {
    [
        ("subnet has the decided sizes", has_decided_sizes),
        ("subnet costs no more than the budget", keeps_the_budget),
        ("subnet computes the logits of the masked network", passes_verification),
        ("extraction leaves the supernet unchanged", leaves_the_supernet_unchanged),
        ("second extraction gives an equal subnet", is_repeatable),
    ]
}

/// Checks all properties of [`extractor_properties`] on `cases` random decided supernets each, of
/// one small architecture. Reseeds libtorch's generator.
///
/// # Shapes
/// `images`: a few images that the architecture takes, `[B, C, H, W]`; their device is used.
///
/// # Errors
/// The smallest counterexample found, of the first property that does not hold.
pub fn check_extractor<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    architecture: &A,
    images: &Tensor,
    cases: u32,
) -> Result<(), Counterexample> {
    for (name, property) in extractor_properties::<A, B>() {
        let strategy = match extractor_cases(architecture) {
            Ok(strategy) => strategy,
            Err(error) => return Err(Counterexample::without_case(name, &error)),
        };
        run_once(name, cases, &strategy, &|case: ExtractorCase| {
            let supernet =
                decided_supernet(architecture, &case, images.device()).map_err(failed)?;
            property(extractor, &supernet, &case, images)
        })?;
    }
    Ok(())
}

/// Scores, α, λ and a budget for the default search space of `architecture` with
/// [removable branches](crate::space::SearchSpace::removable_branches). Shrinks to the
/// smallest budget, equal scores and equal α.
///
/// # Errors
/// Those of [`Architecture::space`].
pub fn extractor_cases<A: Architecture>(
    architecture: &A,
) -> crate::Result<impl Strategy<Value = ExtractorCase>> {
    let space = architecture.space()?.removable_branches();
    let candidates = || space.dimensions.iter().map(|dimension| &dimension.candidates);
    let all_scores: Vec<_> = candidates().map(|c| scores(c.units() as usize)).collect();
    let all_alphas: Vec<_> = candidates().map(|c| alphas(c.len())).collect();
    let parts = (budgets(architecture)?, all_scores, all_alphas, 0.0..=0.5, any::<u64>());
    Ok(parts.prop_map(|(budget, scores, alphas, lambda, seed)| ExtractorCase {
        budget,
        scores,
        alphas,
        lambda,
        seed,
    }))
}

/// Returns a supernet with random weights whose dimensions are decided and pruned, at its gates.
///
/// # Errors
/// Those of building and narrowing the supernet.
pub fn decided_supernet<A: Architecture>(
    architecture: &A,
    case: &ExtractorCase,
    device: Device,
) -> crate::Result<Supernet<A>> {
    let mut supernet = random_supernet(architecture, case.seed, device)?;
    let mut choices = Vec::new();
    let numbers = case.scores.iter().zip(&case.alphas);
    for (state, (scores, alphas)) in supernet.states_mut().iter_mut().zip(numbers) {
        let (score, alpha) = (like(scores, &state.score)?, like(alphas, &state.alpha)?);
        state.set_score(&score)?;
        state.set_alpha(&alpha)?;
        choices.push(Choice::new(&state.name, (0..alphas.len()).collect(), alphas)?);
    }
    let (model, space) = (supernet.cost_model(), supernet.space());
    let decided = project_close(model, space, &choices, &[case.budget])?.candidates;
    for (state, candidate) in supernet.states_mut().iter_mut().zip(decided) {
        let candidates = state.candidates().len();
        state.set_active((0..candidates).map(|other| other == candidate).collect())?;
    }
    let states = supernet.states().iter().enumerate();
    let sizes: Vec<(usize, Size)> = states.map(|(at, s)| (at, s.active.largest())).collect();
    supernet.narrow(&sizes)?;
    crate::autograd::no_grad(|| {
        let masks = supernet.masks(case.lambda)?;
        supernet.materialise(&masks.into_iter().map(|mask| mask.mask).collect::<Vec<_>>())
    })?;
    Ok(supernet)
}

/// A supernet whose trained variables are all random: biases that start at 0 and norms that start
/// at 1 would hide a missing gate.
fn random_supernet<A: Architecture>(
    architecture: &A,
    seed: u64,
    device: Device,
) -> crate::Result<Supernet<A>> {
    drawing(|| {
        seed_torch(seed, 0, Purpose::Check);
        let space = architecture.space()?.removable_branches();
        let supernet = Supernet::new(architecture.clone(), space, false, device)?;
        crate::autograd::no_grad(|| {
            for mut parameter in supernet.parameters() {
                let noise = parameter.value.f_randn_like()?.f_mul_scalar(0.1)?;
                let _ = parameter.value.f_add_(&noise)?;
            }
            Ok::<(), crate::Error>(())
        })?;
        Ok(supernet)
    })
}

fn like(values: &[f64], tensor: &Tensor) -> crate::Result<Tensor> {
    let values = Tensor::f_from_slice(values)?.f_to_kind(tensor.kind())?;
    Ok(values.f_view_as(tensor)?.f_to_device(tensor.device())?)
}

/// Every dimension of the supernet has its decided size in the subnet, or is no dimension of it: because its branch was
/// removed, with queries and keys if they are apart, or because the extractor is into another family, whose dense network
/// has no dimension of the name either.
pub fn has_decided_sizes<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    supernet: &Supernet<A>,
    _: &ExtractorCase,
    _: &Tensor,
) -> Verdict {
    let subnet = extract_decided(extractor, supernet).map_err(failed)?;
    let actual = subnet.architecture().space().map_err(failed)?.full_sizes();
    let mut dense: Option<Sizes> = None;
    for (name, expected) in supernet.sizes() {
        let right = match actual.get(&name) {
            Some(actual) => *actual == expected,
            None if expected.is_removed() || has_vanished(supernet, &name) => true,
            None if A::FAMILY == B::FAMILY => false,
            None => {
                if dense.is_none() {
                    dense = Some(dense_sizes(extractor, supernet).map_err(failed)?);
                }
                dense.as_ref().is_some_and(|dense| !dense.contains_key(&name))
            }
        };
        expect_true(right, || {
            let actual = actual.get(&name).map_or("no such dimension".into(), Size::to_string);
            format!("size of {name} in the subnet: got {actual}, expected {expected}")
        })?;
    }
    Ok(())
}

/// Whether no variable is left that is bound to a dimension, such as that of the queries and keys of a removed attention.
fn has_vanished<A: Architecture>(supernet: &Supernet<A>, name: &str) -> bool {
    let weights = supernet.raw_weights();
    let own = supernet.space().dimensions.iter().find(|own| own.name == name);
    own.is_some_and(|own| own.bindings.iter().all(|bound| !weights.contains_key(&bound.variable)))
}

/// Returns the sizes of all dimensions of the network that is extracted where nothing is pruned.
fn dense_sizes<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    supernet: &Supernet<A>,
) -> crate::Result<Sizes> {
    let architecture = match supernet.architecture().resized(&supernet.cost_model().dense) {
        Err(crate::Error::Unsupported { .. }) => supernet.architecture().clone(),
        resized => resized?,
    };
    let space = architecture.space()?;
    let mut dense = drawing(|| Supernet::new(architecture, space, false, supernet.device()))?;
    for state in dense.states_mut() {
        let full = state.candidates().full();
        let flags: Vec<bool> = state.candidates().sizes().map(|size| size == full).collect();
        state.set_active(flags)?;
    }
    crate::autograd::no_grad(|| {
        let masks = dense.masks(0.0)?;
        dense.materialise(&masks.into_iter().map(|mask| mask.mask).collect::<Vec<_>>())
    })?;
    Ok(extract_decided(extractor, &dense)?.architecture().space()?.full_sizes())
}

/// The dense cost of the subnet's own cost model is at most the budget.
pub fn keeps_the_budget<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    supernet: &Supernet<A>,
    case: &ExtractorCase,
    _: &Tensor,
) -> Verdict {
    let CostLimit { metric, limit } = case.budget;
    let subnet = extract_decided(extractor, supernet).map_err(failed)?;
    let cost = subnet.architecture().cost_model().dense_cost(metric).map_err(failed)?;
    let name = metric.name();
    expect_true(cost <= limit, || format!("{name} of the subnet: got {cost}, expected ≤ {limit}"))
}

/// [`verify`] passes on the images and on random ones.
pub fn passes_verification<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    supernet: &Supernet<A>,
    _: &ExtractorCase,
    images: &Tensor,
) -> Verdict {
    let subnet = extract_decided(extractor, supernet).map_err(failed)?;
    verify(supernet, &subnet, images).map(drop).map_err(failed)
}

/// Weights before and after their gates, scores, α and sizes are bit for bit the same after an
/// extraction.
pub fn leaves_the_supernet_unchanged<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    supernet: &Supernet<A>,
    _: &ExtractorCase,
    _: &Tensor,
) -> Verdict {
    let before = supernet_numbers(supernet).map_err(failed)?;
    extract_decided(extractor, supernet).map_err(failed)?;
    expect_same_tensors("after extraction", &before, &supernet_numbers(supernet).map_err(failed)?)
}

/// Two extractions of one supernet give the same weights, bit for bit.
pub fn is_repeatable<A: Architecture, B: Architecture>(
    extractor: &dyn SubnetExtractor<A, B>,
    supernet: &Supernet<A>,
    _: &ExtractorCase,
    _: &Tensor,
) -> Verdict {
    let extract = || -> crate::Result<Numbers> {
        let subnet: Subnet<B> = extract_decided(extractor, supernet)?;
        numbers("weight", subnet.weights())
    };
    let (first, second) = (extract().map_err(failed)?, extract().map_err(failed)?);
    expect_same_tensors("of the second extraction", &first, &second)
}

/// Numbers of tensors, by name.
type Numbers = BTreeMap<String, Vec<f64>>;

fn numbers(prefix: &str, tensors: &Weights) -> crate::Result<Numbers> {
    let named = tensors.iter().map(|(name, t)| Ok((format!("{prefix} {name}"), to_host(t)?)));
    named.collect()
}

/// θ, θ ⊙ gates, scores and α of a supernet.
fn supernet_numbers<A: Architecture>(supernet: &Supernet<A>) -> crate::Result<Numbers> {
    let mut all = numbers("θ of", &supernet.raw_weights())?;
    all.extend(numbers("θ ⊙ gate of", &supernet.folded_weights())?);
    for state in supernet.states() {
        all.insert(state.score_name(), to_host(&state.score)?);
        all.insert(state.alpha_name(), to_host(&state.alpha)?);
    }
    Ok(all)
}

fn expect_same_tensors(when: &str, expected: &Numbers, actual: &Numbers) -> Verdict {
    expect_true(expected.keys().eq(actual.keys()), || format!("other tensors {when}"))?;
    for (name, values) in expected {
        expect_true(*values == actual[name], || format!("{name} changed {when}"))?;
    }
    Ok(())
}
