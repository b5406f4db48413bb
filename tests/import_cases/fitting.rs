//! Import into networks that differ from the checkpoint's.

use super::{data, tiny};
use crate::assert_refused;
use crate::support::{numbers, tensor, TestResult, Tolerance};
use approx::assert_abs_diff_eq;
use once_for_both::import::{self, Import, ImportError, ImportOptions, ImportReport, Weights};
use once_for_both::models::{BlockConfig, VitConfig};
use once_for_both::{Error, Result};
use tch::{Kind, Tensor};

const PLAIN: &str = "timm_plain.safetensors";
const DISTILLED: &str = "timm_distilled.safetensors";

fn read(file: &str) -> Result<Weights> {
    import::read(&data(file))
}

fn load(file: &str, config: &VitConfig) -> Result<Import> {
    super::load(&data(file), config, &ImportOptions::default())
}

fn strict(file: &str, config: &VitConfig) -> Result<Import> {
    super::load(&data(file), config, &ImportOptions { strict: true, ..Default::default() })
}

fn into(weights: &Weights) -> Result<Import> {
    super::into(weights, &tiny(), &ImportOptions::default())
}

fn names(report: &ImportReport) -> Vec<&str> {
    report.resized.iter().map(|resized| resized.name.as_str()).collect()
}

#[test]
fn import_at_another_resolution_equals_timm_resample_abs_pos_embed() -> TestResult {
    let expected = read("adapted.safetensors")?;
    for (file, kind, config) in
        [(PLAIN, "plain", tiny()), (DISTILLED, "distilled", tiny().distilled())]
    {
        for image in [24, 48, 56] {
            let what = format!("{kind}.positions.{image}");
            let import = load(file, &config.clone().input(image, 3, 8))?;
            assert_eq!(names(&import.report), ["pos_embed"], "{what}");
            let expected = tensor(&expected, &what)?;
            let actual = tensor(&import.weights, "pos_embed")?;
            Tolerance::of_scale(1e-6, expected)?.check(&what, actual, expected)?;
        }
    }
    Ok(())
}

#[test]
fn import_with_other_channels_equals_timm_adapt_input_conv() -> TestResult {
    let expected = read("adapted.safetensors")?;
    for channels in [1, 2, 4, 8] {
        let what = format!("plain.channels.{channels}");
        let import = load(PLAIN, &tiny().input(32, channels, 8))?;
        assert_eq!(names(&import.report), ["patch_embed.proj.weight"], "{what}");
        let actual = tensor(&import.weights, "patch_embed.proj.weight")?;
        let expected = tensor(&expected, &what)?;
        Tolerance::of_scale(1e-6, expected)?.check(&what, actual, expected)?;
    }
    Ok(())
}

#[test]
fn import_of_a_checkpoint_without_three_channels_is_refused() -> TestResult {
    let mut weights = read(PLAIN)?;
    weights.insert("patch_embed.proj.weight".into(), Tensor::zeros([24, 4, 8, 8], float()));
    assert_refused!(into(&weights), Error::Import(ImportError::Channels { from: 4, to: 3, .. }));
    Ok(())
}

fn float() -> (Kind, tch::Device) {
    (Kind::Float, tch::Device::Cpu)
}

#[test]
fn import_with_other_classes_initialises_the_head_afresh() -> TestResult {
    let config = tiny().classes(400);
    let import = load(PLAIN, &config)?;
    let replaced: Vec<_> = import.report.replaced.iter().map(|r| (&*r.name, &r.to[..])).collect();
    assert_eq!(replaced, [("head.bias", &[400][..]), ("head.weight", &[400, 24])]);
    assert_eq!(import.report.replaced[1].from, [5, 24]);
    let weight = numbers(tensor(&import.weights, "head.weight")?)?;
    let variance = weight.iter().map(|w| w * w).sum::<f64>() / weight.len() as f64;
    assert_abs_diff_eq!(variance.sqrt(), 0.02, epsilon = 0.001);
    assert!(numbers(tensor(&import.weights, "head.bias")?)?.iter().all(|&b| b == 0.0));

    // The head is a function of the seed.
    let seeded = |seed| -> TestResult<Vec<f64>> {
        let options = ImportOptions { seed, ..Default::default() };
        let import = super::load(&data(PLAIN), &config, &options)?;
        numbers(tensor(&import.weights, "head.weight")?)
    };
    assert!(seeded(0)? == weight, "seed 0 gave two heads");
    assert!(seeded(1)? != weight, "seeds 0 and 1 gave one head");
    Ok(())
}

