//! Decisions by the estimated rise of the loss.

mod support;

use once_for_both::batch::Batch;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, Mlp, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::search::{Decisions, Event, Search, SearchOptions};
use once_for_both::space::Size;
use once_for_both::supernet::Weights;
use support::tiny_run::{alone, batch, builder, run, search_with, vit};
use support::{numbers, test_device, TestResult};

const STEPS: u64 = 26;
const SEARCH: u64 = 20;

fn options() -> SearchOptions {
    SearchOptions::new(STEPS, SEARCH).seed(3).with(|options| options.log_interval = 1)
}

fn sizes(search: &Search<VitConfig>) -> Vec<Size> {
    search.supernet().states().iter().map(|state| state.candidates().full()).collect()
}

fn expect_equal(left: &Weights, right: &Weights) -> TestResult {
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (name, weight) in left {
        assert_eq!(numbers(weight)?, numbers(&right[name])?, "{name}");
    }
    Ok(())
}

#[test]
fn search_by_estimated_losses_falls_in_rounds_and_ends_within_the_budget() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.5)?;
    let dense = search.supernet().cost_model().dense_cost(Metric::Macs)?;
    let events = run(&mut search, STEPS)?;
    let pruned: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Pruned(pruned) => Some(pruned.macs / dense),
            _ => None,
        })
        .collect();
    assert!(pruned.len() > 3, "units are pruned in several rounds: {pruned:?}");
    assert!(pruned.windows(2).all(|pair| pair[1] <= pair[0]), "{pruned:?}");
    assert!(pruned[0] > 0.55, "the first round is not the last: {pruned:?}");
    let model = search.supernet().cost_model();
    let share = model.cost(Metric::Macs, &search.supernet().sizes())? / dense;
    assert!((0.45..=0.5).contains(&share), "{share}");
    Ok(())
}

#[test]
fn estimated_alpha_is_minus_a_loss_and_moves_at_prune_steps_only() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.5)?;
    run(&mut search, 2)?;
    let alphas = |search: &Search<_>| -> TestResult<Vec<Vec<f64>>> {
        search.supernet().states().iter().map(|state| numbers(&state.alpha)).collect()
    };
    let at_prune_step = alphas(&search)?;
    for (state, alpha) in search.supernet().states().iter().zip(&at_prune_step) {
        assert_eq!(alpha.last(), Some(&0.0), "pruning nothing of {} costs nothing", state.name);
        assert!(alpha.iter().all(|value| *value <= 0.0), "{}: {alpha:?}", state.name);
        assert!(alpha.iter().any(|value| *value < 0.0), "{}: {alpha:?}", state.name);
    }
    run(&mut search, 3)?;
    assert_eq!(alphas(&search)?, at_prune_step);
    Ok(())
}

#[test]
fn embedding_loss_counts_the_layers_that_read_it() -> TestResult {
    let _alone = alone();
    // The embedding of the first batch alone: α = −½·B·(Σ θ·∂L/∂θ over readers)², at the prune step.
    let mut search = search_with(options().with(|o| o.pruning.interval = 1), 0.5)?;
    let batches = [batch(0)?];
    let gradients = search.gradients(&batches)?.parameters()?;
    let weights = search.supernet().raw_weights();
    let mut effect = vec![0.0; 32];
    for name in
        ["blocks.0.attn.qkv", "blocks.0.mlp.fc1", "blocks.1.attn.qkv", "blocks.1.mlp.fc1", "head"]
    {
        let name = format!("{name}.weight");
        let product = weights[&name].f_mul(&gradients[&name])?;
        let columns = numbers(&product.f_sum_dim_intlist([0i64].as_slice(), false, None)?)?;
        effect.iter_mut().zip(columns).for_each(|(sum, column)| *sum += column);
    }
    search.step(&batches, &mut ())?;
    // The least important units by the scores after the step, which decide.
    let state = &search.supernet().states()[0];
    let kept: Vec<f64> = numbers(&state.kept_units(Size::flat(16))?)?;
    let pruned = (0..32).filter(|unit| !kept.contains(&f64::from(*unit)));
    let sum: f64 = pruned.map(|unit| effect[unit as usize]).sum();
    let narrowest = numbers(&state.alpha)?[0];
    let expected = -0.5 * 6.0 * sum * sum;
    assert!((narrowest - expected).abs() <= 1e-3 * expected.abs(), "{narrowest} {expected}");
    Ok(())
}

