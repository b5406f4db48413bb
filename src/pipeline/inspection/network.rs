//! Input and options of a network, as text.

use crate::models::{SwinConfig, VitConfig};
use serde_json::Value;

/// Fields that are sizes, shown on their own.
const SIZES: [&str; 9] = [
    "image_size",
    "image_width",
    "patch_size",
    "patch_width",
    "in_channels",
    "classes",
    "embed_dim",
    "blocks",
    "stages",
];

/// Returns input and classes in words: `224 × 224 pixels, 3 channels, patches of 16 × 16; 1000 classes`.
///
/// `config`: a [`VitConfig`] or a [`SwinConfig`].
pub(super) fn input(config: &Value) -> String {
    let number = |name: &str| config[name].as_i64();
    let sides = |own: &str, width: &str| {
        let height = number(own).unwrap_or_default();
        format!("{height} × {}", number(width).unwrap_or(height))
    };
    let (image, patch) = (sides("image_size", "image_width"), sides("patch_size", "patch_width"));
    let [channels, classes] = ["in_channels", "classes"].map(|own| number(own).unwrap_or_default());
    let plural = if channels == 1 { "" } else { "s" };
    format!("{image} pixels, {channels} channel{plural}, patches of {patch}; {classes} classes")
}

/// Returns the options of a network that are not those of a plain ViT or of Swin-T, as lines of section `[network]` of
/// a configuration.
pub(super) fn options(config: &Value) -> Vec<String> {
    let plain = match config.get("stages") {
        Some(_) => serde_json::to_value(SwinConfig::tiny()),
        None => serde_json::to_value(VitConfig::uniform(64, 1, 1)),
    };
    let plain = plain.unwrap_or_default();
    let own = config.as_object().into_iter().flatten();
    let own =
        own.filter(|(name, value)| !SIZES.contains(&name.as_str()) && plain[*name] != **value);
    let text = |value: &Value| match toml::Value::try_from(value) {
        Ok(own) => own.to_string(),
        Err(_) => value.to_string(),
    };
    own.map(|(name, value)| format!("{name} = {}", text(value))).collect()
}
