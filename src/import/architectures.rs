//! What the names of timm's architectures say that no tensor shows.

use crate::models::Activation;
use crate::{Error, Result};

/// Architectures with the tensors of a ViT of this crate that compute something else: a part of the
/// name, and what they have.
const OTHERS: [(&str, &str); 7] = [
    ("_rpn_", "norms after attention and MLP"),
    ("eva02_enormous", "norms after attention and MLP"),
    ("_rope_ape_", "rotary positions of columns before rows"),
    ("_rope_mixed_", "learned rotary positions"),
    ("vit_pe_", "rotary positions of columns before rows"),
    ("_sapiens2", "grouped-query attention"),
    ("test_vit3", "pooling of all tokens by attention"),
];

/// Architectures with the tanh approximation of GELU: their names begin so.
const TANH: [&str; 5] = [
    "vit_base_patch32_siglip_",
    "vit_giantopt_patch16_siglip_",
    "vit_large_patch16_siglip_512",
    "vit_large_patch16_siglip_gap_512",
    "vit_so400m_patch16_siglip_",
];

/// Refuses an architecture that has other functions than a [`VitConfig`](crate::models::VitConfig).
pub(super) fn expect_known(architecture: &str) -> Result<()> {
    match OTHERS.iter().find(|(part, _)| architecture.contains(part)) {
        None => Ok(()),
        Some((_, words)) => {
            let actual = format!("{architecture}, which has {words}");
            Err(Error::invalid("architecture in config.json", "one that a VitConfig is", actual))
        }
    }
}

/// Returns the activation of the MLP, where the name shows it.
pub(super) fn activation(architecture: &str) -> Option<Activation> {
    if architecture.contains("quickgelu") {
        return Some(Activation::QuickGelu);
    }
    let tanh = TANH.iter().any(|start| architecture.starts_with(start));
    tanh.then_some(Activation::GeluTanh)
}

/// Returns ε of the norms, where it is not that of the other ViTs of timm.
pub(super) fn norm_eps(architecture: &str) -> Option<f64> {
    architecture.ends_with("_lingbot").then_some(1e-5)
}

/// Returns the heads of architectures whose heads do not have 64 channels.
pub(super) fn heads(architecture: &str) -> Option<i64> {
    let has = |word: &str| architecture.contains(word);
    let any = |words: &[&str]| words.iter().copied().any(has);
    match architecture {
        "vit_7b_patch16_dinov3" => Some(32),
        "vit_base_patch16_gap_224" => Some(16),
        "test_vit" | "test_vit2" => Some(2),
        "test_vit3" | "test_vit4" => Some(3),
        _ if any(&["_gigantic_", "_giantopt_", "_so400m_"]) => Some(16),
        _ if has("_huge_") && !has("_huge_plus_") => Some(16),
        // Giants of width 1536 have 24 heads.
        _ if has("_giant_") && !any(&["dinov2", "tipsv2", "radio", "lingbot"]) => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_architectures_show_heads_activation_and_other_functions() {
        assert_eq!(heads("vit_so400m_patch14_siglip_224"), Some(16));
        assert_eq!(heads("vit_giant_patch14_dinov2"), None);
        assert_eq!(heads("test_vit"), Some(2));
        assert_eq!(heads("vit_base_patch16_224"), None);
        let tanh = Some(Activation::GeluTanh);
        assert_eq!(activation("vit_so400m_patch16_siglip_gap_256"), tanh);
        assert_eq!(activation("vit_base_patch16_siglip_224"), None);
        let quick = Some(Activation::QuickGelu);
        assert_eq!(activation("vit_base_patch16_clip_quickgelu_224"), quick);
        assert!(expect_known("vit_base_patch16_224").is_ok());
        let refused = expect_known("vit_base_patch16_rpn_224").map_err(|error| error.to_string());
        assert!(refused.is_err_and(|error| error.contains("norms after attention and MLP")));
    }
}