/// θ·∂L/∂θ of every variable, by name.
struct Products(Weights);

impl Products {
    fn of<A: Architecture>(search: &Search<A>, batches: &[Batch]) -> TestResult<Self> {
        let gradients = search.gradients(batches)?.parameters()?;
        let own = search.supernet().raw_weights().into_iter().filter_map(|(name, theta)| {
            let product = gradients.get(&name).map(|own| theta.f_mul(own));
            product.map(|own| Ok((name, own?)))
        });
        Ok(Self(own.collect::<TestResult<_>>()?))
    }

    /// Sums over the inputs of the first `units` rows of a layer, and its bias.
    fn rows(&self, layer: &str, units: i64) -> TestResult<Vec<f64>> {
        let [weight, bias] = ["weight", "bias"].map(|kind| &self.0[&format!("{layer}.{kind}")]);
        let weight = weight.f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
        numbers(&weight.f_add(bias)?.f_view([-1])?.f_narrow(0, 0, units)?)
    }

    /// Sums over the outputs of the columns of a layer.
    fn columns(&self, layer: &str) -> TestResult<Vec<f64>> {
        let weight = &self.0[&format!("{layer}.weight")];
        numbers(&weight.f_sum_dim_intlist([0i64].as_slice(), false, None)?)
    }
}

/// Checks α of the narrowest candidate of a dimension, with all of its heads, against effects computed by hand.
fn expect_effects(
    vit: VitConfig,
    dimension: &str,
    by_hand: impl Fn(&Products) -> TestResult<Vec<f64>>,
) -> TestResult {
    let options = options().with(|o| {
        o.pruning.interval = 1;
        o.pruning.hidden_factor = 1.0;
    });
    let builder = Search::of(vit).budget(Budget::macs_share(0.5)).options(options);
    let mut search = builder.device(test_device()).build()?;
    let batches = [batch(0)?];
    let effects = by_hand(&Products::of(&search, &batches)?)?;
    search.step(&batches, &mut ())?;
    let states = search.supernet().states().iter();
    let state = states.clone().find(|own| own.name == dimension).ok_or("no such dimension")?;
    let (heads, sizes) = (state.candidates().heads(), state.candidates().sizes());
    let (at, size) = sizes.enumerate().find(|(_, own)| own.heads == heads).ok_or("no size")?;
    let kept: Vec<f64> = numbers(&state.kept_units(size)?)?;
    let pruned = (0..effects.len()).filter(|&unit| !kept.contains(&(unit as f64)));
    let sum: f64 = pruned.map(|unit| effects[unit]).sum();
    let (found, expected) = (numbers(&state.alpha)?[at], -0.5 * 6.0 * sum * sum);
    assert!((found - expected).abs() <= 1e-3 * expected.abs(), "{dimension}: {found} {expected}");
    Ok(())
}

/// The effect of a channel is that of its value, which the output projection reads, and that of the product of query and
/// key, once, however many of its factors the gate multiplies.
#[test]
fn effect_of_a_channel_is_that_of_its_value_and_of_its_product_of_query_and_key() -> TestResult {
    let _alone = alone();
    let values = |own: &Products| own.columns("blocks.0.attn.proj");
    expect_effects(vit(), "blocks.0.attn", |own| {
        let products = own.rows("blocks.0.attn.qkv", 32)?;
        Ok(products.iter().zip(values(own)?).map(|(product, value)| product + value).collect())
    })?;
    let apart = vit().qk_v_apart()?;
    expect_effects(apart.clone(), "blocks.0.attn", values)?;
    expect_effects(apart, "blocks.0.attn.qk", |own| {
        // Channel j of all four heads.
        let products = own.rows("blocks.0.attn.qk", 32)?;
        Ok((0..8).map(|j| products.iter().skip(j).step_by(8).sum()).collect())
    })
}

#[test]
fn effect_of_a_hidden_neuron_is_that_of_its_output() -> TestResult {
    let _alone = alone();
    let output = |own: &Products| own.columns("blocks.0.mlp.fc2");
    expect_effects(vit(), "blocks.0.mlp", output)?;
    // The output SiLU(g)·v is linear in v, whose rows come second: both ways to compute the effect agree.
    let gated = VitConfig { mlp: Mlp::SwiGlu, ..vit() };
    expect_effects(gated.clone(), "blocks.0.mlp", output)?;
    expect_effects(gated, "blocks.0.mlp", |own| {
        let hidden = own.columns("blocks.0.mlp.fc2")?.len();
        Ok(own.rows("blocks.0.mlp.fc1", 2 * hidden as i64)?.split_off(hidden))
    })
}

