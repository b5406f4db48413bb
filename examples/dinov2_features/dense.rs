//! The dense network: DINOv2-small with the identity as its head.

use crate::AnyError;
use once_for_both::import::{self, ImportOptions};
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::subnet::Subnet;
use once_for_both::supernet::Weights;
use once_for_both::Result;
use std::path::Path;
use tch::{Device, Tensor};

/// Width of the features, and side of an image (of the position table) and of a patch, in pixels.
const WIDTH: i64 = 384;
pub const SIDE: i64 = 224;
const PATCH: i64 = 14;
/// Initial LayerScale of DINOv2; the trained values are in the file.
const LAYER_SCALE: f64 = 1e-5;
/// Largest accepted difference of a feature from the ONNX file's, as a share of the largest feature.
const TOLERANCE: f64 = 1e-5;

/// The dense network.
pub struct Dense {
    pub network: VitConfig,
    pub weights: Weights,
    pub device: Device,
}

impl Dense {
    /// Loads `model.safetensors` of the folder, for images of `side` × `side` pixels.
    pub fn load(folder: &Path, side: i64, device: Device) -> Result<Self> {
        let network = VitConfig::uniform(WIDTH, 12, 6).input(side, 3, PATCH).features()?;
        let network = network.layer_scale(LAYER_SCALE);
        let path = folder.join("model.safetensors");
        let options = ImportOptions { identity_head: true, ..ImportOptions::default() };
        let import = import::load(&path, &network, &options)?;
        Ok(Self { network, weights: import.weights, device })
    }

    /// Builds the network.
    pub fn build(&self, precision: Precision) -> Result<Subnet<VitConfig>> {
        Subnet::with_precision(self.network.clone(), &self.weights, self.device, precision)
    }

    /// Compares the features with those that the ONNX file computed of the same images.
    pub fn check(&self, path: &Path) -> Result<(), AnyError> {
        let tensors = Tensor::read_safetensors(path)
            .map_err(|error| format!("{}: {error}; run dinov2_small.py --check", path.display()))?;
        let named = |wanted: &str| {
            let found = tensors.iter().find(|(name, _)| name == wanted);
            found.map(|(_, tensor)| tensor.to_device(self.device)).ok_or("no such tensor")
        };
        let (images, expected) = (named("images")?, named("features")?);
        let found = self.build(Precision::F32)?.predict(&images)?;
        let scale = expected.abs().max().double_value(&[]);
        let difference = found.f_sub(&expected)?.abs().max().double_value(&[]) / scale;
        println!("largest difference of a feature: {difference:.1e} of the largest ({scale:.2})");
        match difference <= TOLERANCE {
            true => Ok(()),
            false => {
                Err(format!("features differ by {difference:.1e}, expected {TOLERANCE:e}").into())
            }
        }
    }
}
