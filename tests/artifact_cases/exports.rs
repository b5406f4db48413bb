//! Files for other programs, run from here as far as that is possible.

use super::{config, images, network, save, PRECISIONS};
use crate::assert_refused;
use crate::support::{test_device, TestResult, Tolerance};
use once_for_both::cost::CostModel;
use once_for_both::extract::{verify_against, Export, Precision, Subnet};
use once_for_both::models::{Architecture, Logits, Network, PmimPorts, VitConfig};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use serde::{Deserialize, Serialize};
use tch::{nn, CModule, Kind, Tensor};

#[test]
fn torchscript_takes_any_batch() -> TestResult {
    let folder = tempfile::tempdir()?;
    for distilled in [false, true] {
        let (subnet, path) = (network(&config(distilled))?, folder.path().join("subnet"));
        save(&subnet, &path, &Export::default().torchscript())?;
        let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
        for batch in [1, 3, 7] {
            let images = images(subnet.architecture(), batch)?;
            let expected = subnet.predict(&images)?;
            let close = Tolerance::of_scale(1e-5, &expected)?;
            close.check(&format!("batch {batch}"), &module.forward_ts(&[images])?, &expected)?;
        }
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
    let folder = tempfile::tempdir()?;
    let subnet = network(&config(false))?;
    for precision in PRECISIONS {
        let path = folder.path().join(precision.name());
        let export = Export::default().precision(precision).torchscript();
        let differences = save(&subnet, &path, &export)?;
        let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
        let images = images(subnet.architecture(), 2)?;
        let actual = module.forward_ts(&[&images])?;
        assert_eq!(actual.kind(), precision.kind());
        let stored = Subnet::<VitConfig>::load_as_stored(&path, test_device())?;
        let expected = stored.predict(&images)?;
        let close = Tolerance::of_scale(8.0 * precision.epsilon(), &expected)?;
        close.check(precision.name(), &actual, &expected)?;
        assert!(differences.export.is_some(), "measured while it was saved");
    }
    Ok(())
}

/// A family without a graph: one linear map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LinearConfig;

#[derive(Debug)]
struct LinearNetwork(Tensor);

impl Network for LinearNetwork {
    fn forward(&self, images: &Tensor, _train: bool) -> once_for_both::Result<Logits> {
        Ok(Logits::single(images.f_flatten(1, -1)?.f_matmul(&self.0)?))
    }
}

impl Architecture for LinearConfig {
    type Network = LinearNetwork;
    const FAMILY: &'static str = "linear";

    fn build(&self, path: &nn::Path) -> once_for_both::Result<LinearNetwork> {
        Ok(LinearNetwork(path.f_ones("weight", &[4, 3])?))
    }

    fn space(&self) -> once_for_both::Result<SearchSpace> {
        Ok(SearchSpace { dimensions: Vec::new() })
    }

    fn cost_model(&self) -> CostModel {
        let macs = once_for_both::cost::Polynomial::from(12.0);
        CostModel { params: macs.clone(), macs, dense: Sizes::new() }
    }

    fn resized(&self, _sizes: &Sizes) -> once_for_both::Result<Self> {
        Ok(Self)
    }

    fn pmim_ports(&self) -> Option<PmimPorts> {
        None
    }

    fn standardised(&self, _weights: &mut Weights) -> once_for_both::Result<Self> {
        Ok(Self)
    }
}

#[test]
fn a_family_without_a_graph_is_saved_but_not_exported() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    let weight = Tensor::f_randn([4, 3], (Kind::Float, test_device()))?;
    let weights = Weights::from([("weight".into(), weight)]);
    let subnet = Subnet::new(LinearConfig, &weights, test_device())?;
    let images = Tensor::f_randn([2, 1, 2, 2], (Kind::Float, test_device()))?;
    let verification = verify_against(&subnet, &subnet, &images)?;
    for export in [Export::default().torchscript(), Export::default().onnx()] {
        assert_refused!(
            subnet.save(&path, &images, &verification, &export),
            Error::Unsupported { model, .. } if model == "linear"
        );
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    }
    let half = Export::default().precision(Precision::F16);
    subnet.save(&path, &images, &verification, &half)?;
    let loaded = Subnet::<LinearConfig>::load(&path, test_device())?;
    assert_eq!(loaded.predict(&images)?.size(), [2, 3]);
    Ok(())
}
