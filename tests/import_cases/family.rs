//! Today's ViTs as timm, transformers and their authors write them: `make_family.py` wrote a folder of
//! each, which is recognised and gives the outputs of the library that wrote it.

use super::super::support::{tensor, test_device, TestResult, Tolerance};
use super::{alone, data, into, network, HEADS};
use once_for_both::cost::Metric;
use once_for_both::import::{self, ImportOptions, KnownNetwork, Naming};
use once_for_both::models::{
    Activation, Architecture, AttentionPool, BlockConfig, Mlp, Network, Norm, Pooling,
    PositionEmbedding, QkvBias, Rope, VisionTransformer, VitConfig,
};
use std::path::PathBuf;

/// Tolerance as a share of the largest output.
pub(super) const SHARE: f64 = 1e-5;
/// LayerScale of a network that is recognised.
pub(super) const SCALE: f64 = 1e-5;

/// The folder of a network that `make_family.py` wrote.
pub(super) fn folder(name: &str) -> PathBuf {
    data("family").join(name)
}

/// The network that most of them have, or differ from in an option.
pub(super) fn plain() -> VitConfig {
    VitConfig {
        blocks: vec![BlockConfig::new(HEADS, 4, 24); 2],
        ..VitConfig::uniform(12, 2, HEADS).input(12, 3, 4).classes(5)
    }
}

/// The same with one block of heads of 16 channels: their rotary positions have four frequencies.
fn rotary() -> VitConfig {
    VitConfig {
        blocks: vec![BlockConfig::new(HEADS, 16, 24)],
        ..VitConfig::uniform(48, 1, HEADS).input(12, 3, 4).classes(5)
    }
}

/// Reads, recognises, imports and runs a network of one folder.
fn check(name: &str, naming: Naming, unused: usize, expected: &VitConfig) -> TestResult {
    let path = folder(name).join("model.safetensors");
    let has_config = folder(name).join("config.json").is_file();
    let found = {
        let _alone = alone();
        import::inspect_file(&path, &ImportOptions::default(), Some(HEADS))?
    };
    let KnownNetwork::Vit(config) = found.network else { panic!("{name}: not a ViT") };
    assert_eq!(config, *expected, "{name}");
    let import = into(&import::read(&path)?, &config, &ImportOptions::default())?;
    let report = &import.report;
    assert_eq!((report.naming, report.unused.len()), (naming, unused), "{name}: {report:?}");
    assert!(report.skipped.is_empty(), "{name}: {report:?}");
    assert!(report.resized.is_empty() && report.replaced.is_empty(), "{name}: {report:?}");

    check_costs(name, &config)?;
    let answers = import::read(&folder(name).join("expected.safetensors"))?;
    let images = tensor(&answers, "images")?.f_to_device(test_device())?;
    let (network, key) = match answers.contains_key("pooled") {
        true => (without_head(&config, import.weights)?, "pooled"),
        false => (network(&config, &import.weights)?, "logits"),
    };
    let (key, actual) = match answers.contains_key(key) {
        true => (key, network.forward(&images, false)?.prediction()?),
        false => ("features", network.features(&images, None, false)?),
    };
    let headless = ["head.bias", "head.weight"];
    assert_eq!(report.missing, &headless[..if key == "logits" { 0 } else { 2 }], "{name}");
    let answer = tensor(&answers, key)?;
    Tolerance::of_scale(SHARE, answer)?.check(name, &actual, answer)?;
    let sources = found.report.assumed.iter().filter(|own| own.property == "pooling");
    let from_file = sources.filter(|own| own.source.as_deref() == Some("config.json")).count();
    assert!(has_config || from_file == 0, "{name}");
    Ok(())
}

/// MACs by torch's counter, and parameters, of a network of timm.
fn check_costs(name: &str, config: &VitConfig) -> TestResult {
    #[derive(serde::Deserialize)]
    struct Costs {
        macs: f64,
        params: f64,
    }
    let path = folder(name).join("costs.json");
    if !path.is_file() {
        assert!(!name.starts_with("timm_"), "{name} has no costs");
        return Ok(());
    }
    let costs: Costs = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let model = config.cost_model();
    assert_eq!(model.dense_cost(Metric::Macs)?, costs.macs, "{name}");
    assert_eq!(model.dense_cost(Metric::Params)?, costs.params, "{name}");
    Ok(())
}

