//! Properties of a network that no tensor shows, from the `config.json` beside its weights.

use super::checkpoint::shards::is_of_artifact;
use super::report::Assumption;
use super::{architectures, open_clip};
use crate::error::CheckpointError;
use crate::models::{Activation, Pooling};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Name of the configuration that transformers and timm write beside the weights.
const CONFIG: &str = "config.json";
/// An artifact has sizes of its own for every block, which only its `config.json` says.
const OF_ARTIFACT: CheckpointError = CheckpointError::NotWeights {
    found: "the weights of an artifact of this crate",
    advice: "give its folder",
};

/// Properties of a ViT or Swin that no tensor of its checkpoint shows, as far as they are known. Of a Swin,
/// [`norm_eps`](Self::norm_eps) and [`image_size`](Self::image_size) are taken, and an
/// [`activation`](Self::activation) other than GELU is refused.
///
/// ```
/// use once_for_both::import::KnownProperties;
/// use once_for_both::models::Activation;
///
/// let clip = r#"{"model_type": "clip_vision_model", "num_attention_heads": 12,
///                "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "image_size": 224}"#;
/// let known = KnownProperties::from_json(&serde_json::from_str(clip)?)?;
/// assert_eq!((known.heads, known.activation), (Some(12), Some(Activation::QuickGelu)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KnownProperties {
    /// Attention heads of every block.
    pub heads: Option<i64>,
    /// ε of every norm.
    pub norm_eps: Option<f64>,
    /// Activation of the MLP, where it is not SiLU.
    pub activation: Option<Activation>,
    /// Whether the activation of the MLP is SiLU, which only a gated MLP may have.
    #[serde(default)]
    pub silu: bool,
    /// Input of the classifier.
    pub pooling: Option<Pooling>,
    /// Side of the image in pixels, for a ViT without a table of positions and for a Swin.
    pub image_size: Option<i64>,
    /// Base of rotary positions.
    pub rope_base: Option<f64>,
}

impl KnownProperties {
    /// Returns what only the number of heads is known of.
    pub fn of_heads(heads: Option<i64>) -> Self {
        Self { heads, ..Self::default() }
    }

    /// Reads the `config.json` in the folder of a checkpoint, and for what it does not say the
    /// `open_clip_config.json` there; `None` if there is neither.
    ///
    /// # Errors
    /// [`Error::File`] if one is no JSON; [`Error::Checkpoint`] if it is the configuration of an artifact of this crate,
    /// whose sizes it has; and those of [`from_json`](Self::from_json).
    pub fn beside(checkpoint: &Path) -> Result<Option<Self>> {
        Ok(Self::merged(&Self::all_beside(checkpoint)?))
    }

    /// The properties of each file beside a checkpoint, with its name. The first one that knows a
    /// property decides.
    ///
    /// # Errors
    /// Those of [`beside`](Self::beside).
    pub(super) fn all_beside(checkpoint: &Path) -> Result<Vec<(&'static str, Self)>> {
        let files = files_beside(checkpoint)?;
        if files.iter().any(|(_, json)| is_of_artifact(json)) {
            let source = Box::new(OF_ARTIFACT);
            return Err(Error::Checkpoint { path: checkpoint.into(), source });
        }
        files.iter().map(|(name, json)| Ok((*name, Self::from_json(json)?))).collect()
    }