#[test]
fn estimated_search_that_resumes_between_rounds_is_the_undisturbed_one() -> TestResult {
    let _alone = alone();
    let mut undisturbed = search_with(options(), 0.5)?;
    run(&mut undisturbed, STEPS)?;
    for stop in [1, 5, 11] {
        let folder = tempfile::tempdir()?;
        let mut source = |number: u64| -> once_for_both::Result<Batch> {
            batch(number).map_err(|error| once_for_both::Error::Device {
                device: "of the test".into(),
                reason: error.to_string(),
            })
        };
        let mut begun = search_with(options(), 0.5)?;
        begun.run_in(folder.path())?.checkpoint_every(1).train_until(stop, &mut source)?;
        let mut resumed = builder(options(), 0.5).build_or_resume(folder.path())?.search;
        assert_eq!(resumed.steps_done(), stop);
        run(&mut resumed, STEPS)?;
        assert_eq!(sizes(&resumed), sizes(&undisturbed), "stopped after step {stop}");
        expect_equal(&resumed.supernet().raw_weights(), &undisturbed.supernet().raw_weights())?;
    }
    Ok(())
}

#[test]
fn estimated_search_keeps_the_budgets_of_its_branches_feasible() -> TestResult {
    let _alone = alone();
    let wide = Budget::macs_share(0.8);
    let options = options().with(|options| {
        options.budget.keep_feasible = vec![wide];
        options.budget.decide_at_end = false;
    });
    let mut search = search_with(options, 0.4)?;
    run(&mut search, SEARCH)?;
    let model = search.supernet().cost_model();
    let dense = model.dense_cost(Metric::Macs)?;
    assert!(model.cost(Metric::Macs, &search.supernet().sizes())? >= 0.75 * dense);
    for share in [0.4, 0.8] {
        let limit = Budget::macs_share(share).resolve(search.supernet().cost_model())?;
        let cost = search.project(&[limit])?.costs[0];
        assert!(cost <= share * dense && cost > (share - 0.05) * dense, "{share}: {cost}");
    }
    Ok(())
}

#[test]
fn estimated_search_keeps_a_budget_of_another_metric_feasible() -> TestResult {
    let _alone = alone();
    let wide = Budget::params_share(0.8);
    let options = options().with(|options| {
        options.budget.keep_feasible = vec![wide];
        options.budget.decide_at_end = false;
    });
    let mut search = search_with(options, 0.3)?;
    let events = run(&mut search, SEARCH)?;
    assert!(events.iter().any(|event| matches!(event, Event::Pruned(_))), "units are pruned");
    let limit = wide.resolve(search.supernet().cost_model())?;
    let cost = search.project(&[limit])?.costs[0];
    assert!(cost <= limit.limit && cost > 0.95 * limit.limit, "{cost} of {}", limit.limit);
    Ok(())
}

/// A choice is never worse for being allowed to cost more.
#[test]
fn estimated_loss_of_a_projection_falls_with_the_limit() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.3)?;
    run(&mut search, 1)?;
    let mut last = f64::NEG_INFINITY;
    for percent in 25..=100 {
        let limit = Budget::macs_share(f64::from(percent) / 100.0);
        let found = search.project(&[limit.resolve(search.supernet().cost_model())?])?;
        assert!(found.log_probability >= last, "{percent} %: {found:?}, below {last}");
        last = found.log_probability;
    }
    assert_eq!(last, 0.0, "the dense network loses nothing");
    Ok(())
}

#[test]
fn decisions_are_named_in_configurations() -> TestResult {
    let options = SearchOptions::new(STEPS, SEARCH);
    let json = serde_json::to_value(&options)?;
    assert_eq!(json["decisions"], "estimated");
    assert_eq!(SearchOptions::learned(STEPS, SEARCH).decisions, Decisions::Learned);
    Ok(())
}

