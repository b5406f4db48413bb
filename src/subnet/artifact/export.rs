//! What an artifact is written as, and its files for other programs.

#[cfg(feature = "export")]
use super::exported::of_export;
use super::{LatencyComparison, ONNX, TORCHSCRIPT};
use crate::models::Architecture;
#[cfg(feature = "export")]
use crate::subnet::{onnx, torchscript};
use crate::subnet::{Precision, Subnet};
use crate::Result;
use std::path::Path;
use tch::Tensor;

/// How to write an artifact. The default is f32 weights, and no file for other programs.
///
/// ```
/// # #[cfg(feature = "export")] {
/// use once_for_both::subnet::Export;
///
/// let export = Export::f16().torchscript().onnx();
/// assert!(export.torchscript && export.onnx);
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Export {
    /// Type of the weights, in all files.
    pub precision: Precision,
    /// Whether to write `model.torchscript.pt`.
    #[cfg(feature = "export")]
    pub torchscript: bool,
    /// Whether to write `model.onnx`.
    #[cfg(feature = "export")]
    pub onnx: bool,
    /// What it gained, where that was measured.
    pub latency: Vec<LatencyComparison>,
}

impl Export {
    /// Weights in this precision.
    pub fn in_precision(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }

    /// f32 weights.
    pub fn f32() -> Self {
        Self::in_precision(Precision::F32)
    }

    /// f16 weights.
    pub fn f16() -> Self {
        Self::in_precision(Precision::F16)
    }

    /// bf16 weights.
    pub fn bf16() -> Self {
        Self::in_precision(Precision::Bf16)
    }

    /// With a TorchScript file.
    #[cfg(feature = "export")]
    pub fn torchscript(mut self) -> Self {
        self.torchscript = true;
        self
    }

    /// With an ONNX file.
    #[cfg(feature = "export")]
    pub fn onnx(mut self) -> Self {
        self.onnx = true;
        self
    }

    /// With one more measured latency.
    pub fn latency(mut self, latency: LatencyComparison) -> Self {
        self.latency.push(latency);
        self
    }
}

/// The files for other programs, verified but not yet on disk.
#[derive(Default)]
pub(super) struct Files {
    torchscript: Option<Vec<u8>>,
    onnx: Option<Vec<u8>>,
    /// Largest difference of a logit between TorchScript and `stored`.
    pub(super) difference: Option<f64>,
}

impl Files {
    #[cfg(not(feature = "export"))]
    pub(super) fn new<A: Architecture>(_: &Subnet<A>, _: &Tensor, _: &Export) -> Result<Self> {
        Ok(Self::default())
    }

    #[cfg(feature = "export")]
    pub(super) fn new<A: Architecture>(
        stored: &Subnet<A>,
        images: &Tensor,
        export: &Export,
    ) -> Result<Self> {
        if !export.torchscript && !export.onnx {
            return Ok(Self::default());
        }
        let graph = stored.architecture().graph()?;
        // Both are printed from one graph, and only TorchScript can be run here: it is made and
        // measured for ONNX, too.
        let script = torchscript::archive(&graph, stored.weights())?;
        let difference = Some(of_export(&script, stored, images)?);
        let onnx = match export.onnx {
            true => Some(onnx::model(&graph, stored.weights(), stored.precision())?),
            false => None,
        };
        Ok(Self { torchscript: export.torchscript.then_some(script), onnx, difference })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in [(TORCHSCRIPT, &self.torchscript), (ONNX, &self.onnx)] {
            if let Some(bytes) = bytes {
                super::write(&folder.join(name), bytes)?;
            }
        }
        Ok(())
    }
}
