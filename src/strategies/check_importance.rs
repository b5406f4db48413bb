//! Properties of an importance component.

use super::importance_cases::{importance_cases, without_ties, Arguments, ImportanceCase};
use super::runner::{
    expect_close, expect_finite, expect_true, failed, run, Counterexample, Verdict,
};
use crate::components::{ComponentId, Importance};
use crate::tensors::to_host;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// A property of an importance in one case.
pub type ImportanceProperty = fn(&dyn Importance, &ImportanceCase, Device) -> Verdict;

/// All properties, with their names.
pub const IMPORTANCE_PROPERTIES: &[(&str, ImportanceProperty)] = &[
    ("id is equal after a round trip through JSON", id_survives_json),
    ("scores are finite f32, one per unit, on the device of the weights", has_a_score_per_unit),
    ("scores keep no autograd graph", keeps_no_graph),
    ("weights, scores, gates and gradients are unchanged", leaves_arguments_unchanged),
    ("scores depend on arguments and libtorch's generator only", has_no_hidden_state),
    ("variables of masked image modeling are not read", ignores_pmim_variables),
    ("permuting units permutes the scores", follows_permutations),
];

/// Checks all properties of [`IMPORTANCE_PROPERTIES`] on `cases` random inputs each. Reseeds
/// libtorch's generator.
///
/// The last property is checked where the scores are deterministic: an importance that draws random
/// numbers passes it.
///
/// # Errors
/// The smallest counterexample found, of the first property that does not hold.
pub fn check_importance(
    importance: &dyn Importance,
    cases: u32,
    device: Device,
) -> Result<(), Counterexample> {
    for (name, property) in IMPORTANCE_PROPERTIES {
        run(name, cases, importance_cases(), |case| property(importance, &case, device))?;
    }
    Ok(())
}

/// Names of the two results of an importance.
const NAMES: [&str; 2] = ["initial score", "updated score"];

/// Numbers of the initial and the updated scores of a case.
fn numbers(
    importance: &dyn Importance,
    case: &ImportanceCase,
    seed: i64,
    device: Device,
) -> Result<Vec<Vec<f64>>, TestCaseError> {
    let compute = || {
        let scores = Arguments::new(case, device)?.scores(importance, &case.dimension, seed)?;
        scores.iter().map(to_host).collect::<crate::Result<Vec<_>>>()
    };
    compute().map_err(failed)
}

fn expect_same(what: &str, actual: &[Vec<f64>], expected: &[Vec<f64>]) -> Verdict {
    expect_true(actual.len() == expected.len(), || format!("{what}: one result more or less"))?;
    for ((name, actual), expected) in NAMES.iter().zip(actual).zip(expected) {
        expect_close(&format!("{name} {what}"), actual, expected, |_| 0.0)?;
    }
    Ok(())
}

/// A checkpoint stores the id as JSON; a search resumes only with an equal one. NaN and infinite
/// parameters become null, and a parameter `name` collides with the name of the component.
pub fn id_survives_json(importance: &dyn Importance, _: &ImportanceCase, _: Device) -> Verdict {
    importance.check().map_err(failed)?;
    let id = importance.id();
    let read = serde_json::to_string(&id)
        .and_then(|text| serde_json::from_str::<ComponentId>(&text))
        .map_err(|error| TestCaseError::fail(format!("id {id}: {error}")))?;
    for (name, value) in &id.parameters {
        let reason = || format!("parameter {name} of the id: got null, expected a finite number");
        expect_true(!value.is_null(), reason)?;
    }
    expect_true(read == id, || format!("id: got {read} from JSON, expected {id}"))
}

/// Initial and updated scores are finite, f32, `[heads, channels]`, on the device of the weights.
pub fn has_a_score_per_unit(
    importance: &dyn Importance,
    case: &ImportanceCase,
    device: Device,
) -> Verdict {
    let arguments = Arguments::new(case, device).map_err(failed)?;
    let scores = arguments.scores(importance, &case.dimension, 1).map_err(failed)?;
    let expected = case.dimension.candidates.unit_shape();
    for (name, score) in NAMES.iter().zip(&scores) {
        let (shape, kind) = (score.size(), score.kind());
        expect_true(shape == expected, || {
            format!("shape of the {name}s: got {shape:?}, expected {expected:?}")
        })?;
        expect_true(kind == Kind::Float, || format!("{name}s: got {kind:?}, expected Float"))?;
        let (actual, expected) = (score.device(), arguments.score.device());
        expect_true(actual == expected, || {
            format!("device of the {name}s: got {actual:?}, expected {expected:?}")
        })?;
        expect_finite(name, &to_host(score).map_err(failed)?)?;
    }
    Ok(())
}

