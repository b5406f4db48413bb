//! Self-check of declarations: correct ones pass, wrong ones are reported with variable and axis.

mod support;

use once_for_both::check::{self_check, Findings};
use once_for_both::cost::{CostModel, Polynomial};
use once_for_both::error::{Advice, Fault, Suspect};
use once_for_both::models::{
    Architecture, AttentionPool, BlockConfig, Mlp, Norm, Pooling, PositionEmbedding, QkvBias, Rope,
    VisionTransformer, VitConfig,
};
use once_for_both::space::{Binding, Candidates, DimensionKind, Role, SearchSpace, Sizes};
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use support::tiny_run::alone;
use support::{test_device, TestResult};
use tch::{nn, Kind, Tensor};

/// A ViT of equal hidden and embedding width, so that no fault is found by lengths alone.
fn square() -> VitConfig {
    let mut vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(5);
    vit.blocks = vec![BlockConfig::new(4, 8, 32); 2];
    vit
}

fn check<A: Architecture>(architecture: &A, space: &SearchSpace) -> TestResult<Result<Findings>> {
    let _alone = alone();
    let images = Tensor::f_randn([2, 3, 16, 16], (Kind::Float, test_device()))?;
    Ok(self_check(architecture, space, &images))
}

/// Returns the faults of a changed search space of [`square`].
fn faults(space: &SearchSpace) -> TestResult<Vec<Fault>> {
    Ok(check(&square(), space)??.faults)
}

fn binding<'a>(
    space: &'a mut SearchSpace,
    dimension: &str,
    variable: &str,
) -> TestResult<&'a mut Binding> {
    let bindings = &mut space.dimension_mut(dimension)?.bindings;
    Ok(bindings.iter_mut().find(|b| b.variable == variable).ok_or("no such binding")?)
}

fn without(mut space: SearchSpace, dimension: &str, variable: &str) -> TestResult<SearchSpace> {
    let bindings = &mut space.dimension_mut(dimension)?.bindings;
    let before = bindings.len();
    bindings.retain(|binding| binding.variable != variable);
    assert_eq!(bindings.len() + 1, before, "{dimension} binds {variable} once");
    Ok(space)
}

fn suspect(variable: &str, axis: usize, advice: Advice) -> Suspect {
    Suspect { variable: variable.into(), axis, advice }
}

/// Returns the suspects of the first fault, which must be an explained one of order.
fn order_suspects<'a>(faults: &'a [Fault], name: &str) -> &'a [Suspect] {
    match &faults[0] {
        Fault::Order { dimension, suspects, explained: true, .. } if dimension == name => suspects,
        other => panic!("first fault: got {other}, expected the order of {name}"),
    }
}

/// Checks that leaving out one binding is reported, and nothing else but lengths.
fn expect_missing(dimension: &str, variable: &str, axis: usize, outer: i64) -> TestResult {
    let faults = faults(&without(square().space()?, dimension, variable)?)?;
    let advice = Advice::Bind { outer, inner: 1 };
    assert_eq!(order_suspects(&faults, dimension), [suspect(variable, axis, advice)]);
    let lengths = faults.iter().any(|fault| {
        matches!(fault, Fault::Length { variable: v, axis: a, .. } if v == variable && *a == axis)
    });
    assert!(lengths, "fault of length: got none in {faults:?}");
    Ok(())
}

#[test]
fn self_check_of_the_crates_vits_finds_no_fault() -> TestResult {
    let plain = square();
    let scaled = square().layer_scale(0.1).pooling(Pooling::ClassAndMean);
    for vit in [plain.clone(), plain.distilled(), scaled] {
        let findings = check(&vit, &vit.space()?)??;
        assert_eq!(findings.dimensions.len(), 5);
        findings.expect_sound()?;
    }
    Ok(())
}

