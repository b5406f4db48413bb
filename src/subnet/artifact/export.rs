//! Options of an artifact: precision, exported files, measured latencies.

#[cfg(feature = "export")]
use super::exported::of_export;
use super::{LatencyComparison, ONNX, TORCHSCRIPT};
use crate::files::write;
use crate::models::Architecture;
#[cfg(feature = "export")]
use crate::subnet::{onnx, torchscript};
use crate::subnet::{Precision, Subnet};
use crate::{Error, Result};
use std::path::Path;
use tch::Tensor;

/// Options of [`Extracted::save`](crate::subnet::Extracted::save): precision of the weights, and
/// exported files. The default is f32 without exports.
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
    /// Type of the weights in all files.
    pub precision: Precision,
    /// Whether to write `model.torchscript.pt`.
    #[cfg(feature = "export")]
    pub torchscript: bool,
    /// Whether to write `model.onnx`.
    #[cfg(feature = "export")]
    pub onnx: bool,
    /// Measured latencies, stored in `config.json`.
    pub latency: Vec<LatencyComparison>,
    /// Largest absolute difference of a logit by an earlier rounding of the weights: [`Differences::rounding`] of the
    /// artifact that they were loaded from. [`Differences::rounding`] of this one is the sum with its own rounding, a bound
    /// on the difference by both. Default: 0.
    ///
    /// [`Differences::rounding`]: super::Differences::rounding
    pub rounded_before: f64,
}

impl Export {
    /// Stores weights in this precision.
    pub fn in_precision(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }

    /// Stores f32 weights.
    pub fn f32() -> Self {
        Self::in_precision(Precision::F32)
    }

    /// Stores f16 weights.
    pub fn f16() -> Self {
        Self::in_precision(Precision::F16)
    }

    /// Stores bf16 weights.
    pub fn bf16() -> Self {
        Self::in_precision(Precision::Bf16)
    }

    /// Exports TorchScript, too: `model.torchscript.pt`.
    #[cfg(feature = "export")]
    pub fn torchscript(mut self) -> Self {
        self.torchscript = true;
        self
    }

    /// Exports ONNX, too: `model.onnx`.
    #[cfg(feature = "export")]
    pub fn onnx(mut self) -> Self {
        self.onnx = true;
        self
    }

    /// Adds a measured latency.
    pub fn latency(mut self, latency: LatencyComparison) -> Self {
        self.latency.push(latency);
        self
    }
}

/// Receives the files that cannot be exported, and why: returns an error, or accepts an artifact without them.
pub(crate) type OnRefusal<'a> = &'a dyn Fn(&[&'static str], Error) -> Result<()>;

/// Exported files in memory, verified.
#[derive(Default)]
pub(super) struct Files {
    torchscript: Option<Vec<u8>>,
    onnx: Option<Vec<u8>>,
    /// Largest absolute difference of a logit between the TorchScript archive and the subnet.
    pub(super) difference: Option<f64>,
}

impl Files {
    #[cfg(not(feature = "export"))]
    pub(super) fn new<A: Architecture>(
        _: &Subnet<A>,
        _: &Tensor,
        _: &Export,
        _: OnRefusal,
    ) -> Result<Self> {
        Ok(Self::default())
    }

    #[cfg(feature = "export")]
    pub(super) fn new<A: Architecture>(
        stored: &Subnet<A>,
        images: &Tensor,
        export: &Export,
        on_refusal: OnRefusal,
    ) -> Result<Self> {
        let mut files = Vec::new();
        files.extend(export.torchscript.then_some(TORCHSCRIPT));
        files.extend(export.onnx.then_some(ONNX));
        if export.onnx {
            if let Err(error) = onnx::expect_exportable(stored.weights()) {
                on_refusal(&[ONNX], error)?;
                files.retain(|file| *file != ONNX);
            }
        }
        if files.is_empty() {
            return Ok(Self::default());
        }
        match Self::of_graph(stored, images, &files) {
            Err(error) => on_refusal(&files, error).map(|()| Self::default()),
            written => written,
        }
    }

    /// Both formats are written from one graph, and libtorch runs TorchScript only. So the archive is made and verified
    /// for ONNX exports, too.
    #[cfg(feature = "export")]
    fn of_graph<A: Architecture>(
        stored: &Subnet<A>,
        images: &Tensor,
        files: &[&'static str],
    ) -> Result<Self> {
        let graph = stored.architecture().graph()?;
        graph.check()?;
        let script = torchscript::archive(&graph, stored.weights())?;
        let difference = Some(of_export(&script, stored, images)?);
        let onnx = match files.contains(&ONNX) {
            true => Some(onnx::model(&graph, stored.weights())?),
            false => None,
        };
        Ok(Self { torchscript: files.contains(&TORCHSCRIPT).then_some(script), onnx, difference })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in [(TORCHSCRIPT, &self.torchscript), (ONNX, &self.onnx)] {
            if let Some(bytes) = bytes {
                write(&folder.join(name), bytes)?;
            }
        }
        Ok(())
    }
}
