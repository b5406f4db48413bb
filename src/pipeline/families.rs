//! Families of the networks on disk.

use crate::error::PipelineError;
use crate::models::{Architecture, SwinConfig, VitConfig};
use crate::{Error, Result};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

/// Family of a network on disk: that of an architecture `A`, or one of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnownFamily {
    /// That of `A`.
    Own,
    /// ViT and DeiT.
    Vit,
    /// Swin Transformer.
    Swin,
}

impl KnownFamily {
    /// Returns the family that a JSON file names: a ViT for a file without one, whose reader refuses it. `advice` says
    /// what to do about another family.
    pub(super) fn of<A: Architecture>(file: &Path, advice: &'static str) -> Result<Self> {
        Ok(match family_in(file)?.as_deref() {
            Some(family) if family == A::FAMILY => Self::Own,
            None | Some(VitConfig::FAMILY) => Self::Vit,
            Some(SwinConfig::FAMILY) => Self::Swin,
            Some(other) => {
                let ours = [VitConfig::FAMILY, SwinConfig::FAMILY].into_iter();
                let others = ours.filter(|family| *family != A::FAMILY);
                let known = std::iter::once(A::FAMILY).chain(others).collect();
                return Err(unknown(file, other, known, advice));
            }
        })
    }
}

/// Refuses a family other than that of `A`. `advice` says what to do about it.
pub(super) fn expect_family<A: Architecture>(
    file: &Path,
    family: &str,
    advice: &'static str,
) -> Result<()> {
    match family == A::FAMILY {
        true => Ok(()),
        false => Err(unknown(file, family, vec![A::FAMILY], advice)),
    }
}

fn unknown(file: &Path, family: &str, known: Vec<&'static str>, advice: &'static str) -> Error {
    let (path, family) = (file.into(), family.into());
    PipelineError::UnknownFamily { path, family, known, advice }.into()
}

/// Returns the family that a JSON file names; `None` without the file, which its reader then misses.
pub(super) fn family_in(file: &Path) -> Result<Option<String>> {
    let text = match crate::files::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| Error::io("read", file, source))?,
    };
    let value: Value = serde_json::from_slice(&text).map_err(|error| Error::file(file, error))?;
    Ok(value["family"].as_str().map(str::to_string))
}