/// The scores are no function of the weights to autograd: a graph would stay in memory until the
/// next step.
pub fn keeps_no_graph(
    importance: &dyn Importance,
    case: &ImportanceCase,
    device: Device,
) -> Verdict {
    let arguments = Arguments::new(case, device).map_err(failed)?;
    let scores = arguments.scores(importance, &case.dimension, 1).map_err(failed)?;
    for (name, score) in NAMES.iter().zip(&scores) {
        let is_leaf = score.f_is_leaf().map_err(failed)?;
        expect_true(is_leaf, || format!("{name}s: got a node of an autograd graph"))?;
    }
    Ok(())
}

/// Neither `initial` nor `update` writes into its arguments: they are the tensors of the search.
pub fn leaves_arguments_unchanged(
    importance: &dyn Importance,
    case: &ImportanceCase,
    device: Device,
) -> Verdict {
    let compute = || {
        let arguments = Arguments::new(case, device)?;
        let before = arguments.numbers()?;
        arguments.scores(importance, &case.dimension, 1)?;
        Ok::<_, crate::Error>((before, arguments.numbers()?))
    };
    let (before, after) = compute().map_err(failed)?;
    expect_close("argument", &after, &before, |_| 0.0)
}

/// The same arguments and the same state of libtorch's generator give the same scores, whatever
/// was computed before: a resumed search has no other state.
pub fn has_no_hidden_state(
    importance: &dyn Importance,
    case: &ImportanceCase,
    device: Device,
) -> Verdict {
    let first = numbers(importance, case, 1, device)?;
    let mut other = case.clone();
    [&mut other.weight, &mut other.bias, &mut other.out_weight, &mut other.score]
        .into_iter()
        .for_each(|values| values.mapv_inplace(|x| 1.0 - x));
    numbers(importance, &other, 2, device)?;
    expect_same("of a second call", &numbers(importance, case, 1, device)?, &first)
}

/// Mask token and decoder (`pmim.*`) are among the weights during the search and absent without
/// masked image modeling; they say nothing about a unit.
pub fn ignores_pmim_variables(
    importance: &dyn Importance,
    case: &ImportanceCase,
    device: Device,
) -> Verdict {
    let without = numbers(importance, case, 1, device)?;
    let compute = || {
        let mut arguments = Arguments::new(case, device)?;
        let units = case.dimension.candidates.units();
        for (name, shape) in
            [("pmim.mask_token", vec![1, 1, units]), ("pmim.decoder.weight", vec![4, units])]
        {
            let values = Tensor::f_full(shape, f64::NAN, (Kind::Float, device))?;
            arguments.weights.insert(name.into(), values);
        }
        let scores = arguments.scores(importance, &case.dimension, 1)?;
        scores.iter().map(to_host).collect::<crate::Result<Vec<_>>>()
    };
    expect_same("beside pmim variables", &compute().map_err(failed)?, &without)
}

/// Heads in reverse order, and channels in reverse order, give the scores in that order. Holds for
/// scores without randomness; others pass.
pub fn follows_permutations(
    importance: &dyn Importance,
    case: &ImportanceCase,
    device: Device,
) -> Verdict {
    let case = &without_ties(case);
    let found = numbers(importance, case, 1, device)?;
    if numbers(importance, case, 2, device)? != found {
        return Ok(()); // The scores are drawn at random.
    }
    let (heads, channels) = case.score.dim();
    let orders: [&dyn Fn(usize, usize) -> usize; 2] =
        [&|head, channel| (heads - 1 - head) * channels + channel, &|head, channel| {
            head * channels + channels - 1 - channel
        }];
    for order in orders {
        let from: Vec<usize> =
            (0..heads * channels).map(|unit| order(unit / channels, unit % channels)).collect();
        let permuted = numbers(importance, &case.permuted(&from), 1, device)?;
        for ((name, actual), scores) in NAMES.iter().zip(&permuted).zip(&found) {
            let expected: Vec<f64> = from.iter().map(|&unit| scores[unit]).collect();
            expect_close(&format!("permuted {name}"), actual, &expected, |e| {
                1e-3 * (1.0 + e.abs())
            })?;
        }
    }
    Ok(())
}