/// ViTs of one block with the options that the crate's other tests leave off.
fn of_the_family() -> [VitConfig; 7] {
    let square = || VitConfig { blocks: vec![BlockConfig::new(4, 8, 32)], ..square() };
    let clip = VitConfig { pre_norm: true, patch_bias: false, head_bias: false, ..square() };
    let average = VitConfig {
        class_token: false,
        registers: 3,
        positions: PositionEmbedding::Patches,
        qkv_bias: QkvBias::None,
        qk_norm: Some(Norm::Layer),
        ..square().pooling(Pooling::MeanNorm)
    };
    let gated = VitConfig {
        norm: Norm::Rms,
        pre_norm: true,
        qkv_bias: QkvBias::QueryValue,
        mlp: Mlp::SwiGlu,
        ..square().layer_scale(0.1).pooling(Pooling::Mean)
    };
    let registers = VitConfig { registers: 2, qk_norm: Some(Norm::Rms), ..square() };
    let eva = VitConfig {
        rope: Some(Rope::Grid { base: 100.0, reference: 4 }),
        qkv_bias: QkvBias::QueryValue,
        mlp: Mlp::SwiGlu,
        ..square().pooling(Pooling::MeanNorm)
    };
    let dino = VitConfig {
        rope: Some(Rope::Normalised { base: 100.0 }),
        registers: 2,
        positions: PositionEmbedding::None,
        ..square().layer_scale(0.1)
    };
    let pool = AttentionPool::new(32, 4, 64);
    let siglip = VitConfig { registers: 1, ..square().pooling(Pooling::Attention(pool)) };
    [clip, average, gated, registers, eva, dino, siglip]
}

#[test]
fn self_check_of_every_option_of_a_vit_finds_no_fault() -> TestResult {
    for vit in of_the_family() {
        check(&vit, &vit.space()?)??.expect_sound()?;
    }
    Ok(())
}

#[test]
fn self_check_with_any_missing_binding_names_it() -> TestResult {
    let two = square().layer_scale(0.1).pooling(Pooling::ClassAndMean);
    let one = VitConfig { blocks: two.blocks[..1].to_vec(), ..two.clone() };
    // Axes of the embedding times those to try grow with the square of the blocks.
    let embedding = one.space()?.dimensions.into_iter().take(1).map(|own| (&one, own));
    let others = two.space()?.dimensions.into_iter().skip(1).map(|own| (&two, own));
    for (vit, dimension) in embedding.chain(others) {
        let whole = vit.space()?.only(&[&dimension.name])?;
        for (which, binding) in dimension.bindings.iter().enumerate() {
            let mut space = whole.clone();
            space.dimensions[0].bindings.remove(which);
            let faults = check(vit, &space)??.faults;
            let advice = Advice::Bind { outer: binding.outer, inner: binding.inner };
            let expected = suspect(&binding.variable, binding.axis, advice);
            assert_eq!(order_suspects(&faults, &dimension.name), [expected]);
        }
    }
    Ok(())
}

#[test]
fn self_check_with_any_gate_declared_narrowed_names_it() -> TestResult {
    let whole = square().space()?;
    for (at, dimension) in whole.dimensions.iter().enumerate() {
        for (which, binding) in dimension.bindings.iter().enumerate() {
            if binding.role == Role::Narrowed {
                continue;
            }
            let mut space = whole.clone();
            space.dimensions[at].bindings[which].role = Role::Narrowed;
            let faults = faults(&space)?;
            let [Fault::Gates { suspects, .. }] = faults.as_slice() else {
                panic!("{binding:?}: {faults:?}");
            };
            let expected = suspect(&binding.variable, binding.axis, Advice::Gate);
            assert_eq!(*suspects, [expected]);
        }
    }
    Ok(())
}

#[test]
fn self_check_with_wrong_axis_names_the_right_one() -> TestResult {
    let mut space = square().space()?.only(&["blocks.0.mlp"])?;
    binding(&mut space, "blocks.0.mlp", "blocks.0.mlp.fc2.weight")?.axis = 0;
    let faults = faults(&space)?;
    let name = "blocks.0.mlp.fc2.weight";
    let advice = Advice::BindInstead { variable: name.into(), axis: 1 };
    assert_eq!(order_suspects(&faults, "blocks.0.mlp"), [suspect(name, 0, advice)]);
    Ok(())
}

#[test]
fn self_check_without_a_norm_names_it() -> TestResult {
    expect_missing("embed", "blocks.1.norm1.weight", 0, 1)
}

#[test]
fn self_check_without_projection_columns_names_them() -> TestResult {
    expect_missing("blocks.1.attn", "blocks.1.attn.proj.weight", 1, 1)
}

