//! Queries and keys with a width of their own, apart from values, from the search space to the artifact.

mod support;

use once_for_both::check::self_check;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{
    Architecture, AttentionPool, Norm, Pooling, QkvBias, Rope, SwinConfig, VitConfig,
};
use once_for_both::pipeline::{
    inspect, Command, Flags, InspectOptions, PipelineOutcome, Request, RunFolder,
};
use once_for_both::precision::Precision;
use once_for_both::search::{Checkpoints, Event, Search, SearchOptions};
use once_for_both::space::{DimensionKind, Size, Sizes};
use once_for_both::subnet::{verify, Export, FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::{Supernet, Weights};
use once_for_both::Error;
use std::path::Path;
use support::small_run::{pipeline, PRESET, SETTINGS};
use support::tiny_run::{alone, batch, fade_out_options, run, vit, without_times, STEPS};
use support::{test_device, TestResult, Tolerance};
use tch::{nn, Kind, Tensor};

/// Two stages, the first with shifted windows.
fn swin() -> SwinConfig {
    SwinConfig::uniform(16, &[2, 2], 2).input(16, 3, 2).window(4).classes(5)
}

/// A network with random biases and norms.
fn network<A: Architecture>(architecture: &A) -> TestResult<Subnet<A>> {
    let store = nn::VarStore::new(test_device());
    architecture.build(&store.root())?;
    let mut weights = Weights::new();
    // In order of their names, so that a seed gives the same network again.
    for (name, own) in store.variables().into_iter().collect::<Weights>() {
        let noise = own.f_randn_like()?.f_mul_scalar(0.2)?;
        weights.insert(name, tch::no_grad(|| own.f_add(&noise))?);
    }
    Ok(Subnet::new(architecture.clone(), &weights, test_device())?)
}

/// Checks that the logits of a network are those of the network whose queries and keys are apart from values.
fn expect_same_function<A: Architecture>(architecture: &A) -> TestResult {
    let joint = network(architecture)?;
    let apart = joint.qk_v_apart()?;
    let images = batch(0)?.images;
    let expected = joint.predict(&images)?;
    Tolerance::of_scale(1e-5, &expected)?.check("logits", &apart.predict(&images)?, &expected)?;
    for metric in [Metric::Macs, Metric::Params] {
        let cost = |own: &A| own.cost_model().dense_cost(metric);
        assert_eq!(cost(apart.architecture())?, cost(architecture)?);
    }
    // Apart already: nothing is left to do.
    let again = apart.qk_v_apart()?;
    assert!(again.predict(&images)?.equal(&apart.predict(&images)?));
    Ok(())
}

#[test]
fn queries_and_keys_apart_from_values_leave_the_logits_as_they_are() -> TestResult {
    let _alone = alone();
    expect_same_function(&vit().distilled())?;
    expect_same_function(&VitConfig { qkv_bias: QkvBias::None, ..vit() })?;
    let mut shallow = vit();
    (shallow.blocks[1].heads, shallow.blocks[0].scale_dim) = (0, 5);
    expect_same_function(&shallow)?;
    expect_same_function(&swin())
}

#[test]
fn channels_of_queries_and_keys_are_sorted_by_the_product_of_their_lengths() -> TestResult {
    let _alone = alone();
    let joint = network(&vit())?;
    let apart = joint.qk_v_apart()?;
    let weight = &apart.weights()["blocks.1.attn.qk.weight"];
    assert_eq!(weight.size(), [2, 4, 8, 32]);
    let squares = weight.f_square()?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?;
    let products = squares.f_get(0)?.f_mul(&squares.f_get(1)?)?;
    let rises = products.f_diff(1, -1, None::<&Tensor>, None::<&Tensor>)?.f_gt(0.0)?.f_any()?;
    assert!(!bool::try_from(rises)?);
    // Values stay as they are.
    let qkv = &joint.weights()["blocks.1.attn.qkv.weight"];
    assert!(apart.weights()["blocks.1.attn.v.weight"].equal(&qkv.f_narrow(0, 64, 32)?));
    Ok(())
}

#[test]
fn split_of_weights_that_are_missing_or_of_another_shape_is_refused_and_changes_none() -> TestResult
{
    let _alone = alone();
    let joint = network(&vit())?;
    let copy = || -> Weights {
        joint.weights().iter().map(|(name, own)| (name.clone(), own.shallow_clone())).collect()
    };
    let mut weights = copy();
    weights.remove("blocks.1.attn.qkv.bias");
    let missing = vit().split_qkv(&mut weights);
    assert_refused!(missing, Error::Missing { name, .. } if name == "blocks.1.attn.qkv.bias");
    assert!(weights.contains_key("blocks.0.attn.qkv.weight"));
    let mut weights = copy();
    weights.insert(
        "blocks.1.attn.qkv.bias".into(),
        Tensor::f_zeros([3], (Kind::Float, test_device()))?,
    );
    assert_refused!(vit().split_qkv(&mut weights), Error::Shape { .. });
    assert!(weights.contains_key("blocks.0.attn.qkv.weight"));
    Ok(())
}

#[test]
fn queries_and_keys_apart_from_values_are_refused_beside_what_needs_all_their_channels(
) -> TestResult {
    for (other, config) in [
        ("qk_norm", VitConfig { qk_norm: Some(Norm::Layer), ..vit() }),
        ("rope", VitConfig { rope: Some(Rope::Normalised { base: 10.0 }), ..vit() }),
        ("qkv_bias = query_value", VitConfig { qkv_bias: QkvBias::QueryValue, ..vit() }),
    ] {
        let refused = config.qk_v_apart();
        assert_refused!(refused, Error::Invalid { name, expected, .. }
            if name == "qk_v_apart" && expected.contains(other));
        let mut set = config;
        set.blocks[1].qk_dim = Some(4);
        assert_refused!(set.check(), Error::Invalid { name, expected, .. }
            if name == "blocks.1.qk_dim" && expected.contains(other));
    }
    for wrong in [0, -1, 1 << 21] {
        let mut vit = vit();
        vit.blocks[0].qk_dim = Some(wrong);
        assert_refused!(vit.check(), Error::Invalid { name, .. } if name == "blocks.0.qk_dim");
        let mut swin = swin();
        swin.stages[1].blocks[0].qk_dim = Some(wrong);
        assert_refused!(swin.check(), Error::Invalid { name, .. } if name == "stages.1.blocks.0.qk_dim");
    }
    let mut pool = AttentionPool::new(32, 2, 8);
    pool.sizes.qk_dim = Some(4);
    let pooled = VitConfig { class_token: false, ..vit().pooling(Pooling::Attention(pool)) };
    assert_refused!(pooled.check(), Error::Invalid { name, .. } if name == "attn_pool.qk_dim");
    Ok(())
}

#[test]
fn space_with_queries_and_keys_apart_has_a_dimension_of_their_channels() -> TestResult {
    let space = VitConfig::deit_small().qk_v_apart()?.space()?;
    assert_eq!(space.dimensions.len(), 1 + 3 * 12);
    let own = space.dimensions.iter().find(|own| own.name == "blocks.3.attn.qk").ok_or("none")?;
    assert_eq!(own.kind, DimensionKind::Attention);
    assert_eq!(own.candidates.full(), Size::flat(64));
    assert_eq!(own.candidates.widths(), [16, 24, 32, 40, 48, 56, 64]);
    assert!(!own.removable);
    let space = space.multiple_of(DimensionKind::Attention, 32)?;
    let own = space.dimensions.iter().find(|own| own.name == "blocks.3.attn.qk").ok_or("none")?;
    assert_eq!(own.candidates.widths(), [32, 64]);
    Ok(())
}

#[test]
fn self_check_with_queries_and_keys_apart_is_sound() -> TestResult {
    let _alone = alone();
    let images = Tensor::f_randn([2, 3, 16, 16], (Kind::Float, test_device()))?;
    let vit = VitConfig { qkv_bias: QkvBias::None, ..vit() }.qk_v_apart()?;
    self_check(&vit, &vit.space()?.removable_branches(), &images)?.expect_sound()?;
    let swin = swin().qk_v_apart()?;
    self_check(&swin, &swin.space()?.removable_branches(), &images)?.expect_sound()?;
    Ok(())
}

/// Checks that pruning to these sizes leaves what the masked network computes, and the parameters and MACs that the cost
/// model counts.
fn expect_exact<A: Architecture>(architecture: &A, wanted: &[(&str, Size)]) -> TestResult {
    let apart = network(architecture)?.qk_v_apart()?;
    let space = apart.architecture().space()?.removable_branches();
    let mut supernet = Supernet::new(apart.architecture().clone(), space, false, test_device())?;
    supernet.load_weights(apart.weights())?;
    let mut sizes = Vec::new();
    for (at, state) in supernet.states_mut().iter_mut().enumerate() {
        let own = wanted.iter().find(|(name, _)| *name == state.name);
        let size = own.map_or(state.candidates().full(), |(_, size)| *size);
        state.set_active(state.candidates().sizes().map(|own| own == size).collect())?;
        state.set_score(&state.score.f_randn_like()?)?;
        sizes.push((at, size));
    }
    supernet.narrow(&sizes)?;
    let gates = supernet.masks(0.5)?.into_iter().map(|own| own.mask.detach());
    supernet.materialise(&gates.collect::<Vec<_>>())?;
    let subnet = FoldingExtractor.extract(&supernet)?;
    let verification = verify(&supernet, &subnet, &batch(0)?.images)?;
    let difference = verification.max_abs_logit_difference();
    let scale = verification.logit_scale.max(1.0);
    assert!(difference <= 2e-6 * scale, "{wanted:?}: {verification:?}");
    let numbers: usize = subnet.weights().values().map(Tensor::numel).sum();
    for metric in [Metric::Macs, Metric::Params] {
        let cost = architecture_cost(&apart, metric, &supernet.sizes())?;
        assert_eq!(subnet.architecture().cost_model().dense_cost(metric)?, cost);
    }
    let params = architecture_cost(&apart, Metric::Params, &supernet.sizes())?;
    assert_eq!(params, numbers as f64, "{wanted:?}");
    Ok(())
}

fn architecture_cost<A: Architecture>(
    network: &Subnet<A>,
    metric: Metric,
    sizes: &Sizes,
) -> TestResult<f64> {
    Ok(network.architecture().cost_model().cost(metric, sizes)?)
}

#[test]
fn pruned_widths_of_queries_and_values_leave_what_the_masked_network_computes() -> TestResult {
    let _alone = alone();
    let (heads, removed) = (Size { heads: 2, channels: 5 }, Size::REMOVED);
    for vit in [vit(), VitConfig { qkv_bias: QkvBias::None, ..vit() }.layer_scale(0.5)] {
        expect_exact(&vit, &[("blocks.0.attn.qk", Size::flat(3))])?;
        expect_exact(&vit, &[("blocks.0.attn.qk", Size::flat(3)), ("blocks.0.attn", heads)])?;
        expect_exact(&vit, &[("blocks.1.attn.qk", Size::flat(2)), ("blocks.1.attn", removed)])?;
        expect_exact(&vit, &[("blocks.1.attn", removed), ("embed", Size::flat(20))])?;
    }
    let heads = Size { heads: 2, channels: 3 };
    for (block, size) in [("layers.0.blocks.1", heads), ("layers.1.blocks.1", removed)] {
        let (queries, attention) = (format!("{block}.attn.qk"), format!("{block}.attn"));
        expect_exact(&swin(), &[(&queries, Size::flat(3)), (&attention, size)])?;
    }
    Ok(())
}

/// Options that decide by estimates, in rounds of two steps.
fn estimated() -> SearchOptions {
    SearchOptions::new(STEPS, 8).seed(3).with(|o| {
        o.log_interval = 1;
        o.pruning.interval = 2;
        o.pruning.fade_out_steps = 1;
        o.training.ema_decay = Some(0.9);
    })
}

/// A search from a trained network, whose queries and keys are apart from values.
fn search<A: Architecture>(
    architecture: &A,
    options: SearchOptions,
    share: f64,
) -> TestResult<Search<A>> {
    once_for_both::randomness::seed(7);
    let apart = network(architecture)?.qk_v_apart()?;
    let space = apart.architecture().space()?.removable_branches();
    let builder = Search::of(apart.architecture().clone()).space(space).options(options);
    let builder = builder.weights(apart.weights()).budget(Budget::macs_share(share));
    Ok(builder.device(test_device()).build()?)
}

fn expect_search_is_exact<A: Architecture>(architecture: &A, options: SearchOptions) -> TestResult {
    // In bf16, sums over other numbers of channels are rounded otherwise.
    let rounding = match options.training.precision {
        Precision::F32 => 1e-5,
        _ => 2.0 * 2_f64.powi(-7),
    };
    let mut search = search(architecture, options, 0.4)?;
    let dense = search.supernet().cost_model().dense.clone();
    for event in run(&mut search, STEPS)? {
        if let Event::Pruned(pruned) = event {
            assert!(pruned.exact_difference <= rounding * pruned.logit_scale, "{pruned:?}");
        }
    }
    let sizes = search.supernet().sizes();
    let mut queries = sizes.iter().filter(|(name, _)| name.ends_with(".qk"));
    assert!(queries.any(|(name, size)| size.channels < dense[name].channels), "{sizes:?}");
    let images = batch(99)?.images;
    let subnet = search.extract(&images)?;
    assert!(subnet.macs()? <= search.limits()[0].limit);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    subnet.save(&path, &Export::default().torchscript().onnx())?;
    let loaded = Subnet::<A>::load(&path, test_device())?;
    assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    // A subnet is searched again.
    let again = Search::of(loaded.architecture().clone()).weights(loaded.weights());
    again.budget(Budget::macs_share(0.9)).steps(4, 2).build()?;
    Ok(())
}

#[test]
fn search_with_queries_and_keys_apart_is_exact_to_the_artifact() -> TestResult {
    let _alone = alone();
    let bf16 = estimated().with(|o| o.training.precision = Precision::Bf16);
    expect_search_is_exact(&vit().layer_scale(0.5), bf16)?;
    expect_search_is_exact(&swin(), fade_out_options())
}

/// The dense network, which has all branches, teaches.
#[test]
fn search_with_queries_and_keys_apart_resumed_after_any_stop_is_bit_exact() -> TestResult {
    let _alone = alone();
    let mut whole = search(&vit(), estimated(), 0.15)?;
    let expected = run(&mut whole, STEPS)?;
    assert!(whole.supernet().sizes().values().any(|size| size.is_removed()));
    for stop in [3, 9] {
        let folder = tempfile::tempdir()?;
        let mut first = search(&vit(), estimated(), 0.15)?;
        let mut events = run(&mut first, stop)?;
        let checkpoint = Checkpoints::new(folder.path(), 2).save(&first)?;
        let mut second = Search::<VitConfig>::resume(&checkpoint, test_device())?;
        events.extend(run(&mut second, STEPS)?);
        assert_eq!(without_times(&events), without_times(&expected), "stopped after {stop}");
        let (left, right) = (second.supernet().raw_weights(), whole.supernet().raw_weights());
        assert!(left.keys().eq(right.keys()));
        assert!(left.iter().all(|(name, own)| own.equal(&right[name])), "stopped after {stop}");
    }
    Ok(())
}

fn request(run: &Path, apart: bool, command: Option<Command>) -> Request {
    let settings = SETTINGS.map(String::from).to_vec();
    let macs = Some("0.4".into());
    let flags = Flags { macs, qk_v_apart: apart, depth: apart, ..Flags::default() };
    let default_preset = PRESET.into();
    Request {
        command,
        default_preset,
        settings,
        flags,
        run: Some(run.into()),
        ..Request::default()
    }
}

#[test]
fn run_with_queries_and_keys_apart_tells_their_widths_in_summary_report_and_inspection(
) -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let mut config = request(&run, true, None).resolve()?;
    assert!(config.space.qk_v_apart);
    config.compare = true;
    let run_of = |config| -> TestResult<_> { Ok(pipeline(config, &run)?.run()?) };
    let PipelineOutcome::Finished { summary: Some(summary), .. } = run_of(config.clone())? else {
        return Err("no summary".into());
    };
    let saved = RunFolder::new(&run);
    let subnet = Subnet::<VitConfig>::load(saved.subnet(), test_device())?;
    assert!(subnet.architecture().blocks.iter().all(|own| own.qk_dim.is_some()));
    // The networks that were not searched stay as timm has them.
    for path in [saved.dense(), run.join("reference/network")] {
        let joint = Subnet::<VitConfig>::load(path, test_device())?;
        assert!(joint.architecture().blocks.iter().all(|own| own.qk_dim.is_none()));
    }
    let report = std::fs::read_to_string(run.join("report.html"))?;
    assert!(report.contains("Queries and keys</b> channels of a head, of 16"));
    let inspected = inspect(&run, &InspectOptions::default())?.to_string();
    let text = summary.to_string();
    for block in 0..2 {
        let name = format!("blocks.{block}.attn.qk");
        let own = summary.sizes.iter().find(|own| own.dimension == name).ok_or("no width")?;
        let row = format!("{} of 16", own.subnet);
        assert_eq!(own.subnet.is_removed(), !subnet.architecture().blocks[block].has_attention());
        assert!(text.lines().any(|line| line.starts_with(&name) && line.ends_with(&row)), "{text}");
        assert!(report.contains(&format!("block {block}: {row}")), "{row}");
        assert!(inspected.contains(&format!("{name} {}", own.subnet)), "{inspected}");
    }
    let again = request(&run, false, Some(Command::Finetune)).resolve()?;
    assert!(again.space.qk_v_apart);
    // Beside an option that needs all channels of a head, refused before anything is written.
    let other = folder.path().join("other");
    config.network.insert("qk_norm".into(), "layer".into());
    let refused = pipeline(config, &other)?.run();
    assert_refused!(refused, Error::Invalid { name, expected, .. }
        if name == "space.qk_v_apart" && expected.contains("qk_norm"));
    assert!(!other.exists());
    Ok(())
}
