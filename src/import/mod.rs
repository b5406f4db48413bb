//! Import of pretrained weights: checkpoints of timm, Hugging Face transformers, the original DeiT
//! and the original Swin, as safetensors or as written by `torch.save`.
//!
//! ```no_run
//! use once_for_both::import::{self, ImportOptions};
//! use once_for_both::models::VitConfig;
//! use std::path::Path;
//!
//! # fn main() -> once_for_both::Result<()> {
//! // DeiT-S for 10 classes: the head is initialised afresh, all else is loaded.
//! let config = VitConfig::deit_small().classes(10);
//! let path = Path::new("deit_small_patch16_224.pth");
//! let import = import::load(path, &config, &ImportOptions::default())?;
//! assert_eq!(import.report.replaced.len(), 2);
//!
//! // Or with the configuration that the shapes of the checkpoint show.
//! let weights = import::read(path)?;
//! let config = import::inspect(&weights, None)?;
//! let import = import::into(&weights, &config, &ImportOptions::default())?;
//! assert!(import.report.is_exact());
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//! - Element types f16, bf16 and f64 become f32.
//! - Another resolution: the position table is interpolated as in timm's `resample_abs_pos_embed`,
//!   bicubic with antialiasing; the rows of class and distillation token stay.
//! - Another number of classes, or a checkpoint without a head: the head is initialised afresh,
//!   normal with std 0.02 and zero bias.
//! - Other input channels, as in timm's `adapt_input_conv`: 3 to 1 by summing, 3 to n by repeating
//!   and scaling by 3/n.
//! - A distilled checkpoint in a plain network: the distillation token, its position and its head
//!   are skipped, which changes what the network computes. A plain checkpoint in a distilled
//!   network: they are initialised afresh.
//! - The pooler of transformers, mask token and decoder of masked pretraining, and the text tower of
//!   CLIP are unused: the network's function is the same without them.
//! - Of a position table, the row of a token that has none in the network is added to the token.
//! - Relative position indices and attention masks of a Swin checkpoint are left out: the network
//!   computes them.
//! - A prefix that all names share (`module.`, `_orig_mod.`, `model.`, `backbone.` and their
//!   combinations) is removed, and so are the wrappers of `torch.compile` and FSDP inside names.
//! - Of a training checkpoint with an EMA, the EMA is taken ([`open`]).
//! - The option `identity_head`: the head is the identity, and the checkpoint's is skipped. A network of the features
//!   of every token has no pooling: one by attention is skipped.
//! - A weight with a NaN, an infinity or a number beyond f32 is an error.
//! - All else has to fit: a variable without a tensor, a tensor of another shape and a tensor
//!   without a variable are errors. No shape shows the number of heads; the import relies on that
//!   of the configuration.
//!
//! The report lists the fate of every variable and tensor. The option `strict` refuses everything
//! but plain loading, unused and computed tensors. [`Pretrained`] opens the import to other families.

mod adapt;
mod architectures;
mod checkpoint;
mod family;
mod finite;
mod further;
mod half_split;
mod heads;
pub mod hub;
mod inspect;
mod inspect_parts;
mod inspect_swin;
mod inspection;
mod known;
mod named;
mod naming;
mod open_clip;
mod place;
mod positions;
mod prefix;
mod recognise;
mod report;
mod swin;
mod vit;
mod vit_names;

pub use crate::error::{CheckpointError, ImportError};
pub use crate::tensors::Weights;
pub use checkpoint::{is_checkpoint, open, read, Checkpoint, Container, Source};
pub use family::{PositionTable, Pretrained, Translation};
pub use inspect::{inspect, inspect_known};
pub use inspect_swin::inspect_swin;
pub use inspection::{inspect_file, Inspection, KnownNetwork};
#[cfg(feature = "pipeline")]
pub(crate) use inspection::{recognise_file, Recognised};
pub use known::KnownProperties;
pub use naming::Naming;
pub use place::into;
pub use report::{Assumption, Import, ImportReport, Resized};

use crate::models::{Architecture, VitConfig};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Options of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportOptions {
    /// Whether anything but plain loading of every tensor into a variable is refused. Tensors that the network's function
    /// does not use, and constants that it computes, are taken.
    pub strict: bool,
    /// Seed of variables that are initialised afresh.
    pub seed: u64,
    /// Prefixes of names in the checkpoint; tensors with one of them are left out.
    pub skip: Vec<String>,
    /// Keys that lead to the state dict in a file of `torch.save`, joined by dots: `model`, or
    /// `model_ema.module`. `None` (default): that of an EMA if there is one, else of raw weights
    /// ([`open`]).
    pub entry: Option<String>,
    /// Prefix of the network's names in the checkpoint, such as `module.`: it is removed, and tensors
    /// without it are left out. `None` (default): the one that all names share, if the family knows
    /// them without it. Empty: none.
    pub prefix: Option<String>,
    /// Whether the head is the identity, with a bias of zeros, in place of that of the checkpoint, which is left out:
    /// the outputs are the features, as of [`VitConfig::features`]. The head has as many outputs as inputs then.
    /// [`inspect_file`] does not use it.
    ///
    /// ```
    /// use once_for_both::import::{self, ImportOptions, KnownNetwork};
    /// use std::path::Path;
    ///
    /// # fn main() -> once_for_both::Result<()> {
    /// # let path = Path::new("tests/data/import/family/hf_dinov2_backbone/model.safetensors");
    /// let options = ImportOptions { identity_head: true, ..ImportOptions::default() };
    /// let found = import::inspect_file(path, &options, None)?.network;
    /// let KnownNetwork::Vit(vit) = found else { panic!("no ViT") };
    /// let vit = vit.features()?;
    /// let import = import::load(path, &vit, &options)?;
    /// assert_eq!(import.weights["head.weight"].size(), [vit.embed_dim, vit.embed_dim]);
    /// # Ok(())
    /// # }
    /// ```
    pub identity_head: bool,
}

/// Reads a checkpoint and fits it to the network of `config`: [`open`], then [`into`].
///
/// # Errors
/// Those of [`open`] and [`into`]. For a ViT, [`Error::File`](crate::Error::File) for a `config.json`
/// beside the checkpoint that is no JSON, and [`Error::Invalid`](crate::Error::Invalid) if it names an
/// architecture of timm that has the tensors of a ViT and computes something else.
pub fn load<A: Pretrained>(path: &Path, config: &A, options: &ImportOptions) -> Result<Import> {
    if A::FAMILY == VitConfig::FAMILY {
        known::expect_known_beside(path)?;
    }
    let Checkpoint { weights, source } = open(path, options)?;
    let mut import = into(&weights, config, options)?;
    import.report.source = Some(source);
    Ok(import)
}

/// The examples of docs/import.md, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/import.md")]
struct ImportDocument;
