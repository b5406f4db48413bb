//! Costs made of tables: exact, expected with gradients, and in the projection.

use crate::assert_refused;
use crate::device::{measured, milliseconds, vit, SyntheticDevice};
use crate::support::little::{little, sizes};
use crate::support::{test_device, TestResult};
use once_for_both::cost::{
    project, Choice, CostLimit, CostModel, ExpectedCost, Grid, Metric, Table, TableCost, TableTerm,
};
use once_for_both::error::LatencyError;
use once_for_both::latency::LatencyModel;
use once_for_both::prelude::*;
use once_for_both::space::{ActiveSet, ActiveSets};
use once_for_both::Error;
use tch::{Kind, Tensor};

fn grid(heads: &[i64], channels: &[i64]) -> Grid {
    Grid { heads: heads.to_vec(), channels: channels.to_vec() }
}

fn term(table: usize, dimensions: &[&str]) -> TableTerm {
    let dimensions = dimensions.iter().map(|own| (*own).to_owned()).collect();
    TableTerm { table, dimensions }
}

/// Tables of e × a and e × h of `little`, with steps.
fn tabled() -> TestResult<(SearchSpace, CostModel, Vec<ActiveSet>)> {
    let (space, model, active) = little()?;
    let attention = Table {
        grids: vec![grid(&[1], &[2, 4]), grid(&[1, 2], &[1, 2])],
        values: vec![1.0, 1.5, 2.0, 3.25, 1.5, 2.0, 3.0, 5.5],
    };
    let hidden = Table {
        grids: vec![grid(&[1], &[2, 4]), grid(&[1], &[1, 2, 8])],
        values: vec![0.5, 0.5, 2.0, 1.0, 1.0, 4.5],
    };
    let terms = vec![term(0, &["e", "a"]), term(1, &["e", "h"])];
    let latency = TableCost::new(0.25, vec![attention, hidden], terms)?;
    Ok((space, CostModel { latency: Some(latency), ..model }, active))
}

#[test]
fn table_between_points_is_multilinear_and_beyond_them_constant() -> TestResult {
    let (_, model, _) = tabled()?;
    let at = |e: i64, heads: i64, channels: i64, h: i64| {
        let own =
            sizes(&[("e", Size::flat(e)), ("a", Size { heads, channels }), ("h", Size::flat(h))]);
        model.cost(Metric::Latency, &own)
    };
    assert_eq!(at(2, 1, 1, 1)?, 0.25 + 1.0 + 0.5);
    assert_eq!(at(4, 2, 2, 8)?, 0.25 + 5.5 + 4.5);
    assert_eq!(at(3, 2, 1, 5)?, 0.25 + 2.5 + (1.25 + 2.75) / 2.0);
    assert_eq!(at(9, 2, 2, 20)?, at(4, 2, 2, 8)?);
    assert_eq!(model.dense_cost(Metric::Latency)?, 0.25 + 5.5 + 4.5);
    Ok(())
}

#[test]
fn projection_under_latency_and_macs_equals_enumeration() -> TestResult {
    let (space, model, _) = tabled()?;
    let log_p: Vec<Vec<f64>> =
        vec![vec![-1.0, -0.4], vec![-3.0, -0.7, -1.1, -2.0], vec![-0.3, -1.7, -2.5]];
    let choices = space
        .dimensions
        .iter()
        .zip(&log_p)
        .map(|(dimension, own)| Choice::new(&dimension.name, (0..own.len()).collect(), own));
    let choices: Vec<Choice> = choices.collect::<Result<_, Error>>()?;
    for tenth in 20..105 {
        let ms = f64::from(tenth) / 10.0;
        for macs in [1e9, 60.0] {
            let limits = [CostLimit::latency(ms), CostLimit::macs(macs)];
            let found = project(&model, &space, &choices, &limits)?;
            assert!(found.costs[0] <= ms && found.costs[1] <= macs);
            let best = best_within(&space, &model, &log_p, &limits)?;
            assert!((found.log_probability - best).abs() < 1e-9, "{found:?}, best {best}");
        }
    }
    Ok(())
}

