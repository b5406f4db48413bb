//! What a checkpoint file is, and what the import makes of it.

use super::inspect::vit;
use super::inspect_swin::swin;
use super::named::named;
use super::{into, open, Assumption, Checkpoint, ImportOptions, ImportReport, KnownProperties};
use crate::error::ImportError;
use crate::models::{SwinConfig, VitConfig};
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What a checkpoint file is: format, entry, naming, prefix, network, and what was assumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The network that the checkpoint was saved from.
    pub network: KnownNetwork,
    /// Number of tensors in the checkpoint.
    pub tensors: usize,
    /// Number of elements of all tensors.
    pub elements: u64,
    /// Number of tensors by element type, such as `Float` or `BFloat16`.
    pub types: BTreeMap<String, usize>,
    /// Result of the import into that network. [`source`](ImportReport::source) has the format, and
    /// says whether the weights are those of an EMA; `naming` and `prefix` are those recognised;
    /// `assumed` lists each property that no tensor shows, with the value that was assumed.
    pub report: ImportReport,
}

/// The configuration of a network that was recognised by names and shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", content = "config", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KnownNetwork {
    /// A ViT or DeiT.
    Vit(VitConfig),
    /// A Swin.
    Swin(SwinConfig),
}

/// Reads a checkpoint, recognises its network and imports it there: returns what was found on the
/// way. It reads, allocates and refuses as [`load`](super::load) with the configuration that is
/// found. `heads` is that of [`inspect`](super::inspect()); what else no tensor of a ViT shows is
/// read from `config.json` in the folder of the checkpoint, as transformers and timm write it.
///
/// # Errors
/// Those of [`open`], [`inspect`](super::inspect()), [`inspect_swin`](super::inspect_swin()) and
/// [`into`].
pub fn inspect_file(
    path: &Path,
    options: &ImportOptions,
    heads: Option<i64>,
) -> Result<Inspection> {
    let Checkpoint { weights, source } = open(path, options)?;
    let beside = KnownProperties::beside(path)?.unwrap_or_default();
    let known = KnownProperties { heads: heads.or(beside.heads), ..beside };
    let network = recognise(&weights, options, &known)?;
    let import = match &network {
        KnownNetwork::Vit(config) => into(&weights, config, options)?,
        KnownNetwork::Swin(config) => into(&weights, config, options)?,
    };
    let mut report = import.report;
    report.source = Some(source);
    if matches!(network, KnownNetwork::Vit(_)) {
        beside.say_source(&mut report.assumed, "config.json");
        KnownProperties::of_heads(heads).say_source(&mut report.assumed, "the option heads");
    }
    if report.missing.iter().any(|name| matches!(&**name, "head.weight" | "head.fc.weight")) {
        report.assumed.push(Assumption::new("classes", "1000, as there is no head"));
    }
    let mut types = BTreeMap::new();
    for tensor in weights.values() {
        *types.entry(format!("{:?}", tensor.kind())).or_insert(0) += 1;
    }
    let elements = weights.values().map(|tensor| tensor.numel() as u64).sum();
    Ok(Inspection { network, tensors: weights.len(), elements, types, report })
}

fn recognise(
    weights: &Weights,
    options: &ImportOptions,
    known: &KnownProperties,
) -> Result<KnownNetwork> {
    let refused = match named::<VitConfig>(weights, options) {
        Ok(named) => return Ok(KnownNetwork::Vit(vit(&named, known)?)),
        Err(Error::Import(refused @ ImportError::Naming { .. })) => refused,
        Err(other) => return Err(other),
    };
    match named::<SwinConfig>(weights, options) {
        Ok(named) => Ok(KnownNetwork::Swin(swin(&named)?)),
        Err(Error::Import(ImportError::Naming { .. })) => Err(refused.into()),
        Err(other) => Err(other),
    }
}
