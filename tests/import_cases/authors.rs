//! Names that only the files of the networks' authors have.

use super::family::folder;
use super::{into, HEADS};
use crate::assert_refused;
use crate::support::TestResult;
use once_for_both::import::{self, ImportError, ImportOptions, Weights};
use once_for_both::Error;
use tch::{Device, Kind, Tensor};

fn weights(name: &str) -> TestResult<Weights> {
    Ok(import::read(&folder(name).join("model.safetensors"))?)
}

fn zeros() -> Tensor {
    Tensor::zeros([9, 16], (Kind::Float, Device::Cpu))
}

/// EVA-02 stores them once, and again in every block.
#[test]
fn import_of_eva02_with_tables_of_its_rotary_positions_computes_them() -> TestResult {
    let mut weights = weights("timm_eva02")?;
    let config = import::inspect(&weights, Some(HEADS))?;
    let tables = [
        "blocks.0.attn.rope.freqs_cos",
        "blocks.0.attn.rope.freqs_sin",
        "rope.freqs_cos",
        "rope.freqs_sin",
    ];
    weights.extend(tables.map(|name| (name.to_owned(), zeros())));
    assert_eq!(import::inspect(&weights, Some(HEADS))?, config);
    let strict = ImportOptions { strict: true, ..ImportOptions::default() };
    let report = into(&weights, &config, &strict)?.report;
    assert!(tables.iter().all(|name| report.computed.contains(&(*name).into())), "{report:?}");
    Ok(())
}

#[test]
fn import_of_tables_of_rotary_positions_into_a_vit_without_them_is_refused() -> TestResult {
    let mut weights = weights("timm_deit3")?;
    let config = import::inspect(&weights, Some(HEADS))?;
    weights.insert("rope.freqs_cos".into(), zeros());
    assert_refused!(
        into(&weights, &config, &ImportOptions::default()),
        Error::Import(ImportError::Unplaced { name, part: Some(words) })
            if name == "rope.freqs_cos" && words.contains("VitConfig::rope")
    );
    Ok(())
}

/// Training checkpoints of DINOv2 have `blocks.CHUNK.BLOCK`, the block counted over all chunks.
#[test]
fn import_of_blocks_in_chunks_gives_the_weights_of_the_blocks() -> TestResult {
    let plain = weights("dinov2_registers")?;
    let chunked: Weights = plain
        .iter()
        .map(|(name, tensor)| {
            let name = name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1.");
            (name, tensor.shallow_clone())
        })
        .collect();
    assert!(chunked.contains_key("blocks.1.1.norm1.weight"));
    let config = import::inspect(&plain, Some(HEADS))?;
    assert_eq!(import::inspect(&chunked, Some(HEADS))?, config);
    let [expected, actual] = [plain, chunked]
        .map(|weights| into(&weights, &config, &ImportOptions::default()).map(|own| own.weights));
    assert_eq!(actual?, expected?);
    Ok(())
}
