//! TorchScript files run by libtorch; exports that are refused.

use super::{config, images, kinds, network, save, swin, swins, verified_on, PRECISIONS};
use crate::assert_refused;
use crate::support::{test_device, TestResult, Tolerance};
use once_for_both::cost::{Budget, CostModel};
use once_for_both::models::{Architecture, Graph, PmimPorts, VisionTransformer, VitConfig};
use once_for_both::search::Search;
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::subnet::{Export, Extracted, Subnet};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{nn, CModule, Kind, Tensor};

#[test]
fn torchscript_at_several_batch_sizes_gives_the_logits_of_the_subnet() -> TestResult {
    kinds().into_iter().try_for_each(|(kind, config)| check_batch_sizes(kind, &config))?;
    swins().into_iter().try_for_each(|(kind, config)| check_batch_sizes(kind, &config))
}

fn check_batch_sizes<A: Architecture>(kind: &str, config: &A) -> TestResult {
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

/// Shapes of images that both families of these tests are tried with.
pub fn shapes([channels, height, width]: [i64; 3]) -> Vec<Vec<i64>> {
    vec![
        vec![2, channels, height, width],
        vec![0, channels, height, width],
        // As many pixels in other rows.
        vec![2, channels, height / 2, 2 * width],
        vec![2, channels, 2 * height, width / 2],
        vec![2, channels, 2 * height, 2 * width],
        vec![2, 1, height, width],
        vec![2, channels + 1, height, width],
        vec![channels, height, width],
        vec![1, 2, channels, height, width],
    ]
}

#[test]
fn torchscript_takes_and_refuses_the_shapes_that_the_subnet_does() -> TestResult {
    kinds().into_iter().try_for_each(|(kind, config)| check_shapes(kind, &config))?;
    swins().into_iter().try_for_each(|(kind, config)| check_shapes(kind, &config))
}

fn check_shapes<A: Architecture>(kind: &str, config: &A) -> TestResult {
    let folder = tempfile::tempdir()?;
    let (subnet, path) = (network(config)?, folder.path().join("subnet"));
    save(&subnet, &path, &Export::default().torchscript())?;
    let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
    let input = config.graph()?.input();
    for shape in shapes(input) {
        let images = Tensor::f_zeros(&shape, (Kind::Float, test_device()))?;
        let right = shape.len() == 4 && shape[1..] == input;
        match (subnet.predict(&images), module.forward_ts(&[&images])) {
            (Ok(own), Ok(exported)) if right => assert_eq!(own.size(), exported.size(), "{kind}"),
            (Err(Error::Shape { .. }), Err(error)) if !right => {
                let expected =
                    format!("expected [batch, {}, {}, {}]", input[0], input[1], input[2]);
                assert!(error.to_string().contains(&expected), "{kind} {shape:?}: {error}");
            }
            other => return Err(format!("{kind} {shape:?}: {other:?}").into()),
        }
    }
    Ok(())
}

#[test]
fn torchscript_parameters_are_the_subnet_weights_by_name() -> TestResult {
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
fn torchscript_in_each_precision_gives_the_logits_of_that_precision() -> TestResult {
    check_precisions(&config(false))?;
    check_precisions(&swin())
}

fn check_precisions<A: Architecture>(config: &A) -> TestResult {
    let folder = tempfile::tempdir()?;
    let subnet = network(config)?;
    for precision in PRECISIONS {
        let path = folder.path().join(precision.name());
        let export = Export::in_precision(precision).torchscript();
        let differences = save(&subnet, &path, &export)?;
        let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
        let images = images(subnet.architecture(), 2)?;
        let actual = module.forward_ts(&[&images])?;
        assert_eq!(actual.kind(), precision.kind());
        let stored = Subnet::<A>::load_as_stored(&path, test_device())?;
        let expected = stored.predict(&images)?;
        let close = Tolerance::of_scale(8.0 * precision.epsilon(), &expected)?;
        close.check(precision.name(), &actual, &expected)?;
        assert!(differences.export.is_some(), "save measures the export");
    }
    Ok(())
}

/// A user's family: a ViT without a graph, or with the graph of a ViT of another norm ε.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ForeignConfig {
    vit: VitConfig,
    graph_eps: Option<f64>,
    /// A number that the network does not compute with.
    limit: f64,
    /// Whether it has buffers of integers and flags, [`BUFFERS`].
    buffers: bool,
}

/// Names and kinds of buffers. The first name is before those of all parameters.
const BUFFERS: [(&str, Kind); 6] = [
    ("a_long", Kind::Int64),
    ("blocks.0.a_flag", Kind::Bool),
    ("blocks.0.an_int", Kind::Int),
    ("counts.short", Kind::Int16),
    ("counts.char", Kind::Int8),
    ("counts.byte", Kind::Uint8),
];

impl Architecture for ForeignConfig {
    type Network = VisionTransformer;
    const FAMILY: &'static str = "foreign";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        for (name, kind) in BUFFERS.into_iter().filter(|_| self.buffers) {
            let (name, path) = match name.rsplit_once('.') {
                Some((module, name)) => (name, module.split('.').fold(path.clone(), |p, m| p / m)),
                None => (name, path.clone()),
            };
            let mut own = path.f_zeros_no_train(name, &[3])?;
            own.f_set_data(&Tensor::f_from_slice(&[0, 1, 1])?.f_to_kind(kind)?)?;
        }
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

    fn pmim_ports(&self) -> Result<PmimPorts> {
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

fn foreign(graph_eps: Option<f64>) -> TestResult<Extracted<ForeignConfig>> {
    let vit = network(&config(false))?;
    let vit_config = vit.architecture().clone();
    let config = ForeignConfig { vit: vit_config, graph_eps, limit: 1.0, buffers: false };
    let subnet = Subnet::new(config, vit.weights(), test_device())?;
    let images = images(vit.architecture(), 3)?;
    verified_on(subnet, images)
}

#[test]
fn family_without_a_graph_is_saved_but_not_exported() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    let subnet = foreign(None)?;
    for export in [Export::default().torchscript(), Export::default().onnx()] {
        assert_refused!(
            subnet.save(&path, &export),
            Error::Unsupported { model, .. } if model == "foreign"
        );
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    }
    subnet.save(&path, &Export::default())?;
    let loaded = Subnet::<ForeignConfig>::load(&path, test_device())?;
    assert!(loaded.predict(&subnet.images)?.equal(&subnet.predict(&subnet.images)?));
    Ok(())
}

#[test]
fn export_with_other_logits_than_the_subnet_is_not_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let subnet = foreign(Some(1e-2))?;
    for export in [Export::default().torchscript(), Export::default().onnx()] {
        assert_refused!(
            subnet.save(folder.path().join("subnet"), &export),
            Error::Verification { what: "the exported file", .. }
        );
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    }
    Ok(())
}

