//! Attention heads of a ViT whose checkpoint says them nowhere: those of published networks of its sizes.

use super::named::Named;
use crate::models::Rope;
use crate::{Error, Result};

/// Channels of a head in the published ViTs up to a width of [`WIDEST`].
const HEAD_DIM: i64 = 64;
/// Width up to which heads of 64 channels are assumed: wider networks have other heads, too.
const WIDEST: i64 = 1024;
/// Heads of wider networks: width, blocks, whether they have rotary positions, heads.
const WIDER: [(i64, usize, bool, i64); 7] = [
    (1152, 27, false, 16), // So400m: SigLIP
    (1280, 32, false, 16), // H: MAE, DeiT III, CLIP
    (1280, 32, true, 20),  // H+: DINOv3
    (1408, 40, false, 16), // g: EVA, CLIP
    (1536, 40, true, 24),  // g: LingBot
    (1664, 48, false, 16), // G: CLIP
    (4096, 40, true, 32),  // 7B: DINOv3
];
/// The giant of DINOv2, which has LayerScale. Without it, a network of these sizes is of SigLIP 2, with 16 heads.
const DINOV2_GIANT: (i64, usize, i64) = (1536, 40, 24);

/// What tensors show of a ViT that the number of its heads depends on.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    embed_dim: i64,
    blocks: usize,
    is_rotary: bool,
    has_layer_scale: bool,
}

/// Returns the heads that are assumed for a ViT.
///
/// # Errors
/// [`Error::Invalid`] if published networks of its sizes have several numbers of heads, or there are none.
pub(super) fn assumed(named: &Named, embed_dim: i64, rope: Option<Rope>) -> Result<i64> {
    let blocks = (0..).take_while(|block| named.has_any(&format!("blocks.{block}."))).count();
    let has_layer_scale = named.has("blocks.0.ls1.gamma");
    let sizes = Sizes { embed_dim, blocks, is_rotary: rope.is_some(), has_layer_scale };
    published(sizes).ok_or_else(|| {
        let expected = format!(
            "a number by the option heads (--heads), or a config.json beside the weights: no tensor shows the heads, and \
             no published network, or networks with several numbers of heads, have embed_dim {embed_dim} and {blocks} blocks"
        );
        Error::invalid("heads", expected, "none")
    })
}

/// Heads of the published networks of these sizes; `None` if they differ.
fn published(sizes: Sizes) -> Option<i64> {
    let Sizes { embed_dim, blocks, is_rotary, has_layer_scale } = sizes;
    // A single head of 64 channels: networks of this width are small ones for tests, which have more.
    if (2 * HEAD_DIM..=WIDEST).contains(&embed_dim) {
        return (embed_dim % HEAD_DIM == 0).then_some(embed_dim / HEAD_DIM);
    }
    if has_layer_scale && (embed_dim, blocks) == (DINOV2_GIANT.0, DINOV2_GIANT.1) {
        return Some(DINOV2_GIANT.2);
    }
    let known = WIDER.iter().find(|own| (own.0, own.1, own.2) == (embed_dim, blocks, is_rotary));
    known.map(|own| own.3)
}

#[cfg(test)]
mod tests {
    use super::super::architectures;
    use super::*;
    use crate::Error;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// A network of timm, as `family_table.py` wrote it.
    #[derive(serde::Deserialize)]
    struct Own {
        embed_dim: i64,
        depth: usize,
        num_heads: i64,
        rope: bool,
        layer_scale: bool,
    }

    fn networks() -> Result<BTreeMap<String, Own>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/timm_heads.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        serde_json::from_str(&text).map_err(|e| Error::file(&path, e))
    }

    fn assumed(own: &Own) -> Option<i64> {
        let Own { embed_dim, depth: blocks, rope: is_rotary, layer_scale, .. } = *own;
        published(Sizes { embed_dim, blocks, is_rotary, has_layer_scale: layer_scale })
    }

    /// The networks that are imported exactly, with the `config.json` that names them.
    #[test]
    fn heads_of_every_architecture_of_timm_are_its_own_by_name_and_sizes() -> Result<()> {
        let networks = networks()?;
        assert!(networks.len() > 150, "{}", networks.len());
        for (name, own) in &networks {
            let heads = architectures::heads(name).or_else(|| assumed(own));
            assert_eq!(heads, Some(own.num_heads), "{name}");
        }
        Ok(())
    }

    #[test]
    fn heads_of_every_network_of_timm_without_a_name_are_its_own_or_unknown() -> Result<()> {
        for (name, own) in &networks()? {
            // No tensor tells it from the other ViT-Bs, and no weights of it are published.
            if name == "vit_base_patch16_gap_224" {
                continue;
            }
            assert!(assumed(own).is_none_or(|heads| heads == own.num_heads), "{name}");
        }
        Ok(())
    }
}
