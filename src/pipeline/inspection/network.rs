//! Input and options of a network, as text.

use crate::models::{SwinConfig, VitConfig};
use serde_json::Value;

/// Fields that are sizes, shown on their own.
const SIZES: [&str; 8] = [
    "image_size",
    "image_width",
    "patch_size",
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
/// a configuration. With `embed_dim`, `depth`, `heads`, `image_size` and `patch_size`, they describe a ViT of square images
/// and equal blocks.
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
    let lines = own.map(|(name, value)| format!("{name} = {}", text(value)));
    hidden_dim(config).into_iter().chain(lines).collect()
}

/// Returns the line of a hidden width that all blocks of a ViT have, where it is not four times the embedding's.
fn hidden_dim(config: &Value) -> Option<String> {
    let mut widths =
        config.get("blocks")?.as_array()?.iter().map(|block| block["hidden_dim"].as_i64());
    let first = widths.next()??;
    let equal = widths.all(|width| width == Some(first));
    let is_default = config["embed_dim"].as_i64()?.checked_mul(4) == Some(first);
    (equal && !is_default).then(|| format!("hidden_dim = {first}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{
        Activation, AttentionPool, BlockConfig, Mlp, Norm, Pooling, PositionEmbedding, QkvBias,
        Rope,
    };
    use crate::pipeline::NetworkConfig;

    type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

    fn check(vit: &VitConfig) -> TestResult {
        let block = vit.blocks.first().ok_or("no block")?;
        let sizes = format!(
            "embed_dim = {}\ndepth = {}\nheads = {}\nimage_size = {}\npatch_size = {}\n",
            vit.embed_dim,
            vit.blocks.len(),
            block.heads,
            vit.image_size,
            vit.patch_size
        );
        let text = sizes + &options(&serde_json::to_value(vit)?).join("\n");
        let network: NetworkConfig = toml::from_str(&text)?;
        assert_eq!(network.vit(vit.in_channels, vit.classes)?, *vit, "{text}");
        Ok(())
    }

    #[test]
    fn options_of_vits_as_lines_of_a_configuration_give_back_the_networks() -> TestResult {
        let plain = VitConfig::uniform(12, 2, 3).input(12, 1, 4).classes(5);
        assert_eq!(options(&serde_json::to_value(&plain)?), Vec::<String>::new());
        check(&plain)?;
        // Neither 4·E nor square.
        let wide = VitConfig { patch_width: Some(2), ..plain.clone() };
        check(&VitConfig { blocks: vec![BlockConfig::new(3, 4, 43); 2], ..wide })?;
        let siglip = plain.clone().pooling(Pooling::Attention(AttentionPool::new(12, 3, 24)));
        check(&VitConfig {
            class_token: false,
            activation: Activation::GeluTanh,
            norm_eps: 1e-5,
            drop_path: 0.1,
            ..siglip
        })?;
        check(&VitConfig { distilled: true, ..plain.clone() })?;
        check(&VitConfig {
            class_token: false,
            registers: 4,
            positions: PositionEmbedding::None,
            patch_bias: false,
            pre_norm: true,
            norm: Norm::Rms,
            mlp: Mlp::SwiGlu,
            qkv_bias: QkvBias::QueryValue,
            qk_norm: Some(Norm::Layer),
            head_bias: false,
            rope: Some(Rope::Grid { base: 10_000.0, reference: 16 }),
            ..plain.layer_scale(1e-5).pooling(Pooling::MeanNorm)
        })
    }

    #[test]
    fn hidden_width_of_unequal_blocks_is_no_option() -> TestResult {
        let blocks = vec![BlockConfig::new(3, 4, 24), BlockConfig::new(3, 4, 23)];
        let vit = VitConfig { blocks, ..VitConfig::uniform(12, 2, 3) };
        assert_eq!(options(&serde_json::to_value(vit)?), Vec::<String>::new());
        assert_eq!(options(&serde_json::to_value(SwinConfig::tiny())?), Vec::<String>::new());
        Ok(())
    }
}
