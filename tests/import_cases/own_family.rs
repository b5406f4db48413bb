//! Import into a family of the user's own, through [`Pretrained`].

use super::{alone, forward, into, load};
use crate::assert_refused;
use crate::support::{numbers, tensor, test_device, TestResult, Tolerance};
use once_for_both::cost::CostModel;
use once_for_both::error::ImportError;
use once_for_both::import::{
    self, ImportOptions, Naming, PositionTable, Pretrained, Translation, Weights,
};
use once_for_both::models::{Architecture, TchModule};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{nn, Device, Kind, Tensor};

const WIDTH: i64 = 8;
const PATCH: i64 = 4;
const PARTS: &[&str] = &["gate", "value"];

/// Patches, a class token, positions, one SwiGLU layer, and a classifier.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Glu {
    side: i64,
    channels: i64,
    classes: i64,
}

impl Architecture for Glu {
    type Network = TchModule<nn::Func<'static>>;
    const FAMILY: &'static str = "glu";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        let stride = nn::ConvConfig { stride: PATCH, ..Default::default() };
        let patches = nn::conv2d(path / "patches", self.channels, WIDTH, PATCH, stride);
        let class = path.f_zeros("class", &[1, 1, WIDTH])?;
        let positions = path.f_zeros("positions", &[1, 1 + self.side * self.side, WIDTH])?;
        let bare = nn::LinearConfig { bias: false, ..Default::default() };
        let both = nn::linear(path / "w12", WIDTH, 2 * WIDTH, bare);
        let classifier = nn::linear(path / "classifier", WIDTH, self.classes, Default::default());
        Ok(TchModule(nn::func(move |images| {
            let patches = images.apply(&patches).flatten(2, 3).transpose(1, 2);
            let class = class.expand([images.size()[0], -1, -1], false);
            let x = Tensor::cat(&[class, patches], 1) + &positions;
            let both = x.apply(&both);
            let hidden = both.narrow(2, 0, WIDTH).silu() * both.narrow(2, WIDTH, WIDTH);
            hidden.mean_dim(1, false, None).apply(&classifier)
        })))
    }

    fn space(&self) -> Result<SearchSpace> {
        Ok(SearchSpace::empty())
    }

    fn cost_model(&self) -> CostModel {
        CostModel::new(0.into(), 0.into(), Sizes::new())
    }
}

impl Pretrained for Glu {
    const HEADS: &'static [&'static str] = &["classifier"];
    const PATCH_PROJECTION: Option<&'static str> = Some("patches.weight");

    fn naming(checkpoint: &Weights) -> Option<Naming> {
        let own = checkpoint.keys().any(|name| name.starts_with("encoder."));
        own.then_some(Naming::Other)
    }

    fn translate(_: Naming, name: &str) -> Translation {
        let part = |part| Translation::Part { variable: "w12.weight".into(), part, parts: PARTS };
        match name {
            "encoder.mlp.gate.weight" => part("gate"),
            "encoder.mlp.value.weight" => part("value"),
            "encoder.mask" => Translation::Unused,
            "encoder.grid" => Translation::Computed,
            _ => match name.strip_prefix("encoder.") {
                Some(variable) => Translation::Variable(variable.into()),
                None => Translation::Unknown,
            },
        }
    }

    fn position_table(&self) -> Option<PositionTable> {
        Some(PositionTable {
            variable: "positions",
            prefix_tokens: &["class"],
            prefix: 1,
            grid: [self.side; 2],
        })
    }
}

fn glu() -> Glu {
    Glu { side: 3, channels: 3, classes: 5 }
}