#[test]
fn self_check_without_head_columns_names_them() -> TestResult {
    expect_missing("embed", "head.weight", 1, 1)
}

#[test]
fn self_check_without_position_table_names_it() -> TestResult {
    expect_missing("embed", "pos_embed", 2, 1)
}

#[test]
fn self_check_with_wrong_outer_is_refused() -> TestResult {
    let mut space = square().space()?;
    binding(&mut space, "blocks.0.attn", "blocks.0.attn.qkv.bias")?.outer = 1;
    match check(&square(), &space)? {
        Err(Error::BindingAxis { variable, axis: 0, expected: 32, actual: 96, .. }) => {
            assert_eq!(variable, "blocks.0.attn.qkv.bias");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn self_check_with_inner_instead_of_outer_names_the_layout() -> TestResult {
    let mut space = square().space()?;
    let names = ["weight", "bias"].map(|part| format!("blocks.0.attn.qkv.{part}"));
    for name in &names {
        let binding = binding(&mut space, "blocks.0.attn", name)?;
        (binding.outer, binding.inner) = (1, 3);
    }
    let right = || Advice::Layout { outer: 3, inner: 1 };
    let expected = names.map(|name| suspect(&name, 0, right()));
    assert_eq!(order_suspects(&faults(&space)?, "blocks.0.attn"), expected);
    Ok(())
}

#[test]
fn self_check_with_heads_and_channels_exchanged_names_the_grid() -> TestResult {
    let mut space = square().space()?;
    space.dimension_mut("blocks.0.attn")?.candidates = Candidates::attention(8, 4)?;
    let advice = Advice::Grid { heads: 4, channels: 8 };
    let faults = faults(&space)?;
    let found = order_suspects(&faults, "blocks.0.attn");
    assert_eq!(found, [suspect("blocks.0.attn.qkv.weight", 0, advice)]);
    Ok(())
}

#[test]
fn self_check_with_gate_on_another_layer_names_the_right_layer() -> TestResult {
    let mut space = square().space()?.only(&["blocks.0.mlp"])?;
    for part in ["weight", "bias"] {
        let name = format!("blocks.0.mlp.fc1.{part}");
        binding(&mut space, "blocks.0.mlp", &name)?.variable = format!("blocks.0.attn.proj.{part}");
    }
    let faults = faults(&space)?;
    let suspects = order_suspects(&faults, "blocks.0.mlp");
    let expected = ["bias", "weight"].map(|part| {
        let variable = format!("blocks.0.mlp.fc1.{part}");
        let advice = Advice::BindInstead { variable, axis: 0 };
        suspect(&format!("blocks.0.attn.proj.{part}"), 0, advice)
    });
    assert_eq!(suspects, expected);
    Ok(())
}

#[test]
fn self_check_with_bias_narrowed_instead_of_gated_names_it() -> TestResult {
    let mut space = square().space()?;
    let (dimension, variable) = ("blocks.1.mlp", "blocks.1.mlp.fc1.bias");
    binding(&mut space, dimension, variable)?.role = Role::Narrowed;
    match faults(&space)?.as_slice() {
        [Fault::Gates { dimension: found, suspects, .. }] => {
            assert_eq!(found, dimension);
            assert_eq!(*suspects, [suspect(variable, 0, Advice::Gate)]);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// A branch that stays whole or is removed: its gates are 1 or fade to 0.
#[test]
fn self_check_of_a_branch_that_is_only_removed_names_a_bias_without_gate() -> TestResult {
    let (name, variable) = ("blocks.1.mlp", "blocks.1.mlp.fc1.bias");
    let mut space = square().space()?.removable_branches().only(&[name])?;
    let dimension = space.dimension_mut(name)?;
    let full = dimension.candidates.units();
    dimension.candidates = Candidates::flat(full, vec![full])?.with_removal();
    check(&square(), &space)??.expect_sound()?;
    binding(&mut space, name, variable)?.role = Role::Narrowed;
    match faults(&space)?.as_slice() {
        [Fault::Gates { dimension: found, suspects, .. }] => {
            assert_eq!(found, name);
            assert_eq!(*suspects, [suspect(variable, 0, Advice::Gate)]);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn self_check_with_variable_of_another_block_names_the_right_one() -> TestResult {
    let mut space = square().space()?.only(&["blocks.0.mlp"])?;
    let wrong = "blocks.1.mlp.fc2.weight";
    binding(&mut space, "blocks.0.mlp", "blocks.0.mlp.fc2.weight")?.variable = wrong.into();
    let advice = Advice::BindInstead { variable: "blocks.0.mlp.fc2.weight".into(), axis: 1 };
    assert_eq!(order_suspects(&faults(&space)?, "blocks.0.mlp"), [suspect(wrong, 1, advice)]);
    Ok(())
}

#[test]
fn self_check_with_writer_declared_narrowed_names_it() -> TestResult {
    let mut space = square().space()?;
    let variable = "blocks.0.attn.proj.bias";
    binding(&mut space, "embed", variable)?.role = Role::Narrowed;
    match faults(&space)?.as_slice() {
        [Fault::Gates { suspects, .. }] => {
            assert_eq!(*suspects, [suspect(variable, 0, Advice::Gate)]);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn self_check_of_dimension_without_gate_reports_it() -> TestResult {
    let mut space = square().space()?.only(&["blocks.0.mlp"])?;
    let bindings = &mut space.dimension_mut("blocks.0.mlp")?.bindings;
    bindings.iter_mut().for_each(|binding| binding.role = Role::Narrowed);
    assert_eq!(faults(&space)?, [Fault::NoGate { dimension: "blocks.0.mlp".into() }]);
    Ok(())
}

/// A ViT with a mistake in the code of its `Architecture`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mistaken {
    vit: VitConfig,
    mistake: Mistake,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Mistake {
    /// `resized` ignores the hidden width.
    Ignores,
    /// The attention scale is that of the pruned head dim.
    Rescales,
    /// The cost model has another name for a dimension.
    Misnames,
    /// The cost model leaves out the biases of a layer.
    Miscounts,
    /// `resized` panics.
    Panics,
    /// `resized` returns an error.
    Fails,
    /// The network panics when it is built, at whatever size.
    PanicsInBuild,
}

impl Architecture for Mistaken {
    type Network = VisionTransformer;
    const FAMILY: &'static str = "mistaken";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        assert_ne!(self.mistake, Mistake::PanicsInBuild, "no weights\nin the file");
        self.vit.build(path)
    }

    fn space(&self) -> Result<SearchSpace> {
        self.vit.space()
    }

    fn cost_model(&self) -> CostModel {
        let mut model = self.vit.cost_model();
        match self.mistake {
            Mistake::Misnames => model.macs += Polynomial::units("blocks.0.mpl") * 3i64,
            Mistake::Miscounts => model.params += Polynomial::units("blocks.0.mlp") * -1i64,
            _ => {}
        }
        model
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        match self.mistake {
            Mistake::Panics => panic!("index {} out of\nrange", sizes.len()),
            Mistake::Fails => return Err(Error::Missing { kind: "size", name: "width".into() }),
            _ => {}
        }
        let mut resized = self.clone();
        resized.vit = self.vit.resized(sizes)?;
        for (block, old) in resized.vit.blocks.iter_mut().zip(&self.vit.blocks) {
            match self.mistake {
                Mistake::Ignores => block.hidden_dim = old.hidden_dim,
                Mistake::Rescales => block.scale_dim = block.head_dim,
                _ => {}
            }
        }
        Ok(resized)
    }
}

fn mistaken(mistake: Mistake) -> TestResult<Vec<Fault>> {
    let architecture = Mistaken { vit: square(), mistake };
    let space = architecture.space()?.only(&["blocks.0.attn", "blocks.0.mlp"])?;
    Ok(check(&architecture, &space)??.faults)
}

#[test]
fn self_check_of_resized_that_ignores_a_dimension_reports_the_lengths() -> TestResult {
    let mut found = Vec::new();
    for fault in mistaken(Mistake::Ignores)? {
        match fault {
            Fault::Length { variable, axis, expected: 4, actual: 32, .. } => {
                found.push((variable, axis));
            }
            other => panic!("{other}"),
        }
    }
    let expected = [("fc1.bias", 0), ("fc1.weight", 0), ("fc2.weight", 1)];
    let expected = expected.map(|(name, axis)| (format!("blocks.0.mlp.{name}"), axis));
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn self_check_of_attention_scale_that_follows_pruning_reports_the_logits() -> TestResult {
    let faults = mistaken(Mistake::Rescales)?;
    assert!(!faults.is_empty());
    for fault in faults {
        match fault {
            Fault::Narrowing { variable, axis: 0, channels, .. } => {
                assert_eq!(variable, "blocks.0.attn.qkv.weight");
                assert!(
                    channels < 8,
                    "channels: got {channels}; fewer heads alone do not change the scale"
                );
            }
            other => panic!("{other}"),
        }
    }
    Ok(())
}

#[test]
fn self_check_of_cost_model_with_unknown_dimension_reports_it() -> TestResult {
    let expected = Fault::UnknownCost { dimension: "blocks.0.mpl".into() };
    assert_eq!(mistaken(Mistake::Misnames)?, [expected]);
    Ok(())
}

#[test]
fn self_check_of_cost_model_without_biases_reports_the_parameters() -> TestResult {
    match mistaken(Mistake::Miscounts)?.as_slice() {
        [Fault::Parameters { dimension, expected, actual, .. }] => {
            assert_eq!(dimension, "blocks.0.mlp");
            assert_eq!(expected - actual, 28.0);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn findings_with_faults_are_one_error_with_variable_and_axis() -> TestResult {
    let space = without(square().space()?, "embed", "head.weight")?;
    let error = check(&square(), &space)??.expect_sound();
    let text = error.expect_err("a declaration without a binding").to_string();
    assert!(text.contains("bind axis 1 of head.weight (outer 1"), "{text}");
    Ok(())
}

#[test]
fn self_check_of_resized_that_panics_or_fails_reports_it_with_the_size() -> TestResult {
    for (mistake, words) in [(Mistake::Panics, "index 1 out of"), (Mistake::Fails, "width")] {
        let faults = mistaken(mistake)?;
        assert!(!faults.is_empty());
        for fault in &faults {
            let Fault::Failed { call: "resized", dimension, reason, .. } = fault else {
                return Err(format!("{fault}").into());
            };
            assert!(dimension.starts_with("blocks.0."), "{dimension}");
            assert!(reason.contains(words) && !reason.contains('\n'), "{reason}");
        }
    }
    Ok(())
}

#[test]
fn self_check_of_a_network_that_panics_is_refused() -> TestResult {
    let architecture = Mistaken { vit: square(), mistake: Mistake::PanicsInBuild };
    let refused = check(&architecture, &architecture.space()?)?;
    assert_refused!(refused, Error::Invalid { ref name, ref actual, .. }
        if name == "network in the self-check" && actual.contains("no weights"));
    Ok(())
}

#[test]
fn self_check_of_a_hidden_dimension_declared_as_an_embedding_reports_the_kind() -> TestResult {
    let mut space = square().space()?;
    space.dimension_mut("blocks.0.mlp")?.kind = DimensionKind::Embedding;
    assert_eq!(faults(&space)?, [Fault::Kind { dimension: "blocks.0.mlp".into() }]);
    Ok(())
}

#[test]
fn self_check_with_an_axis_of_another_layer_advises_not_to_bind_it() -> TestResult {
    let mut space = square().space()?.only(&["blocks.0.mlp"])?;
    let other = Binding::narrowed("blocks.1.mlp.fc1.bias", 0);
    space.dimension_mut("blocks.0.mlp")?.bindings.push(other);
    let faults = faults(&space)?;
    let found = order_suspects(&faults, "blocks.0.mlp");
    assert_eq!(found, [suspect("blocks.1.mlp.fc1.bias", 0, Advice::Unbind)]);
    Ok(())
}

#[test]
fn findings_are_printed_one_a_line() -> TestResult {
    let architecture = Mistaken { vit: square(), mistake: Mistake::Ignores };
    let findings = check(&architecture, &architecture.space()?.only(&["blocks.0.mlp"])?)??;
    assert_eq!(findings.to_string().lines().count(), 3, "{findings}");
    let text = findings.expect_sound().err().ok_or("no fault")?.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].ends_with("3 faults") && lines[1].starts_with("- length of axis 0"), "{text}");
    let sound = check(&square(), &square().space()?.only(&["blocks.0.mlp"])?)??;
    assert_eq!(sound.to_string(), "sound: blocks.0.mlp");
    Ok(())
}
