//! Removed branches: an attention or an MLP whose size is 0, from the search space to the artifact.

mod support;

use once_for_both::check::self_check;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{
    Architecture, AttentionPool, BlockConfig, Mlp, Norm, Pooling, QkvBias, Rope, SwinConfig,
    VitConfig,
};
use once_for_both::pipeline::{
    inspect, Command, Flags, InspectOptions, PipelineOutcome, Request, RunFolder,
};
use once_for_both::precision::Precision;
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::space::{DimensionKind, SearchSpace, Size, Sizes};
use once_for_both::subnet::{verify, Export, FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use std::path::Path;
use support::small_run::{pipeline, PRESET, SETTINGS};
use support::tiny_run::{
    alone, batch, expect_resumed_bit_exact, fade_out_options, options, run, vit, STEPS,
};
use support::{test_device, TestResult};
use tch::{Kind, Tensor};

/// Two stages, the first with shifted windows.
fn swin() -> SwinConfig {
    SwinConfig::uniform(16, &[2, 2], 2).input(16, 3, 2).window(4).classes(5)
}

/// ViTs whose branches leave something behind in different ways.
fn vits() -> Vec<VitConfig> {
    let eva = VitConfig {
        mlp: Mlp::SwiGlu,
        norm: Norm::Rms,
        qkv_bias: QkvBias::QueryValue,
        qk_norm: Some(Norm::Rms),
        rope: Some(Rope::Normalised { base: 10.0 }),
        pooling: Pooling::MeanNorm,
        ..vit()
    };
    vec![vit(), vit().layer_scale(0.3).distilled(), eva]
}

/// A supernet with random biases and norms.
fn supernet<A: Architecture>(architecture: &A) -> TestResult<Supernet<A>> {
    let space = architecture.space()?.removable_branches();
    let supernet = Supernet::new(architecture.clone(), space, false, test_device())?;
    for mut parameter in supernet.parameters() {
        let _ = tch::no_grad(|| {
            parameter.value.f_add_(&parameter.value.f_randn_like()?.f_mul_scalar(0.2)?)
        })?;
    }
    Ok(supernet)
}

/// Removes branches, and decides every other dimension to its dense size.
fn remove<A: Architecture>(supernet: &mut Supernet<A>, branches: &[&str]) -> TestResult {
    let mut sizes = Vec::new();
    for (at, state) in supernet.states_mut().iter_mut().enumerate() {
        let size = match branches.contains(&state.name.as_str()) {
            true => Size::REMOVED,
            false => state.candidates().full(),
        };
        let flags = state.candidates().sizes().map(|own| own == size).collect();
        state.set_active(flags)?;
        sizes.push((at, size));
    }
    supernet.narrow(&sizes)?;
    let gates = supernet.masks(0.5)?.into_iter().map(|own| own.mask.detach());
    Ok(supernet.materialise(&gates.collect::<Vec<_>>())?)
}

/// Checks that removed branches leave exactly what the masked network computes, and the parameters that the cost model
/// counts.
fn expect_exact<A: Architecture>(architecture: &A, branches: &[&str]) -> TestResult {
    let mut supernet = supernet(architecture)?;
    remove(&mut supernet, branches)?;
    let subnet = FoldingExtractor.extract(&supernet)?;
    let verification = verify(&supernet, &subnet, &batch(0)?.images)?;
    let difference = verification.max_abs_logit_difference();
    assert!(
        difference <= 1e-6 * verification.logit_scale.max(1.0),
        "{branches:?}: {verification:?}"
    );
    let numbers: usize = subnet.weights().values().map(Tensor::numel).sum();
    let frequencies = subnet.weights().iter().filter(|(name, _)| name.ends_with("rope"));
    let buffers: usize = frequencies.map(|(_, own)| own.numel()).sum();
    let params = architecture.cost_model().cost(Metric::Params, &supernet.sizes())?;
    assert_eq!(params, (numbers - buffers) as f64, "{branches:?}");
    assert_eq!(subnet.architecture().cost_model().dense_cost(Metric::Params)?, params);
    Ok(())
}

#[test]
fn weights_are_divided_by_the_gates_of_the_branches_that_are_left() -> TestResult {
    let _alone = alone();
    let mut supernet = supernet(&vit())?;
    remove(&mut supernet, &["blocks.1.mlp"])?;
    let gates: Vec<Tensor> =
        supernet.masks(0.5)?.into_iter().map(|own| own.mask.detach()).collect();
    let before = supernet.raw_weights()["head.bias"].copy();
    supernet.divide_by_gates(&gates)?;
    supernet.materialise(&gates)?;
    assert!(supernet.folded_weights()["head.bias"].equal(&before));
    Ok(())
}

#[test]
fn removed_branches_leave_what_the_masked_network_computes() -> TestResult {
    let _alone = alone();
    for vit in vits() {
        for branches in [
            &["blocks.0.mlp"][..],
            &["blocks.1.attn"],
            &["blocks.1.attn", "blocks.1.mlp"],
            &["blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp"],
        ] {
            expect_exact(&vit, branches)?;
        }
    }
    expect_exact(&swin(), &["layers.0.blocks.1.attn", "layers.0.blocks.0.mlp"])?;
    expect_exact(&swin(), &["layers.1.blocks.1.attn", "layers.1.blocks.1.mlp"])
}

#[test]
fn self_check_with_removable_branches_is_sound() -> TestResult {
    let _alone = alone();
    let images = Tensor::f_randn([2, 3, 16, 16], (Kind::Float, test_device()))?;
    for vit in vits() {
        self_check(&vit, &vit.space()?.removable_branches(), &images)?.expect_sound()?;
    }
    self_check(&swin(), &swin().space()?.removable_branches(), &images)?.expect_sound()?;
    Ok(())
}

#[test]
fn space_keeps_the_first_attention_of_a_vit_and_of_every_stage() -> TestResult {
    let stay = |space: SearchSpace| -> Vec<String> {
        let branches =
            space.dimensions.into_iter().filter(|own| own.kind != DimensionKind::Embedding);
        branches.filter(|own| !own.candidates.removable()).map(|own| own.name).collect()
    };
    assert_eq!(stay(vit().space()?.removable_branches()), ["blocks.0.attn"]);
    let stages = stay(swin().space()?.removable_branches());
    assert_eq!(stages, ["layers.0.blocks.0.attn", "layers.1.blocks.0.attn"]);
    // Without the first attention, the second is the first.
    let sizes = |name: &str| Sizes::from([(name.to_owned(), Size::REMOVED)]);
    let space = vit().resized(&sizes("blocks.0.attn"))?.space()?.removable_branches();
    assert!(space.dimensions.iter().all(|own| own.name != "blocks.0.attn"));
    assert_eq!(stay(space), ["blocks.1.attn"]);
    Ok(())
}

#[test]
fn network_or_stage_without_attention_is_refused() -> TestResult {
    let none = |blocks: &mut Vec<BlockConfig>| blocks.iter_mut().for_each(|own| own.heads = 0);
    let mut blind = vit();
    none(&mut blind.blocks);
    assert_refused!(blind.check(), Error::Invalid { name, .. } if name == "blocks");
    let mut blind = swin();
    none(&mut blind.stages[1].blocks);
    assert_refused!(blind.check(), Error::Invalid { name, .. } if name == "stages.1.blocks");
    let mut negative = vit();
    negative.blocks[1].heads = -1;
    assert_refused!(negative.check(), Error::Invalid { name, .. } if name == "blocks.1.heads");
    // A pooling without heads or neurons would give the head nothing to read.
    for (heads, hidden_dim, field) in [(0, 8, "attn_pool.heads"), (2, 0, "attn_pool.hidden_dim")] {
        let mut pool = AttentionPool::new(32, 2, 8);
        (pool.sizes.heads, pool.sizes.hidden_dim) = (heads, hidden_dim);
        let pooled = VitConfig { class_token: false, ..vit().pooling(Pooling::Attention(pool)) };
        assert_refused!(pooled.check(), Error::Invalid { name, .. } if name == field);
    }
    negative.blocks[1] = BlockConfig { hidden_dim: -1, ..vit().blocks[1] };
    assert_refused!(negative.check(), Error::Invalid { name, .. } if name == "blocks.1.hidden_dim");
    Ok(())
}

#[test]
fn removal_of_a_dimension_that_is_not_removable_is_refused() -> TestResult {
    let _alone = alone();
    let mut space = vit().space()?;
    for name in ["embed", "blocks.0.attn"] {
        let own = space.dimension_mut(name)?;
        own.candidates = own.candidates.clone().with_removal();
        let built = Supernet::new(vit(), space.clone(), false, test_device());
        assert_refused!(built, Error::Invalid { name: what, .. } if what == format!("candidates of {name}"));
        space = vit().space()?;
    }
    let mut supernet = Supernet::new(vit(), space, false, test_device())?;
    assert_refused!(supernet.narrow(&[(2, Size::REMOVED)]), Error::Invalid { .. });
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

/// A search under a limit that no network with all branches meets.
fn search<A: Architecture>(architecture: &A, options: SearchOptions) -> TestResult<Search<A>> {
    let (model, space) = (architecture.cost_model(), architecture.space()?);
    let least = |space: &SearchSpace| -> TestResult<f64> {
        let sizes = space.dimensions.iter().map(|own| own.candidates.sizes().collect());
        Ok(model.range(Metric::Macs, space, &sizes.collect::<Vec<_>>())?.0)
    };
    let removable = space.clone().removable_branches();
    let limit = 0.5 * (least(&space)? + least(&removable)?);
    let builder = Search::of(architecture.clone()).space(removable).options(options);
    Ok(builder.budget(Budget::macs(limit)).device(test_device()).build()?)
}

fn removed<A: Architecture>(search: &Search<A>) -> Vec<String> {
    let sizes = search.supernet().sizes().into_iter();
    sizes.filter(|(_, size)| size.is_removed()).map(|(name, _)| name).collect()
}

fn expect_search_is_exact<A: Architecture>(architecture: &A, options: SearchOptions) -> TestResult {
    let mut search = search(architecture, options)?;
    let events = run(&mut search, STEPS)?;
    assert!(!removed(&search).is_empty());
    for event in events {
        if let Event::Pruned(pruned) = event {
            assert!(pruned.exact_difference <= 1e-5 * pruned.logit_scale, "{pruned:?}");
        }
    }
    let images = batch(99)?.images;
    let subnet = search.extract(&images)?;
    assert!(subnet.macs()? <= search.limits()[0].limit);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    subnet.save(&path, &Export::default().torchscript().onnx())?;
    let loaded = Subnet::<A>::load(&path, test_device())?;
    assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    // A removed branch is no dimension of the subnet.
    let left = loaded.architecture().space()?;
    assert!(removed(&search)
        .iter()
        .all(|name| left.dimensions.iter().all(|own| own.name != *name)));
    let again = Search::of(loaded.architecture().clone()).weights(loaded.weights());
    again.space(left.removable_branches()).budget(Budget::macs_share(0.9)).steps(4, 2).build()?;
    Ok(())
}

#[test]
fn search_that_must_remove_branches_is_exact_to_the_artifact() -> TestResult {
    let _alone = alone();
    expect_search_is_exact(&vit().layer_scale(0.5), fade_out_options())?;
    let bf16 = estimated().with(|o| o.training.precision = Precision::Bf16);
    expect_search_is_exact(&vit(), bf16)?;
    expect_search_is_exact(&swin(), options())
}

#[test]
fn search_with_removed_branches_resumed_after_any_stop_is_bit_exact() -> TestResult {
    let _alone = alone();
    for options in [fade_out_options(), estimated()] {
        let stops = [2, 5, 8, STEPS - 1];
        let whole = expect_resumed_bit_exact(|| search(&vit(), options.clone()), &stops)?;
        assert!(!removed(&whole).is_empty());
    }
    Ok(())
}

/// A space of one branch, which is removed: nothing is left to search.
#[test]
fn search_of_one_branch_that_is_removed_ends_without_units() -> TestResult {
    let _alone = alone();
    for options in [fade_out_options(), estimated()] {
        let space = vit().space()?.only(&["blocks.1.mlp"])?.removable_branches();
        let limit = vit().cost_model().cost(Metric::Macs, &sizes_of("blocks.1.mlp"))?;
        let builder = Search::of(vit()).space(space).options(options).budget(Budget::macs(limit));
        let mut search = builder.device(test_device()).build()?;
        run(&mut search, STEPS)?;
        assert_eq!(removed(&search), ["blocks.1.mlp"]);
        let subnet = search.extract(&batch(99)?.images)?;
        assert_eq!(subnet.macs()?, limit);
        assert!(!subnet.weights().contains_key("blocks.1.norm2.weight"));
        assert!(subnet.weights().contains_key("blocks.1.mlp.fc2.bias"));
    }
    Ok(())
}

fn sizes_of(removed: &str) -> Sizes {
    Sizes::from([(removed.to_owned(), Size::REMOVED)])
}

fn request(run: &Path, depth: bool, command: Option<Command>) -> Request {
    Request {
        command,
        default_preset: PRESET.into(),
        settings: SETTINGS.map(String::from).to_vec(),
        flags: Flags { macs: Some("0.12".into()), depth, ..Flags::default() },
        run: Some(run.into()),
        ..Request::default()
    }
}

#[test]
fn run_with_depth_shows_removed_branches_in_summary_and_report() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    // No network with all branches meets the budget.
    let refused = pipeline(request(&run, false, None).resolve()?, &run)?.run();
    assert_refused!(refused, Error::Infeasible { .. });
    let config = request(&run, true, None).resolve()?;
    assert!(config.space.depth);
    let PipelineOutcome::Finished { summary: Some(summary), .. } = pipeline(config, &run)?.run()?
    else {
        return Err("no summary".into());
    };
    let subnet = Subnet::<VitConfig>::load(RunFolder::new(&run).subnet(), test_device())?;
    let blocks = &subnet.architecture().blocks;
    assert!(blocks.iter().any(|own| !own.has_attention() || !own.has_mlp()));
    let report = std::fs::read_to_string(run.join("report.html"))?;
    assert!(report.contains("0: removed, the whole branch."));
    let inspected = inspect(&run, &InspectOptions::default())?.to_string();
    let text = summary.to_string();
    let removed = summary.sizes.iter().filter(|own| own.subnet.is_removed());
    for name in removed.map(|own| &own.dimension) {
        let row = text.lines().find(|line| line.starts_with(name.as_str())).ok_or(name.as_str())?;
        assert!(row.contains(" removed of "), "{row}");
        let block = name.split('.').nth(1).ok_or("no block")?;
        let of_dense = if name.ends_with(".mlp") { " of " } else { "" };
        assert!(report.contains(&format!("block {block}: removed{of_dense}")), "{name}");
        assert!(inspected.contains(&format!("{name} removed")), "{inspected}");
    }
    assert!(text.contains(" removed of "), "{text}");
    // What the search began with holds for the stages after it.
    let again = request(&run, false, Some(Command::Finetune)).resolve()?;
    assert!(again.space.depth);
    Ok(())
}