/// The network with the identity as its head.
fn without_head(config: &VitConfig, mut weights: import::Weights) -> TestResult<VisionTransformer> {
    let width = config.embed_dim;
    let float = (tch::Kind::Float, tch::Device::Cpu);
    weights.insert("head.weight".into(), tch::Tensor::f_eye(width, float)?);
    weights.insert("head.bias".into(), tch::Tensor::f_zeros([width], float)?);
    network(&config.clone().classes(width), &weights)
}

fn check_timm(name: &str, expected: &VitConfig) -> TestResult {
    check(name, Naming::Timm, 0, expected)
}

#[test]
fn import_of_timm_deit_iii_gives_its_logits() -> TestResult {
    let positions = PositionEmbedding::Patches;
    check_timm("timm_deit3", &VitConfig { positions, ..plain().layer_scale(SCALE) })
}

#[test]
fn import_of_timm_vits_with_average_pooling_gives_their_logits() -> TestResult {
    check_timm("timm_avg", &plain().pooling(Pooling::MeanNorm))?;
    let relu = VitConfig { activation: Activation::Relu, ..plain().pooling(Pooling::Mean) };
    check_timm("timm_avg_no_fc_norm", &relu)
}

#[test]
fn import_of_timm_vits_with_registers_gives_their_logits() -> TestResult {
    let averaged = VitConfig {
        class_token: false,
        registers: 4,
        positions: PositionEmbedding::Patches,
        ..plain().layer_scale(SCALE).pooling(Pooling::MeanNorm)
    };
    check_timm("timm_reg4_gap", &averaged)?;
    check_timm("timm_registers_with_positions", &VitConfig { registers: 2, ..plain() })?;
    let gated = VitConfig {
        registers: 4,
        positions: PositionEmbedding::Patches,
        mlp: Mlp::SwiGlu,
        ..plain().layer_scale(SCALE)
    };
    check_timm("timm_dinov2_reg4_swiglu", &gated)
}

#[test]
fn import_of_timm_clip_tower_gives_its_logits() -> TestResult {
    let clip = VitConfig {
        pre_norm: true,
        patch_bias: false,
        norm_eps: 1e-5,
        activation: Activation::QuickGelu,
        ..plain()
    };
    check_timm("timm_clip_quickgelu", &clip)
}

#[test]
fn import_of_timm_vits_with_norms_of_queries_and_keys_gives_their_logits() -> TestResult {
    let layer = VitConfig { qk_norm: Some(Norm::Layer), qkv_bias: QkvBias::None, ..plain() };
    check_timm("timm_qk_norm", &layer)?;
    let rms = VitConfig {
        class_token: false,
        norm: Norm::Rms,
        qk_norm: Some(Norm::Rms),
        mlp: Mlp::SwiGlu,
        ..plain().pooling(Pooling::MeanNorm)
    };
    check_timm("timm_rms_swiglu", &rms)
}

#[test]
fn import_of_timm_vit_with_the_tanh_gelu_of_its_config_gives_its_logits() -> TestResult {
    check_timm("timm_gelu_tanh", &VitConfig { activation: Activation::GeluTanh, ..plain() })
}

#[test]
fn import_of_timm_vit_with_wide_patches_gives_its_logits() -> TestResult {
    check_timm("timm_wide_patches", &plain().rectangular([12, 6], [4, 2]))
}

#[test]
fn import_of_transformers_dinov2_gives_its_logits() -> TestResult {
    let dino = plain().layer_scale(SCALE).pooling(Pooling::ClassAndMean);
    // The mask token is unused.
    check("hf_dinov2", Naming::Transformers, 1, &dino)?;
    let mut gated = VitConfig { mlp: Mlp::SwiGlu, ..dino.clone() };
    gated.blocks.iter_mut().for_each(|block| block.hidden_dim = 16);
    check("hf_dinov2_swiglu", Naming::Transformers, 1, &gated)?;
    let backbone = plain().layer_scale(SCALE).classes(1000);
    check("hf_dinov2_backbone", Naming::Transformers, 1, &backbone)
}

/// The class token has a position and registers have none: it is added to the token.
#[test]
fn import_of_dinov2_with_registers_adds_the_position_to_the_class_token() -> TestResult {
    let registers = VitConfig {
        registers: 4,
        positions: PositionEmbedding::Patches,
        ..plain().layer_scale(SCALE)
    };
    let head = registers.clone().pooling(Pooling::ClassAndMean);
    check("hf_dinov2_registers", Naming::Transformers, 1, &head)?;
    let mut gated = VitConfig { mlp: Mlp::SwiGlu, ..registers.classes(1000) };
    gated.blocks.iter_mut().for_each(|block| block.hidden_dim = 12);
    check("dinov2_registers", Naming::Timm, 1, &gated)
}