#[test]
fn import_of_a_distilled_checkpoint_into_a_plain_vit_skips_its_token() -> TestResult {
    let import = load(DISTILLED, &tiny())?;
    let report = &import.report;
    let skipped = ["dist_token", "head_dist.bias", "head_dist.weight", "pos_embed[:, 1]"];
    assert_eq!(report.skipped, skipped);
    assert_eq!(names(report), ["pos_embed"]);
    let source = read(DISTILLED)?;
    let table = tensor(&source, "pos_embed")?;
    let kept = Tensor::cat(&[table.narrow(1, 0, 1), table.narrow(1, 2, 16)], 1);
    assert_eq!(tensor(&import.weights, "pos_embed")?, &kept);
    Ok(())
}

#[test]
fn import_of_a_plain_checkpoint_into_a_distilled_vit_initialises_its_token_afresh() -> TestResult {
    let import = load(PLAIN, &tiny().distilled())?;
    let missing = ["dist_token", "head_dist.bias", "head_dist.weight", "pos_embed[:, 1]"];
    assert_eq!(import.report.missing, missing);
    let source = read(PLAIN)?;
    let (table, new) = (tensor(&source, "pos_embed")?, tensor(&import.weights, "pos_embed")?);
    assert_eq!(new.narrow(1, 0, 1), table.narrow(1, 0, 1));
    assert_eq!(new.narrow(1, 2, 16), table.narrow(1, 1, 16));
    Ok(())
}

#[test]
fn import_without_a_head_initialises_one_afresh() -> TestResult {
    let source = read("hf_vit.safetensors")?;
    // As ViTModel has it: no prefix, no classifier.
    let bare: Weights = source
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("vit.")?.into(), tensor.copy())))
        .collect();
    let import = into(&bare)?;
    assert_eq!(import.report.missing, ["head.bias", "head.weight"]);
    assert_eq!(import::inspect(&bare, Some(3))?.classes, 1000);
    Ok(())
}

