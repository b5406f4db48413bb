//! Files for other programs, run from here as far as that is possible.

use super::{config, images, kinds, network, save, swin, PRECISIONS};
use crate::assert_refused;
use crate::support::{test_device, TestResult, Tolerance};
use once_for_both::cost::CostModel;
use once_for_both::models::{Architecture, Graph, PmimPorts, VisionTransformer, VitConfig};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::subnet::{verify_against, Export, Subnet, Verification};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{nn, CModule, Tensor};

#[test]
fn torchscript_takes_any_batch() -> TestResult {
    kinds().into_iter().try_for_each(|(kind, config)| takes_any_batch(kind, &config))?;
    takes_any_batch("swin", &swin())
}

fn takes_any_batch<A: Architecture>(kind: &str, config: &A) -> TestResult {
    let folder = tempfile::tempdir()?;
    let (subnet, path) = (network(config)?, folder.path().join("subnet"));
    save(&subnet, &path, &Export::default().torchscript())?;
    let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
    for batch in [1, 3, 7] {
        let images = images(config, batch)?;
        let expected = subnet.predict(&images)?;
        let close = Tolerance::of_scale(1e-5, &expected)?;
        let actual = module.forward_ts(&[images])?;
        close.check(&format!("{kind}, batch {batch}"), &actual, &expected)?;
    }
    Ok(())
}

#[test]
fn torchscript_has_the_weights_under_their_names() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (subnet, path) = (network(&config(true))?, folder.path().join("subnet"));
    save(&subnet, &path, &Export::default().torchscript())?;
    let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
    let parameters = module.named_parameters()?;
    assert_eq!(parameters.len(), subnet.weights().len());
    for (name, tensor) in parameters {
        assert!(tensor.equal(&subnet.weights()[&name]), "{name}");
    }
    Ok(())
}

#[test]
fn torchscript_computes_in_the_precision_it_is_stored_in() -> TestResult {
    computes_as_it_is_stored(&config(false))?;
    computes_as_it_is_stored(&swin())
}

fn computes_as_it_is_stored<A: Architecture>(config: &A) -> TestResult {
    let folder = tempfile::tempdir()?;
    let subnet = network(config)?;
    for precision in PRECISIONS {
        let path = folder.path().join(precision.name());
        let export = Export::default().precision(precision).torchscript();
        let differences = save(&subnet, &path, &export)?;
        let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
        let images = images(subnet.architecture(), 2)?;
        let actual = module.forward_ts(&[&images])?;
        assert_eq!(actual.kind(), precision.kind());
        let stored = Subnet::<A>::load_as_stored(&path, test_device())?;
        let expected = stored.predict(&images)?;
        let close = Tolerance::of_scale(8.0 * precision.epsilon(), &expected)?;
        close.check(precision.name(), &actual, &expected)?;
        assert!(differences.export.is_some(), "measured while it was saved");
    }
    Ok(())
}

/// A family that is no member of the crate: a ViT whose graph is missing, or is that of a ViT with
/// another ε.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ForeignConfig {
    vit: VitConfig,
    graph_eps: Option<f64>,
}

impl Architecture for ForeignConfig {
    type Network = VisionTransformer;
    const FAMILY: &'static str = "foreign";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        self.vit.build(path)
    }

    fn space(&self) -> Result<SearchSpace> {
        self.vit.space()
    }

    fn cost_model(&self) -> CostModel {
        self.vit.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        Ok(Self { vit: self.vit.resized(sizes)?, ..self.clone() })
    }

    fn pmim_ports(&self) -> Option<PmimPorts> {
        self.vit.pmim_ports()
    }

    fn standardised(&self, weights: &mut Weights) -> Result<Self> {
        Ok(Self { vit: self.vit.standardised(weights)?, ..self.clone() })
    }

    fn graph(&self) -> Result<Graph> {
        match self.graph_eps {
            Some(norm_eps) => VitConfig { norm_eps, ..self.vit.clone() }.graph(),
            None => Err(Error::Unsupported { model: Self::FAMILY.into(), operation: "export" }),
        }
    }
}

fn foreign(graph_eps: Option<f64>) -> TestResult<(Subnet<ForeignConfig>, Tensor, Verification)> {
    let vit = network(&config(false))?;
    let config = ForeignConfig { vit: vit.architecture().clone(), graph_eps };
    let subnet = Subnet::new(config, vit.weights(), test_device())?;
    let images = images(vit.architecture(), 3)?;
    let verification = verify_against(&subnet, &subnet, &images)?;
    Ok((subnet, images, verification))
}

#[test]
fn a_family_without_a_graph_is_saved_but_not_exported() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    let (subnet, images, verification) = foreign(None)?;
    for export in [Export::default().torchscript(), Export::default().onnx()] {
        assert_refused!(
            subnet.save(&path, &images, &verification, &export),
            Error::Unsupported { model, .. } if model == "foreign"
        );
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    }
    subnet.save(&path, &images, &verification, &Export::default())?;
    let loaded = Subnet::<ForeignConfig>::load(&path, test_device())?;
    assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    Ok(())
}

#[test]
fn an_export_that_computes_something_else_is_not_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (subnet, images, verification) = foreign(Some(1e-2))?;
    for export in [Export::default().torchscript(), Export::default().onnx()] {
        assert_refused!(
            subnet.save(&folder.path().join("subnet"), &images, &verification, &export),
            Error::Verification { what: "the exported file", .. }
        );
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    }
    Ok(())
}
