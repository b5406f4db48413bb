//! Artifacts: folders with `config.json`, `model.safetensors`, `verification.json`, `checksums.sfv`,
//! and optionally `load_subnet.py`, `model.torchscript.pt` and `model.onnx`.

mod description;
mod differences;
mod export;
#[cfg(feature = "export")]
mod exported;
mod finite;
mod header;

pub use description::{Description, LatencyComparison, Provenance};
pub use differences::Differences;
pub use export::Export;
pub(crate) use export::OnRefusal;

use super::verify::expect_images;
use super::{Extracted, Precision, Subnet};
use crate::checksums::{self, CHECKSUMS};
use crate::cost::Metric;
use crate::error::ArtifactError;
use crate::files::{read_folder, write, write_folder, FolderKind};
use crate::models::{expect_readable, Architecture};
use crate::range::Range;
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::Serialize;
use std::path::Path;
use tch::Device;
#[cfg(feature = "pipeline")]
use tch::Tensor;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const VERIFICATION: &str = "verification.json";
const TORCHSCRIPT: &str = "model.torchscript.pt";
const ONNX: &str = "model.onnx";
const ROUNDED_BEFORE: Range<f64> = Range::closed(0.0, f64::MAX);
/// Rebuilds the network in Python, with timm.
const LOADER: &str = "load_subnet.py";

/// Files for other programs.
#[cfg(feature = "pipeline")]
pub(crate) const EXPORTS: [&str; 3] = [LOADER, TORCHSCRIPT, ONNX];

/// Folder of an artifact.
pub(crate) const ARTIFACT: FolderKind = FolderKind {
    what: "artifact",
    mark: (CONFIG, description::FORMAT),
    files: &[CONFIG, WEIGHTS, VERIFICATION, LOADER, TORCHSCRIPT, ONNX, CHECKSUMS],
    damaged_is_own: false,
};

impl<A: Architecture> Subnet<A> {
    /// Returns the MACs of one image.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the cost model names a dimension without a dense size.
    pub fn macs(&self) -> Result<f64> {
        self.architecture().cost_model().dense_cost(Metric::Macs)
    }

    /// Returns the number of parameters.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the cost model names a dimension without a dense size.
    pub fn params(&self) -> Result<f64> {
        self.architecture().cost_model().dense_cost(Metric::Params)
    }

    /// Loads a subnet from a folder written by [`Extracted::save`], and converts its weights to f32.
    ///
    /// # Errors
    /// Those of [`Description::read`], before any tensor is allocated; [`ArtifactError::Precision`] for a weight that is
    /// stored as integers or flags, and [`Error::File`] for integers or flags of another type than the network's.
    pub fn load(folder: impl AsRef<Path>, device: Device) -> Result<Self> {
        Self::load_described(folder.as_ref(), device, |_| Precision::F32).map(|(own, _)| own)
    }

    /// Loads a subnet like [`load`](Self::load), but keeps the precision of the stored weights, in
    /// which the network then computes.
    ///
    /// # Errors
    /// Those of [`Description::read`], before any tensor is allocated; [`ArtifactError::Precision`] for a weight that is
    /// stored as integers or flags, and [`Error::File`] for integers or flags of another type than the network's.
    pub fn load_as_stored(folder: impl AsRef<Path>, device: Device) -> Result<Self> {
        Self::load_described(folder.as_ref(), device, |stored| stored).map(|(own, _)| own)
    }

    /// Loads a subnet in a precision that depends on that of the stored weights, with its description.
    pub(crate) fn load_described(
        folder: &Path,
        device: Device,
        precision: impl Fn(Precision) -> Precision,
    ) -> Result<(Self, Description<A>)> {
        read_folder(folder, &ARTIFACT, |folder| {
            let description = Description::<A>::read(folder)?;
            let path = folder.join(WEIGHTS);
            let weights = crate::tensors::read(&path, device)?;
            let (architecture, stored) = (description.architecture.clone(), description.precision);
            let check = |own: &Weights| header::expect_types(&path, &weights, own, stored);
            let subnet =
                Self::with_checked(architecture, &weights, device, precision(stored), check)?;
            Ok((subnet, description))
        })
    }

    /// Returns a copy with weights rounded to `precision`, which computes in it.
    fn rounded(&self, precision: Precision) -> Result<Self> {
        let weights = precision.round(self.weights())?;
        Self::with_precision(self.architecture().clone(), &weights, self.device(), precision)
    }
}

impl<A: Architecture> Extracted<A> {
    /// Writes the artifact; [`save`](Self::save) documents it.
    pub(crate) fn write(
        &self,
        folder: &Path,
        export: &Export,
        on_refusal: OnRefusal,
    ) -> Result<Differences> {
        ARTIFACT.expect_own(folder)?;
        self.verification.check()?;
        let (subnet, images) = (&self.subnet, &self.images);
        expect_readable(subnet.architecture())?;
        let (macs, params) = (subnet.macs()?, subnet.params()?);
        let costs = [("macs", macs), ("params", params)];
        finite::check(&self.verification, &self.provenance, &export.latency, costs)?;
        ROUNDED_BEFORE.check("rounded_before", export.rounded_before)?;
        expect_images(images, subnet.device())?;
        let stored = subnet.rounded(export.precision)?;
        differences::expect_finite(&stored, images)?;
        let files = export::Files::new(&stored, images, export, on_refusal)?;
        let differences = Differences {
            extraction: self.verification,
            rounding: export.rounded_before + differences::of_rounding(subnet, &stored, images)?,
            export: files.difference,
        };
        write_folder(folder, &ARTIFACT, |folder| {
            crate::tensors::write(&folder.join(WEIGHTS), stored.weights())?;
            files.write(folder)?;
            if let Some(loader) = subnet.architecture().python_loader() {
                write(&folder.join(LOADER), loader.as_bytes())?;
            }
            write_json(&folder.join(VERIFICATION), &differences)?;
            let description = Description {
                architecture: subnet.architecture().clone(),
                precision: export.precision,
                macs,
                params,
                weights_crc32: checksums::crc32(&folder.join(WEIGHTS))?,
                provenance: self.provenance.clone(),
                latency: export.latency.clone(),
            };
            description.write(&folder.join(CONFIG))?;
            checksums::write(folder, ARTIFACT.files)
        })?;
        Ok(differences)
    }
}

/// Makes all exports of a network in memory, on `images`, and gives those that are refused to `on_refusal`.
#[cfg(feature = "pipeline")]
pub(crate) fn try_exports<A: Architecture>(
    network: &Subnet<A>,
    images: &Tensor,
    on_refusal: OnRefusal,
) -> Result<()> {
    let all = Export::f32().torchscript().onnx();
    export::Files::new(network, images, &all, on_refusal).map(drop)
}

fn refused(path: &Path, source: ArtifactError) -> Error {
    Error::Artifact { path: path.into(), source: Box::new(source) }
}

fn read_json(path: &Path) -> Result<serde_json::Value> {
    let text = crate::files::read(path).map_err(|source| match path.parent() {
        Some(folder) if ARTIFACT.lost_mark(folder) => {
            let reason = format!("got an artifact without {CONFIG}; copy the folder again");
            Error::io("read", path, std::io::Error::new(source.kind(), reason))
        }
        _ => Error::io("read", path, source),
    })?;
    serde_json::from_slice(&text).map_err(|source| refused(path, source.into()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).map_err(|error| Error::file(path, error))?;
    write(path, &json)
}