#[test]
fn expected_macs_of_an_estimated_search_are_those_of_the_sizes_of_the_last_round() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.5)?;
    let dense = search.supernet().cost_model().dense_cost(Metric::Macs)?;
    let events = run(&mut search, STEPS)?;
    let expected: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Step(metrics) => Some(metrics.macs_expected / dense),
            _ => None,
        })
        .collect();
    assert_eq!(expected[0], 1.0, "nothing is decided at the first step");
    assert!(expected.windows(2).all(|pair| pair[1] <= pair[0]), "{expected:?}");
    let last = *expected.last().ok_or("no step")?;
    assert!((0.45..=0.5).contains(&last), "{last}");
    Ok(())
}

#[test]
fn factor_of_heads_multiplies_the_losses_of_candidates_with_fewer_heads_alone() -> TestResult {
    let _alone = alone();
    let mut alphas = Vec::new();
    for factor in [1.0, 5.0] {
        let own = options().with(|own| own.pruning.head_factor = factor);
        let mut search = search_with(own.with(|own| own.pruning.interval = 1), 0.9)?;
        search.step(&[batch(0)?], &mut ())?;
        let state = &search.supernet().states()[1];
        let heads: Vec<i64> = state.candidates().sizes().map(|size| size.heads).collect();
        alphas.push((heads, numbers(&state.alpha)?));
    }
    let (heads, plain) = &alphas[0];
    let most = heads.iter().max().copied().ok_or("no candidates")?;
    assert!(heads.iter().any(|own| *own < most), "{heads:?}");
    for ((heads, plain), weighted) in heads.iter().zip(plain).zip(&alphas[1].1) {
        let factor = if *heads < most { 5.0 } else { 1.0 };
        assert!((weighted - factor * plain).abs() <= 1e-5 * plain.abs(), "{heads}: {plain}");
    }
    Ok(())
}

/// A search whose variables of these layers are frozen after the build.
fn with_frozen(options: SearchOptions, layers: &[&str]) -> TestResult<Search<VitConfig>> {
    let search = search_with(options, 0.5)?;
    for (name, own) in search.supernet().folded_weights() {
        if layers.iter().any(|layer| name.contains(layer)) {
            let _ = own.f_set_requires_grad(false)?;
        }
    }
    Ok(search)
}

/// What the first step decides by: gradients of the gates, then α after it, of every dimension.
fn decided_by(mut search: Search<VitConfig>) -> TestResult<Vec<Vec<f64>>> {
    let batches = [batch(0)?];
    let gates = search.gradients(&batches)?.gate_gradients;
    let mut found: Vec<Vec<f64>> = gates.iter().map(numbers).collect::<TestResult<_>>()?;
    search.step(&batches, &mut ())?;
    for state in search.supernet().states() {
        found.push(numbers(&state.alpha)?);
    }
    Ok(found)
}

#[test]
fn effects_of_frozen_variables_are_those_of_learned_ones() -> TestResult {
    let _alone = alone();
    for precision in [Precision::F32, Precision::Bf16] {
        let options = options().with(|own| {
            own.pruning.interval = 1;
            own.training.precision = precision;
        });
        // α of the hidden neurons, and of the embedding, which qkv, fc1 and head read.
        let learned = decided_by(search_with(options.clone(), 0.5)?)?;
        for layers in [&["fc1"][..], &["qkv", "fc1", "head", "patch_embed"]] {
            let frozen = decided_by(with_frozen(options.clone(), layers)?)?;
            assert_eq!(frozen, learned, "{precision:?} {layers:?}");
        }
    }
    Ok(())
}

#[test]
fn search_with_all_variables_frozen_is_that_with_frozen_weights() -> TestResult {
    let _alone = alone();
    for options in [options(), SearchOptions::learned(STEPS, SEARCH).seed(3)] {
        let mut frozen = with_frozen(options.clone(), &[""])?;
        let mut expected = search_with(options.with(|o| o.training.freeze_weights = true), 0.5)?;
        let gradients = frozen.gradients(&[batch(0)?])?.parameters()?;
        assert!(!gradients.contains_key("blocks.0.mlp.fc1.weight"));
        run(&mut frozen, SEARCH)?;
        run(&mut expected, SEARCH)?;
        assert_eq!(sizes(&frozen), sizes(&expected));
        expect_equal(&frozen.supernet().raw_weights(), &expected.supernet().raw_weights())?;
    }
    Ok(())
}
