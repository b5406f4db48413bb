//! Swins whose windows or patch merging do not divide their grids: `make_swin.py`.

use super::{alone, data, forward};
use crate::assert_refused;
use crate::support::{tensor, Tensors, TestResult, Tolerance};
use once_for_both::cost::Metric;
use once_for_both::import::{self, into, Assumption, Import, ImportOptions, KnownNetwork};
use once_for_both::models::{Architecture, BlockConfig, SwinConfig};
use once_for_both::Error;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Case {
    name: String,
    image: i64,
    patch: i64,
    width: i64,
    depths: Vec<usize>,
    heads: Vec<i64>,
    window: i64,
    macs: u64,
    params: u64,
}

impl Case {
    fn config(&self) -> SwinConfig {
        let uniform = SwinConfig::uniform(self.width, &self.depths, 1).classes(5);
        let mut config = uniform.input(self.image, 3, self.patch).window(self.window);
        for (stage, heads) in config.stages.iter_mut().zip(&self.heads) {
            let (width, depth) = (stage.embed_dim, stage.blocks.len());
            stage.blocks = vec![BlockConfig::new(*heads, width / heads, 2 * width); depth];
        }
        config
    }
}

fn cases() -> TestResult<Vec<Case>> {
    Ok(serde_json::from_slice(&std::fs::read(data("swin/cases.json"))?)?)
}

/// Weights, images and logits of a file.
fn read(name: &str) -> TestResult<(Tensors, Tensors)> {
    let all = import::read(&data("swin").join(format!("{name}.safetensors")))?;
    Ok(all.into_iter().partition(|(name, _)| !name.starts_with("golden.")))
}

fn check(name: &str, config: &SwinConfig) -> TestResult<Import> {
    let (weights, golden) = read(name)?;
    let import = {
        let _alone = alone();
        into(&weights, config, &ImportOptions::default())?
    };
    assert!(import.report.is_exact(), "{name}: {:?}", import.report);
    let expected = tensor(&golden, "golden.logits")?;
    let logits =
        forward(config, &import.weights, tensor(&golden, "golden.images")?)?.prediction()?;
    Tolerance::of_scale(1e-5, expected)?.check(name, &logits, expected)?;
    Ok(import)
}

#[test]
fn windows_that_do_not_divide_the_grid_give_the_logits_and_macs_of_timm() -> TestResult {
    for case in cases()? {
        let config = case.config();
        check(&case.name, &config)?;
        let costs = config.cost_model();
        assert_eq!(costs.dense_cost(Metric::Macs)?, case.macs as f64, "{}", case.name);
        assert_eq!(costs.dense_cost(Metric::Params)?, case.params as f64, "{}", case.name);
    }
    Ok(())
}

/// transformers pads a grid before it is shifted, timm after: the import says so.
#[test]
fn padded_windows_of_transformers_are_exact_without_shift_and_said_to_differ_with_one() -> TestResult
{
    let [without, with] =
        [[1, 1], [2, 1]].map(|depths| Case { depths: depths.to_vec(), heads: vec![2, 4], ..odd() });
    let differs = |own: &Assumption| own.property == "padding of shifted windows";
    let import = check("transformers", &without.config())?;
    assert!(!import.report.assumed.iter().any(differs));
    let (mut weights, _) = read("transformers")?;
    let block: Vec<_> =
        weights.keys().filter(|name| name.contains("layers.0.blocks.0.")).cloned().collect();
    for name in block {
        let other = weights[&name].copy();
        weights.insert(name.replace("layers.0.blocks.0.", "layers.0.blocks.1."), other);
    }
    let _alone = alone();
    let import = into(&weights, &with.config(), &ImportOptions::default())?;
    assert!(import.report.assumed.iter().any(differs), "{:?}", import.report.assumed);
    Ok(())
}

fn odd() -> Case {
    let (name, image, patch, width, window) = (String::new(), 18, 2, 8, 4);
    Case { name, image, patch, width, window, depths: vec![], heads: vec![], macs: 0, params: 0 }
}

/// Writes a file of `make_swin.py` with a configuration beside it, and inspects it.
fn inspect(
    folder: &Path,
    name: &str,
    json: &str,
) -> TestResult<once_for_both::Result<KnownNetwork>> {
    let (weights, _) = read(name)?;
    let weights: Vec<_> = weights.into_iter().collect();
    tch::Tensor::write_safetensors(&weights, folder.join("model.safetensors"))?;
    std::fs::write(folder.join("config.json"), json)?;
    let _alone = alone();
    let options = ImportOptions::default();
    let found = import::inspect_file(&folder.join("model.safetensors"), &options, None);
    Ok(found.map(|found| {
        let image = found.report.assumed.iter().find(|own| own.property == "image");
        assert_eq!(image.and_then(|own| own.source.as_deref()), Some("config.json"));
        found.network
    }))
}

#[test]
fn inspection_of_a_swin_takes_the_image_of_the_configuration_beside_it() -> TestResult {
    let folder = tempfile::tempdir()?;
    for case in cases()?.iter().filter(|case| case.name != "one_token") {
        let json = format!(r#"{{"pretrained_cfg": {{"input_size": [3, {0}, {0}]}}}}"#, case.image);
        let found = inspect(folder.path(), &case.name, &json)?;
        assert_eq!(found?, KnownNetwork::Swin(case.config()), "{}", case.name);
    }
    Ok(())
}

/// As of Swin-S3, whose second stage has windows of its own; and a Swin with another activation.
#[test]
fn inspection_of_a_swin_that_no_swin_config_describes_is_refused_with_the_reason() -> TestResult {
    let (folder, name) = (tempfile::tempdir()?, "odd");
    let larger = r#"{"image_size": 30, "hidden_act": "gelu"}"#;
    assert_refused!(
        inspect(folder.path(), name, larger)?,
        Error::Invalid { name, .. } if name == "window of stage 2"
    );
    for activation in ["relu", "silu"] {
        let json = format!(r#"{{"image_size": 18, "hidden_act": "{activation}"}}"#);
        assert_refused!(
            inspect(folder.path(), name, &json)?,
            Error::Invalid { name, .. } if name == "activation of a Swin"
        );
    }
    Ok(())
}