/// Largest Σ ln p of the choices within the limits.
fn best_within(
    space: &SearchSpace,
    model: &CostModel,
    log_p: &[Vec<f64>],
    limits: &[CostLimit],
) -> TestResult<f64> {
    let mut best = f64::NEG_INFINITY;
    for e in 0..log_p[0].len() {
        for a in 0..log_p[1].len() {
            for h in 0..log_p[2].len() {
                if fits(space, model, limits, &[e, a, h])? {
                    best = best.max(log_p[0][e] + log_p[1][a] + log_p[2][h]);
                }
            }
        }
    }
    Ok(best)
}

/// Returns whether a choice is within all limits.
fn fits(
    space: &SearchSpace,
    model: &CostModel,
    limits: &[CostLimit],
    choice: &[usize],
) -> TestResult<bool> {
    let own = space.dimensions.iter().zip(choice);
    let sizes: Sizes = own
        .map(|(dimension, &at)| (dimension.name.clone(), dimension.candidates.size(at)))
        .collect();
    let mut within = true;
    for limit in limits {
        within &= model.cost(limit.metric, &sizes)? <= limit.limit;
    }
    Ok(within)
}

#[test]
fn expected_latency_of_one_candidate_is_the_exact_latency() -> TestResult {
    let (space, model, active) = tabled()?;
    let expected = ExpectedCost::new(&model, &space, &[Metric::Latency], test_device())?;
    for e in 0..2 {
        for (a, h) in (0..4).zip([0, 1, 2, 1]) {
            let chosen = [e, a, h];
            let alpha = |(at, own): (usize, &ActiveSet)| {
                let mut values = vec![-200.0_f32; own.flags().len()];
                values[chosen[at]] = 0.0;
                Tensor::from_slice(&values).to_device(test_device())
            };
            let shapes = space.dimensions.iter().map(|own| own.candidates.shape());
            let alphas: Vec<Tensor> = active
                .iter()
                .enumerate()
                .map(alpha)
                .zip(shapes)
                .map(|(own, shape)| own.view(shape))
                .collect();
            let sets = ActiveSets::new(&active.iter().collect::<Vec<_>>(), test_device())?;
            let cost = expected.costs(&alphas.iter().collect::<Vec<_>>(), &sets)?;
            let own = space.dimensions.iter().zip(chosen);
            let sizes: Sizes = own.map(|(d, at)| (d.name.clone(), d.candidates.size(at))).collect();
            let exact = model.cost(Metric::Latency, &sizes)?;
            assert!((f64::try_from(&cost[0])? - exact).abs() < 1e-5);
        }
    }
    Ok(())
}

#[test]
fn expected_latency_gradient_equals_finite_differences() -> TestResult {
    let (space, model, active) = tabled()?;
    let expected = ExpectedCost::new(&model, &space, &[Metric::Latency], test_device())?;
    let sets = ActiveSets::new(&active.iter().collect::<Vec<_>>(), test_device())?;
    let start: Vec<Tensor> = space
        .dimensions
        .iter()
        .enumerate()
        .map(|(at, own)| {
            let shape = own.candidates.shape();
            let count = (shape[0] * shape[1]) as f64;
            let own = Tensor::arange(count, (Kind::Float, test_device())).view(shape) * 0.3;
            own + 0.1 * at as f64
        })
        .collect();
    let cost = |alphas: &[Tensor]| -> TestResult<Tensor> {
        Ok(expected.costs(&alphas.iter().collect::<Vec<_>>(), &sets)?.remove(0))
    };
    let leaves: Vec<Tensor> = start.iter().map(|own| own.copy().set_requires_grad(true)).collect();
    cost(&leaves)?.backward();
    for (at, leaf) in leaves.iter().enumerate() {
        for entry in 0..leaf.numel() as i64 {
            let moved = |by: f64| -> TestResult<f64> {
                let own: Vec<Tensor> = start.iter().map(Tensor::copy).collect();
                let mut flat = own[at].view(-1).get(entry);
                let _ = flat.f_add_scalar_(by)?;
                Ok(f64::try_from(cost(&own)?)?)
            };
            let slope = (moved(1e-2)? - moved(-1e-2)?) / 2e-2;
            let gradient = leaf.grad().view(-1).double_value(&[entry]);
            assert!((slope - gradient).abs() < 2e-3, "{at} {entry}: {slope} {gradient}");
        }
    }
    Ok(())
}

