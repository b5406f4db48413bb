//! Export of a network.

use super::open::{open, untaught};
use super::{saved, Build, Outcome};
use crate::cli::{ExportOptions, Format, RunOptions};
use crate::AnyError;
use once_for_both::device;
use once_for_both::pipeline::{expect_writable, Config, ImageClassifier, RunFolder};
use once_for_both::subnet::{
    verify_against, Description, Differences, Export, Extracted, LatencyComparison, Precision,
    Provenance, Subnet,
};
use std::path::Path;
use tch::{Kind, Tensor};

/// Images that an exported network is verified on.
const CALIBRATION: i64 = 8;

pub fn export<A: ImageClassifier>(
    config: Config,
    run: &RunOptions,
    options: &ExportOptions,
    build: Build<A>,
) -> Result<Outcome, AnyError> {
    let path = config.weights.clone().ok_or("export: give the network by --weights")?;
    let out = run.out.as_ref().ok_or("export: give the folder to write by --out")?;
    if out.exists() {
        return Err(format!("{}: exists, expected a new folder as --out", out.display()).into());
    }
    expect_writable(out)?;
    let (extracted, measured) = to_export(config, &path, build)?;
    let mut export = Export::in_precision(options.precision.into());
    if let Some(Measured { precision, latency, rounding }) = measured {
        export.rounded_before = rounding;
        if precision == export.precision {
            export.latency = latency;
        }
    }
    export.torchscript = options.format.contains(&Format::Torchscript);
    export.onnx = options.format.contains(&Format::Onnx);
    let differences = extracted.save(out, &export)?;
    saved(out);
    println!("{}", serde_json::to_string_pretty(&differences)?);
    Ok(Outcome::Finished)
}

/// What was measured of an artifact.
struct Measured {
    precision: Precision,
    latency: Vec<LatencyComparison>,
    /// Largest difference of a logit by the rounding of its weights.
    rounding: f64,
}

/// A network with images to verify its files on: random ones for an artifact, whose data may be
/// elsewhere; those of the data for a checkpoint, which is fitted to them. An artifact keeps the verification of its
/// extraction.
fn to_export<A: ImageClassifier>(
    config: Config,
    path: &Path,
    build: Build<A>,
) -> Result<(Extracted<A>, Option<Measured>), AnyError> {
    match RunFolder::new(path).artifact() {
        Some(folder) => {
            let device = device::parse(&config.device)?;
            let subnet = Subnet::<A>::load(&folder, device)?;
            let [channels, height, width] = subnet.architecture().image_shape();
            let shape = [CALIBRATION, channels, height, width];
            let images = Tensor::f_randn(shape, (Kind::Float, device))?;
            let Description { provenance, precision, latency, .. } =
                Description::<A>::read(&folder)?;
            let Differences { extraction: verification, rounding, .. } =
                Differences::read(&folder)?;
            let extracted = Extracted { subnet, verification, provenance, images };
            Ok((extracted, Some(Measured { precision, latency, rounding })))
        }
        None => {
            let pipeline = open(untaught(config), Path::new("."), build)?
                .on_progress(|progress| eprintln!("{progress}"));
            let because = "it is exported as it is; train it first (deit_s train)";
            let subnet = pipeline.load_trained(path, "--weights", because)?;
            // This crate has not trained it.
            let provenance = Provenance::of(subnet.architecture())?;
            let images = pipeline.feed().calibration_batch(CALIBRATION)?;
            let verification = verify_against(&subnet, &subnet, &images)?;
            Ok((Extracted { subnet, verification, provenance, images }, None))
        }
    }
}