/// A checkpoint with random weights under other names, as a safetensors file in a folder.
fn checkpoint() -> TestResult<(tempfile::TempDir, Weights)> {
    let _alone = alone();
    once_for_both::randomness::seed(7);
    let random = |shape: &[i64]| Tensor::f_randn(shape, (Kind::Float, Device::Cpu));
    let weights = Weights::from([
        ("encoder.patches.weight".into(), random(&[WIDTH, 3, PATCH, PATCH])?),
        ("encoder.patches.bias".into(), random(&[WIDTH])?),
        ("encoder.class".into(), random(&[1, 1, WIDTH])?),
        ("encoder.positions".into(), random(&[1, 10, WIDTH])?),
        ("encoder.mlp.gate.weight".into(), random(&[WIDTH, WIDTH])?),
        ("encoder.mlp.value.weight".into(), random(&[WIDTH, WIDTH])?),
        ("encoder.classifier.weight".into(), random(&[5, WIDTH])?),
        ("encoder.classifier.bias".into(), random(&[5])?),
        ("encoder.mask".into(), random(&[WIDTH])?),
        ("encoder.grid".into(), random(&[2])?),
    ]);
    let folder = tempfile::tempdir()?;
    let named: Vec<(&String, &Tensor)> = weights.iter().collect();
    Tensor::write_safetensors(&named, folder.path().join("glu.safetensors"))?;
    Ok((folder, weights))
}

#[test]
fn import_into_an_own_family_gives_the_network_of_the_checkpoint() -> TestResult {
    let (folder, stored) = checkpoint()?;
    let path = folder.path().join("glu.safetensors");
    let import = load(&path, &glu(), &ImportOptions::default())?;
    assert_eq!(import.report.naming, Naming::Other);
    assert_eq!(import.report.loaded.len(), import.weights.len());
    assert_eq!(import.report.unused, ["encoder.mask"]);
    assert!(import.report.is_exact());
    assert_eq!(import.report.computed, ["encoder.grid"]);
    let parts = ["gate", "value"].map(|part| format!("encoder.mlp.{part}.weight"));
    let both = [tensor(&stored, &parts[0])?, tensor(&stored, &parts[1])?];
    assert_eq!(tensor(&import.weights, "w12.weight")?, &Tensor::f_cat(&both, 0)?);

    // The same network with the checkpoint's tensors under their names by hand.
    let mut by_hand: Weights = stored
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("encoder.")?.into(), tensor.copy())))
        .collect();
    by_hand.insert("w12.weight".into(), Tensor::f_cat(&both, 0)?);
    let images = {
        let _alone = alone();
        Tensor::f_randn([2, 3, 12, 12], (Kind::Float, test_device()))?
    };
    let expected = forward(&glu(), &by_hand, &images)?.prediction()?;
    let logits = forward(&glu(), &import.weights, &images)?.prediction()?;
    Tolerance::of_scale(1e-6, &expected)?.check("logits", &logits, &expected)?;
    Ok(())
}

#[test]
fn import_into_an_own_family_of_other_sizes_adapts_positions_channels_and_head() -> TestResult {
    let (_folder, stored) = checkpoint()?;
    let other = Glu { side: 5, channels: 1, classes: 2 };
    let import = into(&stored, &other, &ImportOptions::default())?;
    let names = |list: &[import::Resized]| -> Vec<String> {
        list.iter().map(|resized| resized.name.clone()).collect()
    };
    assert_eq!(names(&import.report.resized), ["patches.weight", "positions"]);
    assert_eq!(names(&import.report.replaced), ["classifier.bias", "classifier.weight"]);
    let class = |weights: &Weights, name| numbers(&tensor(weights, name)?.narrow(1, 0, 1));
    assert_eq!(class(&import.weights, "positions")?, class(&stored, "encoder.positions")?);
    let sum = tensor(&stored, "encoder.patches.weight")?.sum_dim_intlist(1, true, Kind::Float);
    assert_eq!(numbers(tensor(&import.weights, "patches.weight")?)?, numbers(&sum)?);
    Ok(())
}

/// A family that names no head.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Headless(Glu);

impl Architecture for Headless {
    type Network = <Glu as Architecture>::Network;
    const FAMILY: &'static str = "headless";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        self.0.build(path)
    }

    fn space(&self) -> Result<SearchSpace> {
        self.0.space()
    }

    fn cost_model(&self) -> CostModel {
        self.0.cost_model()
    }
}

impl Pretrained for Headless {}

