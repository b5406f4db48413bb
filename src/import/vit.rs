//! Import into ViTs.

use super::family::{of_blocks, PositionTable, Pretrained, Translation};
use super::half_split::interleaved;
use super::recognise::is_swin;
use super::vit_names::{clip, dinov3, open_clip, timm, transformers, UP};
use super::{Assumption, Naming};
use crate::models::{Pooling, PositionEmbedding, Rope, VitConfig};
use crate::tensors::Weights;
use crate::Result;
use tch::Tensor;

impl Pretrained for VitConfig {
    const HEADS: &'static [&'static str] = &["head", "head_dist"];
    const OPTIONAL: &'static [&'static str] = &["dist_token", "head_dist"];
    const PATCH_PROJECTION: Option<&'static str> = Some("patch_embed.proj.weight");

    fn naming(checkpoint: &Weights) -> Option<Naming> {
        Naming::recognise(checkpoint).filter(|_| !is_swin(checkpoint))
    }

    fn translate(naming: Naming, name: &str) -> Translation {
        match naming {
            Naming::Transformers => transformers(name),
            Naming::Clip => clip(name),
            Naming::OpenClip => open_clip(name),
            Naming::Dinov3 => dinov3(name),
            Naming::Timm | Naming::OriginalSwin | Naming::Other => timm(name),
        }
    }

    fn part_alone(variable: &str, part: &str) -> Option<String> {
        if part == UP {
            return Some(variable.into());
        }
        let attention = variable.strip_suffix(".qkv.bias")?;
        match part {
            "query" => Some(format!("{attention}.q_bias")),
            "value" => Some(format!("{attention}.v_bias")),
            _ => None,
        }
    }

    fn position_table(&self) -> Option<PositionTable> {
        Some(PositionTable {
            variable: "pos_embed",
            prefix_tokens: &["cls_token", "dist_token", "reg_token"],
            prefix: match self.positions {
                PositionEmbedding::AllTokens => self.prefix_tokens(),
                PositionEmbedding::Patches | PositionEmbedding::None => 0,
            },
            grid: self.grid_size(),
        })
    }

    fn is_computed(variable: &str) -> bool {
        variable.ends_with(".attn.rope")
    }

    /// Features of every token need no pooling by attention, which is behind them.
    fn is_left_out(&self, variable: &str) -> bool {
        self.pooling == Pooling::Tokens && variable.starts_with("attn_pool.")
    }

    /// DINOv3 rotates the channels i and i + head_dim/2 of a head.
    fn arranged(&self, variable: &str, tensor: Tensor) -> Result<Tensor> {
        let Some(Rope::Normalised { .. }) = self.rope else { return Ok(tensor) };
        let name = variable.strip_prefix("blocks.").and_then(|rest| rest.split_once(".attn."));
        let block =
            name.and_then(|(at, layer)| Some((self.blocks.get(at.parse::<usize>().ok()?)?, layer)));
        match block {
            Some((block, layer)) => interleaved(block, layer, &tensor),
            None => Ok(tensor),
        }
    }

    fn assumptions(&self, _naming: Naming) -> Vec<Assumption> {
        let ([height, width], [rows, columns]) = (self.image(), self.grid_size());
        let mut assumed = of_blocks(&self.blocks, self.activation);
        assumed.extend([
            Assumption::new("norm_eps", format!("{:e}", self.norm_eps)),
            Assumption::new("pooling", self.pooling.words()),
            Assumption::new("norms", "before attention and MLP, and one at the end"),
            Assumption::new(
                "image",
                format!("{height} x {width} pixels, {rows} x {columns} patches"),
            ),
        ]);
        let rope = self.rope.map_or_else(|| "none".into(), Rope::words);
        assumed.push(Assumption::new("rotary positions", rope));
        assumed
    }
}