    /// What several files say together; `None` for no file.
    pub(super) fn merged(files: &[(&'static str, Self)]) -> Option<Self> {
        files.iter().map(|(_, known)| *known).reduce(Self::or)
    }

    /// Takes from `other` what is not known.
    fn or(self, other: Self) -> Self {
        Self {
            heads: self.heads.or(other.heads),
            norm_eps: self.norm_eps.or(other.norm_eps),
            activation: if self.silu { None } else { self.activation.or(other.activation) },
            silu: self.silu || (self.activation.is_none() && other.silu),
            pooling: self.pooling.or(other.pooling),
            image_size: self.image_size.or(other.image_size),
            rope_base: self.rope_base.or(other.rope_base),
        }
    }

    /// Takes the properties from a configuration of transformers, that of the image tower if it has
    /// several, or from one of timm or OpenCLIP.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an activation function that no [`Activation`] is, for a maximum over the patches, which no
    /// [`Pooling`] is, and for an architecture of timm that has the tensors of a ViT of this crate and computes something
    /// else.
    pub fn from_json(json: &Value) -> Result<Self> {
        if let Some(model) = json.get("model_cfg") {
            return open_clip::known(model);
        }
        if let Some(tower) = json.get("vision_config") {
            return Self::from_json(tower);
        }
        let arguments = json.get("model_args").unwrap_or(&Value::Null);
        let find = |name| json.get(name).or_else(|| arguments.get(name));
        let text = |name| find(name).and_then(Value::as_str);
        let architecture = text("architecture").unwrap_or_default();
        architectures::expect_known(architecture)?;
        let norm_eps = find("layer_norm_eps").and_then(Value::as_f64);
        let named = text("hidden_act").or_else(|| text("act_layer"));
        let silu = matches!(named, Some("silu" | "swish"));
        let activation = match named {
            Some(_) if silu => None,
            Some(name) => Some(activation(name)?),
            None => architectures::activation(architecture),
        };
        let heads = find("num_attention_heads").or_else(|| find("num_heads"));
        let rope_base = find("rope_theta").or_else(|| find("rope_temperature"));
        let image_size = find("image_size").or_else(|| find("img_size"));
        let image_size = image_size.or_else(|| json.pointer("/pretrained_cfg/input_size/1"));
        Ok(Self {
            heads: heads.and_then(Value::as_i64).or_else(|| architectures::heads(architecture)),
            norm_eps: norm_eps.or_else(|| architectures::norm_eps(architecture)),
            activation,
            silu,
            pooling: pooling(text("global_pool"), find("fc_norm").and_then(Value::as_bool))?,
            image_size: image_size.and_then(Value::as_i64),
            rope_base: rope_base.and_then(Value::as_f64),
        })
    }

    /// Says of each assumption that these properties decide where it is from.
    pub(super) fn say_source(&self, assumed: &mut [Assumption], source: &str) {
        let known = [
            ("heads", self.heads.is_some()),
            ("norm_eps", self.norm_eps.is_some()),
            ("activation", self.activation.is_some()),
            ("pooling", self.pooling.is_some()),
            ("rotary positions", self.rope_base.is_some()),
        ];
        say_sources(&known, assumed, source);
    }

    /// [`say_source`](Self::say_source) for the properties of a Swin.
    pub(super) fn say_source_of_swin(&self, assumed: &mut [Assumption], source: &str) {
        let known = [
            ("norm_eps", self.norm_eps.is_some()),
            ("activation", self.activation.is_some()),
            ("image", self.image_size.is_some()),
        ];
        say_sources(&known, assumed, source);
    }
}

fn say_sources(known: &[(&str, bool)], assumed: &mut [Assumption], source: &str) {
    for (property, is_known) in known {
        let own = assumed.iter_mut().filter(|own| *is_known && own.property == *property);
        own.for_each(|own| own.source = Some(source.into()));
    }
}

/// Refuses a checkpoint whose configuration beside it names an architecture of timm that has the
/// tensors of a ViT of this crate and computes something else.
pub(super) fn expect_known_beside(checkpoint: &Path) -> Result<()> {
    for (_, json) in files_beside(checkpoint)? {
        let own = json.get("architecture").and_then(Value::as_str);
        let architecture = own.or_else(|| json.get("model_cfg").and_then(open_clip::timm_name));
        architecture.map_or(Ok(()), architectures::expect_known)?;
    }
    Ok(())
}

/// The files in the folder of a checkpoint that describe its network, with their names.
fn files_beside(checkpoint: &Path) -> Result<Vec<(&'static str, Value)>> {
    let folder = if checkpoint.is_dir() { Some(checkpoint) } else { checkpoint.parent() };
    let mut files = vec![];
    for name in [CONFIG, open_clip::CONFIG] {
        let Some(path) = folder.map(|own| own.join(name)).filter(|path| path.is_file()) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
        files.push((name, serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?));
    }
    Ok(files)
}

fn activation(name: &str) -> Result<Activation> {
    Ok(match name {
        "gelu" | "gelu_erf" | "gelu_python" => Activation::Gelu,
        "gelu_tanh" | "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        other => {
            let expected = "gelu, gelu_pytorch_tanh, quick_gelu, relu or silu";
            return Err(Error::invalid("activation in config.json", expected, other));
        }
    })
}

/// timm's `global_pool` and `fc_norm`.
fn pooling(global_pool: Option<&str>, fc_norm: Option<bool>) -> Result<Option<Pooling>> {
    Ok(match (global_pool, fc_norm) {
        (Some("token"), _) => Some(Pooling::ClassToken),
        (Some("avg"), Some(false)) => Some(Pooling::Mean),
        (Some("avg"), _) => Some(Pooling::MeanNorm),
        (Some(max @ ("max" | "avgmax")), _) => {
            return Err(Error::invalid("global_pool in config.json", "token, avg or map", max));
        }
        _ => None,
    })
}