#[test]
fn identity_head_of_an_own_family_is_set_and_refused_where_it_has_no_head() -> TestResult {
    let (_folder, stored) = checkpoint()?;
    let options = ImportOptions { identity_head: true, ..ImportOptions::default() };
    let import = into(&stored, &Glu { classes: WIDTH, ..glu() }, &options)?;
    let eye = Tensor::f_eye(WIDTH, (Kind::Float, Device::Cpu))?;
    assert_eq!(numbers(tensor(&import.weights, "classifier.weight")?)?, numbers(&eye)?);
    assert_eq!(numbers(tensor(&import.weights, "classifier.bias")?)?, [0.0; WIDTH as usize]);
    assert_refused!(
        into(&stored, &Headless(glu()), &options),
        Error::Invalid { ref name, .. } if name == "identity_head"
    );
    Ok(())
}

#[test]
fn import_into_an_own_family_with_wrong_names_is_refused_by_name() -> TestResult {
    let (_folder, stored) = checkpoint()?;
    let options = ImportOptions::default();
    let copy = || -> Weights { stored.iter().map(|(n, t)| (n.clone(), t.copy())).collect() };
    let mut without = copy();
    without.remove("encoder.mlp.value.weight");
    assert_refused!(
        into(&without, &glu(), &options),
        Error::Import(ImportError::Missing { variable }) if variable == "value of w12.weight"
    );
    let mut unknown = copy();
    unknown.insert("decoder.bias".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    assert_refused!(
        into(&unknown, &glu(), &options),
        Error::Import(ImportError::Unplaced { name, .. }) if name == "decoder.bias"
    );
    let foreign = Weights::from([("a".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)))]);
    assert_refused!(
        into(&foreign, &glu(), &options),
        Error::Import(ImportError::Naming { family: "glu", found, .. }) if found == ["a"]
    );
    Ok(())
}

/// A head that is an MLP, as the blocks have one: `mlp.0` beside `blocks.0.mlp.fc1`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct MlpHead;

impl Architecture for MlpHead {
    type Network = TchModule<nn::Sequential>;
    const FAMILY: &'static str = "mlp_head";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        let layer = |path| nn::linear(path, WIDTH, WIDTH, Default::default());
        let block = path / "blocks" / 0;
        let layers = nn::seq()
            .add(layer(path / "patch"))
            .add(layer(&block / "attn" / "qkv"))
            .add(layer(&block / "mlp" / "fc1"))
            .add(layer(path / "mlp" / 0))
            .add(layer(path / "mlp" / 2));
        Ok(TchModule(layers))
    }

    fn space(&self) -> Result<SearchSpace> {
        Ok(SearchSpace::empty())
    }

    fn cost_model(&self) -> CostModel {
        CostModel::new(0.into(), 0.into(), Sizes::new())
    }
}

impl Pretrained for MlpHead {}

/// The names of its variables, each with a random tensor.
fn mlp_head() -> TestResult<Weights> {
    let store = nn::VarStore::new(Device::Cpu);
    let _alone = alone();
    MlpHead.build(&store.root())?;
    Ok(store.variables().into_iter().map(|(name, own)| (name, own.detach())).collect())
}

#[test]
fn import_of_own_names_with_a_head_named_as_a_part_of_the_blocks_is_exact() -> TestResult {
    let weights = mlp_head()?;
    for prefix in [None, Some(String::new())] {
        let options = ImportOptions { strict: true, prefix, ..Default::default() };
        let import = into(&weights, &MlpHead, &options)?;
        assert_eq!(import.weights, weights);
        assert_eq!(import.report.prefix, "");
    }
    Ok(())
}

#[test]
fn import_into_an_own_family_with_a_prefix_of_some_names_is_refused_with_the_prefix() -> TestResult
{
    let mut weights = mlp_head()?;
    let bias = weights.remove("patch.bias").ok_or("no patch.bias")?;
    weights.insert("module.patch.bias".into(), bias);
    assert_refused!(
        into(&weights, &MlpHead, &ImportOptions::default()),
        Error::Import(ImportError::PrefixOfSome { prefix, inside, .. })
            if prefix == "module." && inside == ["module.patch.bias"]
    );
    Ok(())
}
