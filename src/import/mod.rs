//! Pretrained weights in: ViT, DeiT and Swin checkpoints of timm, Hugging Face transformers and the
//! originals, as safetensors or as `torch.save` wrote them.
//!
//! ```no_run
//! use once_for_both::import::{self, ImportOptions};
//! use once_for_both::models::VitConfig;
//! use std::path::Path;
//!
//! # fn main() -> once_for_both::Result<()> {
//! // DeiT-S for 10 classes: the head starts afresh, all else is loaded.
//! let config = VitConfig::deit_small().classes(10);
//! let path = Path::new("deit_small_patch16_224.pth");
//! let import = import::load(path, &config, &ImportOptions::default())?;
//! assert_eq!(import.report.replaced.len(), 2);
//!
//! // Or let the checkpoint say what it is for.
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
//! - Another resolution: positions are interpolated as in timm's `resample_abs_pos_embed`, bicubic
//!   with antialiasing; those of class and distillation token stay.
//! - Another number of classes, or a checkpoint without a head: a fresh head, normal with std 0.02
//!   and zero bias.
//! - Other input channels, as in timm's `adapt_input_conv`: from 3 to 1 by summing, from 3 to n by
//!   repeating and scaling by 3/n.
//! - A distilled checkpoint in a plain network: the distillation token, its position and its head
//!   are left out, which changes what the network computes. A plain checkpoint in a distilled
//!   network: they start afresh.
//! - Pooler and mask token of transformers are left out: no classifier uses them.
//! - What a Swin checkpoint keeps of its windows is computed here, and left out.
//! - All else has to fit: a variable that is missing, has another shape, or has no place in the
//!   network is an error. The number of heads shows in no shape; it is the config's word.
//!
//! The report says what was done to which variable. With the option `strict`, anything but plain
//! loading is an error.

mod adapt;
mod checkpoint;
mod family;
mod inspect;
mod naming;
mod place;
mod report;
mod swin;
mod vit;

pub use crate::error::{CheckpointError, ImportError};
pub use crate::tensors::Weights;
pub use checkpoint::read;
pub use family::Pretrained;
pub use inspect::inspect;
pub use naming::Naming;
pub use place::into;
pub use report::{Import, ImportReport, Resized};

use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How to import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportOptions {
    /// Refuse anything but plain loading of every tensor into every variable.
    pub strict: bool,
    /// Seed of variables that start afresh.
    pub seed: u64,
    /// Tensors of the checkpoint to leave out: those whose names start with one of these.
    pub skip: Vec<String>,
}

/// Reads a checkpoint and fits it to the network of `config`: [`read`], then [`into`].
///
/// # Errors
/// Those of [`read`] and [`into`].
pub fn load<A: Pretrained>(path: &Path, config: &A, options: &ImportOptions) -> Result<Import> {
    into(&read(path)?, config, options)
}
