//! Import of Swin checkpoints of timm, of transformers and of the original.

use super::{data, forward, into, load};
use crate::assert_refused;
use crate::support::{tensor, TestResult, Tolerance};
use once_for_both::error::ImportError;
use once_for_both::import::{self, ImportOptions, ImportReport, Naming};
use once_for_both::models::{BlockConfig, SwinConfig, VitConfig};
use once_for_both::Error;

/// The network that `make.py` builds.
pub(super) fn tiny() -> SwinConfig {
    let mut config = SwinConfig::uniform(12, &[2, 1], 2).input(16, 3, 2).window(4).classes(5);
    for stage in &mut config.stages {
        for block in &mut stage.blocks {
            *block = BlockConfig::new(block.heads, block.head_dim, 2 * stage.embed_dim);
        }
    }
    config
}

/// Loads and runs `file`; compares the logits with those of the library that wrote it.
fn check(file: &str, naming: Naming) -> TestResult<ImportReport> {
    let path = data(file);
    let import = load(&path, &tiny(), &ImportOptions::default())?;
    assert_eq!(import.report.naming, naming, "{file}");
    assert_eq!(import.report.loaded.len(), import.weights.len(), "{file}");
    let answers = import::read(&path.with_extension("expected.safetensors"))?;
    let logits = forward(&tiny(), &import.weights, tensor(&answers, "images")?)?.prediction()?;
    let expected = tensor(&answers, "logits")?;
    Tolerance::of_scale(1e-5, expected)?.check(file, &logits, expected)?;
    Ok(import.report)
}

#[test]
fn import_of_timm_swin_gives_timm_logits() -> TestResult {
    assert!(check("timm_swin.safetensors", Naming::Timm)?.is_exact());
    Ok(())
}

#[test]
fn import_of_transformers_swin_gives_its_logits() -> TestResult {
    assert!(check("hf_swin.safetensors", Naming::Transformers)?.is_exact());
    Ok(())
}

/// The original merges patches at the end of a stage, and stores constants of its windows.
#[test]
fn import_of_the_original_swin_gives_its_logits_and_computes_its_constants() -> TestResult {
    let report = check("original_swin.pth", Naming::OriginalSwin)?;
    let blocks = ["0.blocks.0", "0.blocks.1", "1.blocks.0"];
    let mut computed = blocks.map(|b| format!("layers.{b}.attn.relative_position_index")).to_vec();
    computed.push("layers.0.blocks.1.attn_mask".into());
    computed.sort();
    assert_eq!(report.computed, computed);
    assert!(report.is_exact());
    Ok(())
}

#[test]
fn import_of_swin_with_other_classes_and_channels_fits_and_other_windows_are_refused() -> TestResult
{
    let weights = import::read(&data("timm_swin.safetensors"))?;
    let options = ImportOptions::default();
    let import = into(&weights, &tiny().classes(3).input(16, 1, 2), &options)?;
    let names = |changed: &[import::Resized]| -> Vec<String> {
        changed.iter().map(|resized| resized.name.clone()).collect()
    };
    assert_eq!(names(&import.report.replaced), ["head.fc.bias", "head.fc.weight"]);
    assert_eq!(names(&import.report.resized), ["patch_embed.proj.weight"]);
    assert_refused!(
        into(&weights, &tiny().window(2), &options),
        Error::Shape { name, .. } if name.ends_with("relative_position_bias_table")
    );
    // Patch merging at the end of a stage without a successor.
    let mut strange = import::read(&data("original_swin.pth"))?;
    let norm = tensor(&weights, "norm.weight")?.shallow_clone();
    strange.insert(format!("layers.{}.downsample.norm.weight", usize::MAX), norm);
    assert_refused!(
        into(&strange, &tiny(), &options),
        Error::Import(ImportError::Unplaced { name, .. }) if name.starts_with("layers.1844")
    );
    // A Swin checkpoint for a ViT, and the other way round.
    let vit = VitConfig::uniform(12, 1, 2).input(16, 3, 2).classes(5);
    assert_refused!(into(&weights, &vit, &options), Error::Import(ImportError::Naming { .. }));
    let vit = import::read(&data("timm_plain.safetensors"))?;
    assert_refused!(into(&vit, &tiny(), &options), Error::Import(ImportError::Naming { .. }));
    Ok(())
}
