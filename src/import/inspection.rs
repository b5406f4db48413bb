//! What a checkpoint file is, and what the import makes of it.

use super::inspect::vit;
use super::inspect_swin::swin;
use super::named::named_alike;
use super::{
    into, open, Assumption, Checkpoint, Import, ImportOptions, ImportReport, KnownProperties,
};
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
/// found. `heads` is that of [`inspect`](super::inspect()); what else no tensor shows is
/// read from `config.json` in the folder of the checkpoint, as transformers and timm write it, and from
/// OpenCLIP's `open_clip_config.json`.
///
/// # Errors
/// Those of [`open`], [`inspect`](super::inspect()), [`inspect_swin`](super::inspect_swin()) and
/// [`into`].
pub fn inspect_file(
    path: &Path,
    options: &ImportOptions,
    heads: Option<i64>,
) -> Result<Inspection> {
    let Recognised { checkpoint, network, import } = recognise_file(path, options, heads)?;
    let mut types = BTreeMap::new();
    for tensor in checkpoint.values() {
        *types.entry(format!("{:?}", tensor.kind())).or_insert(0) += 1;
    }
    let elements = checkpoint.values().map(|tensor| tensor.numel() as u64).sum();
    Ok(Inspection { network, tensors: checkpoint.len(), elements, types, report: import.report })
}

/// A checkpoint, the network that it was saved from, and its weights there.
pub(crate) struct Recognised {
    pub(crate) checkpoint: Weights,
    pub(crate) network: KnownNetwork,
    pub(crate) import: Import,
}

/// Reads a checkpoint, recognises its network, with what the files beside it say, and imports it there.
pub(crate) fn recognise_file(
    path: &Path,
    options: &ImportOptions,
    heads: Option<i64>,
) -> Result<Recognised> {
    // The network that was saved has a head of its own.
    let options = &ImportOptions { identity_head: false, ..options.clone() };
    let Checkpoint { weights, source } = open(path, options)?;
    let files = KnownProperties::all_beside(path)?;
    let beside = KnownProperties::merged(&files).unwrap_or_default();
    let known = KnownProperties { heads: heads.or(beside.heads), ..beside };
    let network = recognise(&weights, options, &known)?;
    let mut import = match &network {
        KnownNetwork::Vit(config) => into(&weights, config, options)?,
        KnownNetwork::Swin(config) => into(&weights, config, options)?,
    };
    let report = &mut import.report;
    report.source = Some(source);
    if let KnownNetwork::Swin(_) = &network {
        files
            .iter()
            .rev()
            .for_each(|(name, own)| own.say_source_of_swin(&mut report.assumed, name));
    } else {
        let own = ("the option heads", KnownProperties::of_heads(heads));
        // The first that knows a property decides, and so says its source last.
        for (name, known) in [own].iter().chain(&files).rev() {
            known.say_source(&mut report.assumed, name);
        }
    }
    if report.missing.iter().any(|name| matches!(&**name, "head.weight" | "head.fc.weight")) {
        report.assumed.push(Assumption::new("classes", "1000, as there is no head"));
    }
    Ok(Recognised { checkpoint: weights, network, import })
}

fn recognise(
    weights: &Weights,
    options: &ImportOptions,
    known: &KnownProperties,
) -> Result<KnownNetwork> {
    let refused = match named_alike::<VitConfig>(weights, options) {
        Ok(named) => return Ok(KnownNetwork::Vit(vit(&named, known)?)),
        Err(Error::Import(refused @ ImportError::Naming { .. })) => refused,
        Err(other) => return Err(other),
    };
    match named_alike::<SwinConfig>(weights, options) {
        Ok(named) => Ok(KnownNetwork::Swin(swin(&named, known)?)),
        Err(Error::Import(ImportError::Naming { .. })) => Err(refused.into()),
        Err(other) => Err(other),
    }
}
