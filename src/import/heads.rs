//! Number of attention heads of a ViT, which no tensor shows: that of published networks of the same sizes.

use super::named::Named;
use crate::models::Rope;
use crate::{Error, Result};

/// Channels of a head in the published ViTs up to a width of [`WIDEST`]. MoCo v3's ViT-S has 12 heads of 32, and the
/// tensors of a ViT-S with 6 heads: its heads have to be given.
const HEAD_DIM: i64 = 64;
/// Width up to which heads of 64 channels are assumed: wider networks have other heads, too.
const WIDEST: i64 = 1024;

/// Published networks wider than [`WIDEST`].
struct Wider {
    embed_dim: i64,
    blocks: usize,
    is_rotary: bool,
    /// `None` where all networks of the other sizes have the same heads.
    has_layer_scale: Option<bool>,
    heads: i64,
}

const fn wider(embed_dim: i64, blocks: usize, heads: i64) -> Wider {
    Wider { embed_dim, blocks, is_rotary: false, has_layer_scale: None, heads }
}

const WIDER: [Wider; 10] = [
    wider(1152, 27, 16),                                           // So400m: SigLIP
    wider(1280, 32, 16),                                           // H: MAE, DeiT III, CLIP
    Wider { is_rotary: true, ..wider(1280, 32, 20) },              // H+: DINOv3
    wider(1408, 40, 16),                                           // g: EVA, CLIP
    Wider { has_layer_scale: Some(true), ..wider(1536, 24, 24) },  // UNI2-h
    Wider { has_layer_scale: Some(true), ..wider(1536, 40, 24) },  // g: DINOv2
    Wider { has_layer_scale: Some(false), ..wider(1536, 40, 16) }, // g: SigLIP 2
    Wider { is_rotary: true, ..wider(1536, 40, 24) },              // g: LingBot
    wider(1664, 48, 16),                                           // G: CLIP
    Wider { is_rotary: true, ..wider(4096, 40, 32) },              // 7B: DINOv3
];

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
/// [`Error::Invalid`] for sizes whose number of heads is not known.
pub(super) fn assumed(named: &Named, embed_dim: i64, rope: Option<Rope>) -> Result<i64> {
    let blocks = (0..).take_while(|block| named.has_any(&format!("blocks.{block}."))).count();
    let has_layer_scale = named.has("blocks.0.ls1.gamma");
    let sizes = Sizes { embed_dim, blocks, is_rotary: rope.is_some(), has_layer_scale };
    published(sizes).ok_or_else(|| {
        let expected = format!(
            "the number of heads, which no tensor shows and which is not known for embed_dim {embed_dim} with \
             {blocks} blocks; set heads (--heads; of a teacher: teacher.heads), or put config.json beside the weights"
        );
        Error::invalid("heads", expected, "none")
    })
}

/// Heads of the published networks of these sizes; `None` if there are none.
fn published(sizes: Sizes) -> Option<i64> {
    let Sizes { embed_dim, blocks, is_rotary, has_layer_scale } = sizes;
    // A single head of 64 channels: networks of this width are small ones for tests, which have more.
    if (2 * HEAD_DIM..=WIDEST).contains(&embed_dim) {
        return (embed_dim % HEAD_DIM == 0).then_some(embed_dim / HEAD_DIM);
    }
    let known = WIDER.iter().find(|own| {
        (own.embed_dim, own.blocks, own.is_rotary) == (embed_dim, blocks, is_rotary)
            && own.has_layer_scale.is_none_or(|own| own == has_layer_scale)
    });
    known.map(|own| own.heads)
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

    #[test]
    fn heads_of_the_giants_depend_on_blocks_layer_scale_and_rotary_positions() {
        for (blocks, is_rotary, has_layer_scale, heads) in [
            (24, false, true, Some(24)),
            (24, false, false, None),
            (40, false, true, Some(24)),
            (40, false, false, Some(16)),
            (40, true, true, Some(24)),
            (16, false, false, None),
        ] {
            let sizes = Sizes { embed_dim: 1536, blocks, is_rotary, has_layer_scale };
            assert_eq!(published(sizes), heads, "{sizes:?}");
        }
    }
}
