//! What the `open_clip_config.json` of OpenCLIP says of the image tower.

use super::KnownProperties;
use crate::models::{Activation, Pooling};
use crate::{Error, Result};
use serde_json::{json, Value};

/// Name of the configuration that OpenCLIP writes beside the weights.
pub(super) const CONFIG: &str = "open_clip_config.json";
/// Channels of a head, where the configuration has none.
const HEAD_WIDTH: i64 = 64;

/// Returns timm's name of the image tower, if it is one of timm, from the section `model_cfg`.
pub(super) fn timm_name(model: &Value) -> Option<&str> {
    model.pointer("/vision_cfg/timm_model_name").and_then(Value::as_str)
}

/// Takes the properties of the image tower from the section `model_cfg`.
///
/// # Errors
/// [`Error::Invalid`] for a mean of the tokens before the final norm and for pooling by attention, which no ViT of
/// this crate has in this form; those of [`KnownProperties::from_json`] for a tower of timm.
pub(super) fn known(model: &Value) -> Result<KnownProperties> {
    let vision = model.get("vision_cfg").unwrap_or(&Value::Null);
    if let Some(architecture) = timm_name(model) {
        let pool = vision.get("timm_pool");
        return KnownProperties::from_json(
            &json!({ "architecture": architecture, "global_pool": pool }),
        );
    }
    let number = |name| vision.get(name).and_then(Value::as_i64);
    let head_width = number("head_width").unwrap_or(HEAD_WIDTH).max(1);
    Ok(KnownProperties {
        heads: number("width").map(|width| width / head_width),
        norm_eps: vision.pointer("/norm_kwargs/eps").and_then(Value::as_f64),
        activation: Some(activation(model, vision)),
        pooling: pooling(vision)?,
        image_size: number("image_size"),
        ..KnownProperties::default()
    })
}

fn activation(model: &Value, vision: &Value) -> Activation {
    let is_quick = model.get("quick_gelu").and_then(Value::as_bool).unwrap_or(false);
    let approximation = vision.pointer("/act_kwargs/approximate").and_then(Value::as_str);
    match (is_quick, approximation) {
        (true, _) => Activation::QuickGelu,
        (false, Some("tanh")) => Activation::GeluTanh,
        (false, _) => Activation::Gelu,
    }
}

fn pooling(vision: &Value) -> Result<Option<Pooling>> {
    let is = |name| vision.get(name).and_then(Value::as_bool).unwrap_or(false);
    // Of CoCa: true, or the name of a kind.
    if is("attentional_pool") || vision.get("attentional_pool").is_some_and(Value::is_string) {
        return Err(Error::invalid(format!("attentional_pool in {CONFIG}"), "false", true));
    }
    match vision.get("pool_type").and_then(Value::as_str).unwrap_or("tok") {
        "tok" => Ok(Some(Pooling::ClassToken)),
        "avg" if is("final_ln_after_pool") => {
            let expected = "false with pool_type avg";
            Err(Error::invalid(format!("final_ln_after_pool in {CONFIG}"), expected, true))
        }
        "avg" => Ok(Some(Pooling::Mean)),
        _ => Ok(None),
    }
}