#[test]
fn exports_of_a_network_with_integers_and_flags_have_its_logits() -> TestResult {
    let folder = tempfile::tempdir()?;
    let foreign = foreign(Some(1e-6))?;
    let config = ForeignConfig { buffers: true, ..foreign.architecture().clone() };
    let mut weights: Weights =
        foreign.weights().iter().map(|(name, own)| (name.clone(), own.shallow_clone())).collect();
    for (name, kind) in BUFFERS {
        weights.insert(name.into(), Tensor::f_from_slice(&[1, 0, 1])?.f_to_kind(kind)?);
    }
    let subnet = verified_on(Subnet::new(config, &weights, test_device())?, foreign.images)?;
    for export in [Export::f32(), Export::f16()] {
        let path = folder.path().join(export.precision.name());
        let tolerance = 8.0 * export.precision.epsilon();
        subnet.save(&path, &export.torchscript().onnx())?;
        assert!(path.join("model.onnx").is_file());
        let module = CModule::load_on_device(path.join("model.torchscript.pt"), test_device())?;
        let parameters = module.named_parameters()?;
        assert_eq!(parameters.len(), weights.len() - BUFFERS.len());
        let stored = Subnet::<ForeignConfig>::load_as_stored(&path, test_device())?;
        let expected = stored.predict(&subnet.images)?;
        let close = Tolerance::of_scale(tolerance, &expected)?;
        close.check("logits", &module.forward_ts(&[&subnet.images])?, &expected)?;
    }
    Ok(())
}

#[test]
fn architecture_that_json_cannot_store_is_not_written_over_an_artifact() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    let subnet = foreign(None)?;
    subnet.save(&path, &Export::default())?;
    let config = ForeignConfig { limit: f64::INFINITY, ..subnet.architecture().clone() };
    let unlimited = Subnet::new(config, subnet.weights(), test_device())?;
    assert_refused!(
        verified_on(unlimited, subnet.images)?.save(&path, &Export::default()),
        Error::Invalid { name, actual, .. }
            if name == "architecture" && actual.starts_with("limit: got ")
    );
    assert_eq!(Subnet::<ForeignConfig>::load(&path, test_device())?.architecture().limit, 1.0);
    Ok(())
}

#[test]
fn search_of_an_architecture_that_json_cannot_store_is_refused() -> TestResult {
    let config = ForeignConfig { limit: f64::INFINITY, ..foreign(None)?.architecture().clone() };
    let search = Search::of(config).budget(Budget::macs_share(0.9)).steps(60, 40);
    assert_refused!(
        search.build(),
        Error::Invalid { name, actual, .. }
            if name == "architecture" && actual.starts_with("limit: got ")
    );
    Ok(())
}