#[test]
fn strict_import_of_anything_but_loaded_is_refused_by_name_and_fate() -> TestResult {
    let cases = [
        (PLAIN, tiny().input(48, 3, 8), "pos_embed", "resized"),
        (PLAIN, tiny().classes(7), "head.bias", "replaced"),
        (DISTILLED, tiny(), "dist_token", "skipped"),
        ("hf_deit.safetensors", tiny().distilled(), "head_dist.bias", "missing"),
    ];
    for (file, config, culprit, expected) in cases {
        match strict(file, &config) {
            Err(Error::Import(ImportError::Strict { name, fate })) => {
                assert_eq!((&*name, fate), (culprit, expected), "{file}");
            }
            other => panic!("{file}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn import_into_another_width_is_refused_with_both_shapes() {
    let mut config = tiny();
    (config.embed_dim, config.blocks) = (30, vec![BlockConfig::new(3, 10, 48); 2]);
    assert_refused!(
        load(PLAIN, &config),
        Error::Shape { name, expected, actual, .. }
            if name == "blocks.0.attn.proj.bias" && expected == [30] && actual == [24]
    );
}

#[test]
fn import_into_another_attention_width_is_refused_with_both_shapes() {
    let mut config = tiny();
    config.blocks[1] = BlockConfig::new(2, 8, 48);
    assert_refused!(
        load(PLAIN, &config),
        Error::Shape { name, expected, actual, .. }
            if name == "blocks.1.attn.proj.weight" && expected == [24, 16] && actual == [24, 24]
    );
    // The message has the checkpoint's name beside the variable's.
    let refused = load("hf_vit.safetensors", &config).map(|_| ()).map_err(|e| e.to_string());
    let expected = "import: shape of blocks.1.attn.proj.weight \
                    (vit.encoder.layer.1.attention.output.dense.weight): \
                    got [24, 24], expected [24, 16]";
    assert_eq!(refused, Err(expected.into()));
}

#[test]
fn import_with_a_missing_variable_is_refused_by_name() -> TestResult {
    let mut weights = read(PLAIN)?;
    weights.remove("blocks.1.mlp.fc2.bias");
    assert_refused!(
        into(&weights),
        Error::Import(ImportError::Missing { variable }) if variable == "blocks.1.mlp.fc2.bias"
    );
    // A head without its bias is not initialised afresh.
    let mut weights = read(PLAIN)?;
    weights.remove("head.bias");
    assert_refused!(into(&weights), Error::Import(ImportError::Missing { .. }));
    let mut weights = read("hf_vit.safetensors")?;
    weights.remove("vit.encoder.layer.0.attention.attention.key.weight");
    assert_refused!(
        into(&weights),
        Error::Import(ImportError::Missing { variable })
            if variable == "key of blocks.0.attn.qkv.weight"
    );
    Ok(())
}

/// LayerScale or a third block in the checkpoint alone.
#[test]
fn import_of_a_tensor_without_a_variable_is_refused_unless_skipped() -> TestResult {
    for name in ["blocks.0.ls1.gamma", "blocks.2.norm1.weight"] {
        let mut weights = read(PLAIN)?;
        weights.insert(name.into(), Tensor::zeros([24], float()));
        assert_refused!(
            into(&weights),
            Error::Import(ImportError::Unplaced { name: culprit, .. }) if culprit == name
        );
        let options = ImportOptions { skip: vec![name.into()], ..Default::default() };
        assert_eq!(super::into(&weights, &tiny(), &options)?.report.skipped, [name]);
    }
    Ok(())
}

/// timm's names count as unknown among those of transformers.
#[test]
fn import_of_an_unknown_transformers_name_is_refused() -> TestResult {
    for name in ["decoder.0.bias", "norm.extra.bias", "head_dist.bias", "vit.layers.x.norm.bias"] {
        let mut weights = read("hf_vit.safetensors")?;
        weights.insert(name.into(), Tensor::zeros([24], float()));
        assert_refused!(
            into(&weights),
            Error::Import(ImportError::Unplaced { name: culprit, .. }) if culprit == name
        );
        assert_eq!(import::inspect(&weights, Some(3))?.embed_dim, 24);
    }
    Ok(())
}

#[test]
fn import_of_two_tensors_for_one_variable_is_refused() -> TestResult {
    for name in ["classifier.bias", "vit.encoder.layer.0.attention.attention.key.bias"] {
        let mut weights = read("hf_vit.safetensors")?;
        let twin = name.replace("vit.", "deit.").replace("classifier", "cls_classifier");
        weights.insert(twin, tensor(&weights, name)?.copy());
        assert_refused!(into(&weights), Error::Import(ImportError::Ambiguous { .. }));
    }
    Ok(())
}

#[test]
fn import_of_query_key_and_value_of_different_shapes_is_refused() -> TestResult {
    let mut weights = read("hf_vit.safetensors")?;
    let name = "vit.encoder.layer.0.attention.attention.value.weight";
    weights.insert(name.into(), Tensor::zeros([16, 24], float()));
    assert_refused!(
        into(&weights),
        Error::Shape { name: culprit, expected, actual, .. }
            if culprit == name && expected == [24, 24] && actual == [16, 24]
    );
    Ok(())
}

#[test]
fn import_of_integer_weights_is_refused() -> TestResult {
    let mut weights = read(PLAIN)?;
    weights.insert("norm.bias".into(), Tensor::zeros([24], (Kind::Int64, tch::Device::Cpu)));
    assert_refused!(
        into(&weights),
        Error::Import(ImportError::NotFloat { name, .. }) if name == "norm.bias"
    );
    Ok(())
}

#[test]
fn import_of_names_of_neither_library_is_refused() {
    let weights = Weights::from([("conv1.weight".to_owned(), Tensor::zeros([1], float()))]);
    assert_refused!(
        into(&weights),
        Error::Import(ImportError::Naming { found, .. }) if found == ["conv1.weight"]
    );
}

#[test]
fn import_of_a_position_table_that_is_not_square_is_refused() -> TestResult {
    let mut weights = read(PLAIN)?;
    weights.insert("pos_embed".into(), Tensor::zeros([1, 15, 24], float()));
    let expected =
        |error: &ImportError| matches!(error, ImportError::Positions { tokens: 15, prefix: 1, .. });
    assert_refused!(into(&weights), Error::Import(error) if expected(&error));
    assert_refused!(import::inspect(&weights, Some(3)), Error::Import(error) if expected(&error));
    Ok(())
}

/// The row of its class token would be initialised afresh.
#[test]
fn import_of_positions_of_patches_into_a_network_with_those_of_all_tokens_is_refused() -> TestResult
{
    let mut weights = read(PLAIN)?;
    weights.insert("pos_embed".into(), Tensor::zeros([1, 16, 24], float()));
    let expected = |error: &ImportError| matches!(error, ImportError::Positions { .. });
    assert_refused!(into(&weights), Error::Import(error) if expected(&error));
    let positions = once_for_both::models::PositionEmbedding::Patches;
    assert_eq!(import::inspect(&weights, Some(3))?.positions, positions);
    Ok(())
}

#[test]
fn inspect_with_heads_that_do_not_divide_the_attention_width_is_refused() -> TestResult {
    let weights = read(PLAIN)?;
    for heads in [None, Some(5), Some(0)] {
        let refused = import::inspect(&weights, heads);
        assert_refused!(refused, Error::Invalid { name, .. } if name == "heads");
    }
    assert_eq!(import::inspect(&weights, Some(6))?.blocks, vec![BlockConfig::new(6, 4, 48); 2]);
    Ok(())
}

#[test]
fn import_report_through_json_is_unchanged() -> TestResult {
    let report = load(DISTILLED, &tiny().classes(7).input(48, 3, 8))?.report;
    let json = serde_json::to_string(&report)?;
    assert_eq!(serde_json::from_str::<ImportReport>(&json)?, report);
    Ok(())
}
