//! Conventions of names that are recognised, and refused.

use super::{data, into, tiny};
use crate::support::TestResult;
use once_for_both::import::{self, ImportError, ImportOptions, Pretrained, Weights};
use once_for_both::models::SwinConfig;
use once_for_both::Error;
use tch::{Device, Kind, Tensor};

/// One-element tensors with these names.
fn named(names: &[&str]) -> Weights {
    let zero = || Tensor::zeros([1], (Kind::Float, Device::Cpu));
    names.iter().map(|name| ((*name).to_owned(), zero())).collect()
}

/// What a checkpoint is recognised as, and the names in the error.
#[track_caller]
fn refused<A: Pretrained>(weights: &Weights, config: &A) -> (Option<&'static str>, Vec<String>) {
    match into(weights, config, &ImportOptions::default()) {
        Err(Error::Import(ImportError::Naming { recognised, found, .. })) => (recognised, found),
        other => panic!("{other:?}"),
    }
}

#[test]
fn import_of_names_of_another_network_is_refused_as_such_with_the_first_names() {
    let projection = "embeddings.patch_embeddings.projection.weight";
    for (words, prefix, names) in [
        ("BEiT", "beit.", &[projection, "encoder.layer.0.lambda_1"][..]),
        ("BEiT", "", &["patch_embed.proj.weight", "blocks.0.attn.relative_position_bias_table"]),
        (
            "PEFT",
            "base_model.model.vit.",
            &[projection, "encoder.layer.0.attention.attention.query.lora_A.weight"],
        ),
        ("PEFT", "base_model.model.", &["classifier.modules_to_save.weight"]),
        ("PEFT", "", &["patch_embed.proj.weight", "blocks.0.attn.qkv.base_layer.weight"]),
        (
            "Swin Transformer V2",
            "",
            &["patch_embed.proj.weight", "layers.0.blocks.0.attn.logit_scale"],
        ),
        (
            "Swin of torchvision",
            "",
            &["features.0.0.weight", "features.1.0.attn.relative_position_bias_table"],
        ),
        (
            "Swin of MMPretrain",
            "",
            &[
                "backbone.patch_embed.projection.weight",
                "backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table",
            ],
        ),
        ("Perception Encoder", "", &["visual.ln_pre.weight", "visual.attn_pool.probe"]),
        ("torchvision", "", &["conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"]),
        ("Once for Both", "module.", &["patch_embed.proj.weight", "patch_embed.score"]),
        ("Once for Both", "", &["patch_embed.proj.weight", "blocks.0.attn.score"]),
        ("vit-pytorch", "", &["to_patch_embedding.1.weight"]),
        ("MMPretrain", "backbone.", &["patch_embed.projection.weight"]),
    ] {
        let full: Vec<String> = names.iter().map(|name| format!("{prefix}{name}")).collect();
        let weights = named(&full.iter().map(String::as_str).collect::<Vec<_>>());
        let (recognised, found) = refused(&weights, &tiny());
        assert!(recognised.is_some_and(|own| own.contains(words)), "{words}: {recognised:?}");
        assert!(found.iter().eq(weights.keys()), "{words}: {found:?}");
        let inspected = import::inspect(&weights, None).map_err(|error| error.to_string());
        assert!(inspected.as_ref().is_err_and(|error| error.contains(words)), "{inspected:?}");
    }
}

#[test]
fn import_of_a_swin_into_a_vit_and_back_is_refused_as_such() -> TestResult {
    for file in ["timm_swin.safetensors", "hf_swin.safetensors", "original_swin.pth"] {
        let (recognised, _) = refused(&import::read(&data(file))?, &tiny());
        assert!(recognised.is_some_and(|words| words.contains("Swin")), "{file}: {recognised:?}");
    }
    for file in ["timm_plain.safetensors", "hf_vit.safetensors"] {
        let (recognised, _) = refused(&import::read(&data(file))?, &SwinConfig::tiny());
        assert!(recognised.is_some_and(|words| words.contains("ViT")), "{file}: {recognised:?}");
    }
    Ok(())
}

#[test]
fn import_of_a_maxvit_is_refused_and_not_taken_for_beit() {
    let table = "stages.0.blocks.0.attn_block.attn.rel_pos.relative_position_bias_table";
    assert_eq!(refused(&named(&["stem.conv1.weight", table]), &tiny()).0, None);
}

#[test]
fn import_of_an_empty_checkpoint_is_refused() {
    assert_eq!(refused(&Weights::new(), &tiny()), (None, vec![]));
}

#[test]
fn refusal_of_names_lists_the_first_five_and_counts_the_others() {
    let text = |names: &[&str]| {
        let refused = into(&named(names), &tiny(), &ImportOptions::default());
        refused.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let none = text(&[]);
    assert!(none.starts_with("names of the checkpoint: got no tensor, expected"), "{none}");
    assert!(!none.contains("rename"), "{none}");
    let five = text(&["a", "b", "c", "d", "e"]);
    assert!(five.contains("got a, b, c, d, e, which the family vit does not know"), "{five}");
    let seven = text(&["a", "b", "c", "d", "e", "f", "g"]);
    assert!(seven.contains("got a, b, c, d, e and 2 more, which the family vit"), "{seven}");
}
