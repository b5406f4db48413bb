//! The names of other libraries, translated to timm's, which are ours.

use super::family::{Family, Translation};
use crate::error::ImportError;
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Tensor;

/// Whose names a checkpoint uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// timm and the original DeiT: `blocks.0.attn.qkv.weight`.
    Timm,
    /// The original Swin, which merges tokens at the end of a stage: `layers.0.downsample.norm.weight`.
    OriginalSwin,
    /// Hugging Face transformers: `vit.encoder.layer.0.attention.attention.query.weight`, or as the
    /// classes of version 5 have it, `vit.layers.0.attention.q_proj.weight`.
    Transformers,
}

/// Tensors of a checkpoint under timm's names.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) naming: Naming,
    pub(super) tensors: BTreeMap<String, Stored>,
    /// Names of tensors that no classifier needs, or that the caller wants left out.
    pub(super) skipped: Vec<String>,
    /// Names of tensors that the network computes for itself.
    pub(super) computed: Vec<String>,
    /// Names that are none of the family's.
    pub(super) unknown: Vec<String>,
}

/// A variable as the checkpoint stores it: whole, or as query, key and value.
#[derive(Debug)]
pub(super) struct Stored {
    /// Names in the checkpoint, and tensors of one shape, to be joined along axis 0.
    parts: Vec<(String, Tensor)>,
}

const QKV: [&str; 3] = ["query", "key", "value"];

/// Translates all names.
///
/// # Errors
/// [`ImportError::Naming`], [`ImportError::Missing`] for a query without its key or value,
/// [`ImportError::Ambiguous`], [`Error::Shape`] if query, key and value differ.
pub(super) fn named<A: Family>(weights: &Weights, skip: &[String]) -> Result<Named> {
    let naming = recognise(weights)?;
    let mut named = Named {
        naming,
        tensors: BTreeMap::new(),
        skipped: vec![],
        computed: vec![],
        unknown: vec![],
    };
    let mut split: BTreeMap<String, [Option<(String, Tensor)>; 3]> = BTreeMap::new();
    for (name, tensor) in weights {
        let source = (name.clone(), tensor.shallow_clone());
        if skip.iter().any(|prefix| name.starts_with(prefix)) {
            named.skipped.push(name.clone());
            continue;
        }
        match A::translate(naming, name) {
            Translation::Variable(variable) => named.insert(variable, vec![source])?,
            Translation::Part(variable, part) => {
                let slot = &mut split.entry(variable.clone()).or_default()[part];
                if let Some((first, _)) = slot.replace(source) {
                    return Err(ambiguous(variable, first, name));
                }
            }
            Translation::Unused => named.skipped.push(name.clone()),
            Translation::Computed => named.computed.push(name.clone()),
            Translation::Unknown => named.unknown.push(name.clone()),
        }
    }
    for (variable, parts) in split {
        let whole = join(&variable, parts)?;
        named.insert(variable, whole)?;
    }
    Ok(named)
}

fn recognise(weights: &Weights) -> Result<Naming, ImportError> {
    let has = |part: &str| weights.keys().any(|name| name.ends_with(part));
    if has("embeddings.patch_embeddings.projection.weight") {
        return Ok(Naming::Transformers);
    }
    if weights.contains_key("patch_embed.proj.weight") {
        let merges_early = weights.contains_key("layers.0.downsample.norm.weight");
        return Ok(if merges_early { Naming::OriginalSwin } else { Naming::Timm });
    }
    Err(ImportError::Naming { found: weights.keys().take(5).cloned().collect() })
}

/// Query, key and value of one variable, all there and of one shape.
fn join(variable: &str, parts: [Option<(String, Tensor)>; 3]) -> Result<Vec<(String, Tensor)>> {
    let mut whole: Vec<(String, Tensor)> = Vec::with_capacity(3);
    for (part, which) in parts.into_iter().zip(QKV) {
        let missing = || ImportError::Missing { variable: format!("{which} of {variable}") };
        let (name, tensor) = part.ok_or_else(missing)?;
        if let Some((_, query)) = whole.first() {
            crate::error::expect_shape("import", &name, &tensor, &query.size())?;
        }
        whole.push((name, tensor));
    }
    Ok(whole)
}

fn ambiguous(variable: String, first: String, second: &str) -> Error {
    ImportError::Ambiguous { variable, first, second: second.into() }.into()
}

impl Named {
    fn insert(&mut self, variable: String, parts: Vec<(String, Tensor)>) -> Result<()> {
        let second = parts.first().map(|(name, _)| name.clone()).unwrap_or_default();
        match self.tensors.insert(variable.clone(), Stored { parts }) {
            None => Ok(()),
            Some(first) => Err(ambiguous(variable, first.names().join(", "), &second)),
        }
    }

    pub(super) fn get(&self, variable: &str) -> Result<&Stored, ImportError> {
        let missing = || ImportError::Missing { variable: variable.into() };
        self.tensors.get(variable).ok_or_else(missing)
    }

    /// Whether any variable's name begins so.
    pub(super) fn has_any(&self, prefix: &str) -> bool {
        let next = self.tensors.range(prefix.to_owned()..).next();
        next.is_some_and(|(name, _)| name.starts_with(prefix))
    }

    pub(super) fn is_distilled(&self) -> bool {
        self.tensors.contains_key("dist_token")
    }
}

impl Stored {
    /// Names in the checkpoint.
    pub(super) fn names(&self) -> Vec<String> {
        self.parts.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The variable's name, with those of the checkpoint where they differ.
    pub(super) fn label(&self, variable: &str) -> String {
        match &self.parts[..] {
            [(name, _)] if name == variable => name.clone(),
            _ => format!("{variable} ({})", self.names().join(", ")),
        }
    }

    /// Shape of the whole.
    pub(super) fn shape(&self) -> Vec<i64> {
        let mut shape = self.parts.first().map(|(_, tensor)| tensor.size()).unwrap_or_default();
        if let Some(rows) = shape.first_mut() {
            *rows = rows.saturating_mul(self.parts.len() as i64);
        }
        shape
    }

    /// The whole, in f32.
    ///
    /// # Errors
    /// [`ImportError::NotFloat`].
    pub(super) fn tensor(&self, variable: &str) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for (_, tensor) in &self.parts {
            if !tensor.is_floating_point() {
                let found = format!("{:?}", tensor.kind());
                return Err(ImportError::NotFloat { name: self.label(variable), found }.into());
            }
            parts.push(
                tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(tch::Kind::Float)?,
            );
        }
        match &parts[..] {
            [whole] => Ok(whole.shallow_clone()),
            parts => Ok(Tensor::f_cat(parts, 0)?),
        }
    }
}