#[test]
fn import_of_clip_towers_gives_their_embeddings() -> TestResult {
    let clip = VitConfig {
        pre_norm: true,
        patch_bias: false,
        head_bias: false,
        norm_eps: 1e-5,
        activation: Activation::QuickGelu,
        ..plain()
    };
    check("hf_clip", Naming::Clip, 0, &clip)?;
    // The text tower, its projection and the scale of the logits are unused.
    check("openai_clip", Naming::OpenClip, 3, &clip)
}

#[test]
fn import_of_transformers_mae_gives_the_features_of_its_encoder() -> TestResult {
    let path = folder("hf_mae").join("model.safetensors");
    let tensors = import::read(&path)?;
    let decoder = tensors.keys().filter(|name| name.starts_with("decoder.")).count();
    let config = VitConfig { norm_eps: 1e-12, ..plain().classes(1000) };
    check("hf_mae", Naming::Transformers, decoder, &config)
}

/// Rotary positions of EVA-02, interleaved, beside a table of positions.
#[test]
fn import_of_timm_eva_and_eva02_gives_their_logits() -> TestResult {
    let of_eva = |plain: VitConfig| VitConfig {
        qkv_bias: QkvBias::QueryValue,
        ..plain.pooling(Pooling::MeanNorm)
    };
    check_timm("timm_eva", &of_eva(plain()))?;
    let eva02 = VitConfig {
        mlp: Mlp::SwiGlu,
        rope: Some(Rope::Grid { base: 10_000.0, reference: 16 }),
        ..of_eva(rotary())
    };
    check_timm("timm_eva02", &eva02)
}

/// Rotary positions whose pairs are half a head apart.
#[test]
fn import_of_dinov3_gives_its_logits_and_features() -> TestResult {
    let dino = VitConfig {
        registers: 4,
        positions: PositionEmbedding::None,
        qkv_bias: QkvBias::None,
        rope: Some(Rope::Normalised { base: 100.0 }),
        norm_eps: 1e-5,
        ..rotary().layer_scale(SCALE)
    };
    check_timm("timm_dinov3", &dino)?;
    let biased = VitConfig { qkv_bias: QkvBias::QueryValue, ..dino };
    let gated = VitConfig { mlp: Mlp::SwiGlu, ..biased.clone() };
    check_timm("timm_dinov3_plus_qkvb", &gated)?;
    check("hf_dinov3", Naming::Dinov3, 1, &biased.classes(1000))?;
    check("hf_dinov3_plus", Naming::Dinov3, 1, &gated.classes(1000))
}

#[test]
fn import_of_siglip_gives_its_logits_and_pooled_features() -> TestResult {
    let siglip = VitConfig {
        class_token: false,
        activation: Activation::GeluTanh,
        ..plain().pooling(Pooling::Attention(AttentionPool::new(12, HEADS, 24)))
    };
    check_timm("timm_siglip", &siglip)?;
    check("hf_siglip", Naming::Clip, 0, &siglip.classes(1000))
}

/// The table of positions is resized as timm does: rows of tokens before the patches stay, or are added
/// to their token.
#[test]
fn import_at_another_resolution_gives_what_timm_gives() -> TestResult {
    for (name, is_headless) in [
        ("timm_deit3", false),
        ("timm_registers_with_positions", false),
        ("dinov2_registers", true),
    ] {
        let weights = import::read(&folder(name).join("model.safetensors"))?;
        let config = import::inspect(&weights, Some(HEADS))?.rectangular([16, 20], [4, 4]);
        let import = into(&weights, &config, &ImportOptions::default())?;
        let resized: Vec<&str> =
            import.report.resized.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(resized, ["pos_embed"], "{name}");
        let answers = import::read(&folder(name).join("larger.safetensors"))?;
        let images = tensor(&answers, "images")?.f_to_device(test_device())?;
        let network = network(&config, &import.weights)?;
        let actual = match is_headless {
            true => network.features(&images, None, false)?,
            false => network.forward(&images, false)?.prediction()?,
        };
        let answer = tensor(&answers, "output")?;
        Tolerance::of_scale(SHARE, answer)?.check(name, &actual, answer)?;
    }
    Ok(())
}