#[test]
fn latency_of_a_cost_model_without_one_is_refused() -> TestResult {
    let (space, model, _) = little()?;
    let refused = model.dense_cost(Metric::Latency);
    assert_refused!(refused, Error::Latency(LatencyError::NotMeasured));
    let refused = ExpectedCost::new(&model, &space, &[Metric::Latency], test_device());
    assert_refused!(refused, Error::Latency(LatencyError::NotMeasured));
    Ok(())
}

#[test]
fn table_cost_with_wrong_points_values_or_terms_is_refused() {
    let table = |points: &[i64], values: &[f64]| Table {
        grids: vec![grid(&[1], points)],
        values: values.to_vec(),
    };
    let sound = || table(&[1, 2], &[1.0, 2.0]);
    for (constant, table, own) in [
        (0.0, table(&[2, 1], &[1.0, 2.0]), term(0, &["e"])),
        (0.0, table(&[], &[]), term(0, &["e"])),
        (0.0, table(&[1, 2], &[1.0]), term(0, &["e"])),
        (0.0, table(&[1], &[f64::NAN]), term(0, &["e"])),
        (f64::INFINITY, sound(), term(0, &["e"])),
        (0.0, sound(), term(1, &["e"])),
        (0.0, sound(), term(0, &["e", "a"])),
    ] {
        assert_refused!(TableCost::new(constant, vec![table], vec![own]), Error::Invalid { .. });
    }
    let square = Table { grids: vec![grid(&[1], &[1]); 2], values: vec![1.0] };
    let twice = TableCost::new(0.0, vec![square], vec![term(0, &["e", "e"])]);
    assert_refused!(twice, Error::Invalid { .. });
}

/// A model of a device on which every network but the dense one takes `slower` times as long as its sizes promise, its
/// space, and the relative error of its prediction for the smallest network.
fn disturbed(slower: f64) -> TestResult<(LatencyModel, SearchSpace, f64)> {
    let device = SyntheticDevice { slower, ..SyntheticDevice::quiet() };
    let (model, vit) = (measured(&device)?, vit());
    let space = vit.space()?;
    let smallest = space.dimensions.iter().map(|own| (own.name.clone(), own.candidates.size(0)));
    let smallest: Sizes = smallest.collect();
    let taken = slower * milliseconds(&vit.resized(&smallest)?) / milliseconds(&vit);
    assert!(taken < 0.5, "{taken}");
    let error = model.predict(&smallest)? / model.dense_ms / taken - 1.0;
    Ok((model, space, error))
}

#[test]
fn dense_network_faster_than_its_sizes_promise_leaves_the_prediction_of_a_small_one() -> TestResult
{
    let (model, space, error) = disturbed(1.04)?;
    assert!(error.abs() < 0.02, "{error}");
    // A network a little smaller than the dense one is no faster in the model.
    let (mut little_smaller, embedding) = (space.full_sizes(), &space.dimensions[0]);
    let candidates = &embedding.candidates;
    little_smaller.insert(embedding.name.clone(), candidates.size(candidates.len() - 2));
    assert!(model.predict(&little_smaller)? <= model.predict(&space.full_sizes())?);
    Ok(())
}

#[test]
fn dense_network_slower_than_its_sizes_promise_leaves_the_prediction_of_a_small_one() -> TestResult
{
    let (model, space, error) = disturbed(0.96)?;
    assert!(error.abs() < 0.02, "{error}");
    assert!((model.predict(&space.full_sizes())? / model.dense_ms - 1.0).abs() < 1e-3);
    Ok(())
}
