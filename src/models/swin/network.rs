//! Forward pass of a Swin Transformer. Variables have timm's names.

use super::{window, SwinConfig};
use crate::components::MaskedTokens;
use crate::error::expect_shape;
use crate::models::attention::{Attention, TokenMixing};
use crate::models::block::{drop_path_of, BlockConfig};
use crate::models::family::Blocks;
use crate::models::layers::{Linear, NormLayer, PatchEmbedding};
use crate::models::options::{BlockStyle, Norm};
use crate::models::residual::{Block, BlockLayout};
use crate::models::{Logits, Network, Windows};
use crate::Result;
use tch::{nn, Tensor};

/// Attention within windows, with a learned bias for the relative position of two tokens.
#[derive(Debug)]
struct WindowAttention {
    attention: Attention,
    /// `[(2·side − 1)², heads]`.
    table: Tensor,
    relative_positions: Tensor,
    attention_mask: Option<Tensor>,
    windows: Windows,
}

impl WindowAttention {
    fn new(
        path: &nn::Path,
        width: i64,
        (sizes, style): (&BlockConfig, &BlockStyle),
        windows: Windows,
    ) -> Result<Self> {
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let shape = [windows.relative_positions(), sizes.heads];
        Ok(Self {
            attention: Attention::new(path, width, sizes, style)?,
            table: path.f_var("relative_position_bias_table", &shape, normal)?,
            relative_positions: window::relative_position_index(windows, path.device())?,
            attention_mask: window::attention_mask(windows, path.device())?,
            windows,
        })
    }

    /// Returns the bias on the attention logits: `[1, windows·heads, tokens, tokens]`.
    fn bias(&self) -> Result<Tensor> {
        let (count, tokens) = (self.windows.count(), self.windows.tokens());
        let heads = self.table.size()[1];
        // On CUDA the gradient of index_select is summed in the order that threads come in, which changes its last bits.
        let rows = Tensor::f_embedding(&self.table, &self.relative_positions, -1, false, false)?;
        let bias = rows.f_view([tokens, tokens, heads])?.f_permute([2, 0, 1])?.f_unsqueeze(0)?;
        let bias = match &self.attention_mask {
            Some(mask) => bias.f_add(mask)?,
            None => bias.f_expand([count, heads, tokens, tokens], false)?,
        };
        Ok(bias.f_reshape([1, count * heads, tokens, tokens])?)
    }
}

impl TokenMixing for WindowAttention {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let windows = window::partition(self.windows, x)?;
        let bias = self.bias()?.f_to_kind(x.kind())?;
        let mixed = self.attention.in_windows(&windows, self.windows.count(), Some(bias))?;
        window::reverse(self.windows, &mixed)
    }
}

/// Patch merging: the channels of every 2 × 2 tokens, concatenated, normalised and projected
/// without bias. A grid of odd side is padded with zeros.
#[derive(Debug)]
struct Merging {
    norm: NormLayer,
    reduction: Tensor,
    grid: i64,
}

impl Merging {
    fn new(path: &nn::Path, grid: i64, widths: [i64; 2], eps: f64) -> Result<Self> {
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let [from, to] = widths;
        let reduction = path / "reduction";
        Ok(Self {
            norm: NormLayer::new(&(path / "norm"), 4 * from, Norm::Layer, eps)?,
            reduction: reduction.f_var("weight", &[to, 4 * from], normal)?,
            grid,
        })
    }

    /// `[B, G², E]` → `[B, ⌈G/2⌉², E']`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, width) = x.size3()?;
        let (grid, odd) = (self.grid, self.grid % 2);
        let half = (grid + odd) / 2;
        let padded = window::pad(x.f_view([batch, grid, grid, width])?, odd)?;
        // Columns before rows, as pretrained weights have it.
        let pairs =
            padded.f_view([batch, half, 2, half, 2, width])?.f_permute([0, 1, 3, 4, 2, 5])?;
        let merged = pairs.f_reshape([batch, half * half, 4 * width])?;
        let bias: Option<&Tensor> = None;
        Ok(self.norm.forward(&merged)?.f_linear(&self.reduction, bias)?)
    }
}

#[derive(Debug)]
struct Stage {
    downsample: Option<Merging>,
    blocks: Vec<Block<WindowAttention>>,
}

impl Stage {
    fn new(path: &nn::Path, config: &SwinConfig, stage: usize, first: usize) -> Result<Self> {
        let (own, eps, style) = (&config.stages[stage], config.norm_eps, config.style());
        let depth = config.blocks().count();
        let downsample = match stage {
            0 => None,
            _ => {
                let widths = [config.stages[stage - 1].embed_dim, own.embed_dim];
                let path = path / "downsample";
                Some(Merging::new(&path, config.grid(stage - 1), widths, eps)?)
            }
        };
        let block = |(at, sizes): (usize, &BlockConfig)| {
            let (path, width) = (path / "blocks" / at, own.embed_dim);
            let windows = config.windows(stage, at);
            let layout = BlockLayout {
                width,
                sizes: *sizes,
                style,
                drop_path: drop_path_of(first + at, depth, config.drop_path),
            };
            let attention =
                |path: &nn::Path| WindowAttention::new(path, width, (sizes, &style), windows);
            Block::new(&path, layout, attention)
        };
        Ok(Self {
            downsample,
            blocks: own.blocks.iter().enumerate().map(block).collect::<Result<_>>()?,
        })
    }
}

/// A Swin Transformer (Liu et al. 2021).
#[derive(Debug)]
pub struct SwinTransformer {
    proj: PatchEmbedding,
    patch_norm: NormLayer,
    stages: Vec<Stage>,
    norm: NormLayer,
    head: Linear,
    input: [i64; 3],
    /// Tokens along a side of the grid, in the first and in the last stage.
    grids: [i64; 2],
    /// Patches along a side of a token of the last stage.
    merged: i64,
}

impl SwinTransformer {
    pub(super) fn new(path: &nn::Path, config: &SwinConfig) -> Result<Self> {
        let patches = path / "patch_embed";
        let norm =
            |path: &nn::Path, width| NormLayer::new(path, width, Norm::Layer, config.norm_eps);
        let (first, last) = (&config.stages[0], config.stages.len() - 1);
        let width = config.stages[last].embed_dim;
        let mut stages = Vec::with_capacity(config.stages.len());
        let mut blocks = 0;
        for (stage, own) in config.stages.iter().enumerate() {
            stages.push(Stage::new(&(path / "layers" / stage), config, stage, blocks)?);
            blocks += own.blocks.len();
        }
        Ok(Self {
            proj: PatchEmbedding::new(
                &(&patches / "proj"),
                config.in_channels,
                [config.patch_size; 2],
                first.embed_dim,
                true,
            )?,
            patch_norm: norm(&(&patches / "norm"), first.embed_dim)?,
            stages,
            norm: norm(&(path / "norm"), width)?,
            head: Linear::new(&(path / "head" / "fc"), width, config.classes)?,
            input: [config.in_channels, config.image_size, config.image_size],
            grids: [config.grid(0), config.grid(last)],
            merged: config.merged(last),
        })
    }

    /// Returns the features of the last stage after the final norm, row by row:
    /// `[B, C, H, W]` → `[B, tokens, E]`.
    ///
    /// The mask, `[B, tokens]`, covers tokens of the LAST stage; for each, all patches that are
    /// merged into it are replaced by the mask token. The features of the others then hold nothing
    /// of the masked pixels.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the images are not of the size the network was built for.
    pub fn features(
        &self,
        images: &Tensor,
        masked: Option<&MaskedTokens>,
        train: bool,
    ) -> Result<Tensor> {
        let mut x = self.patches(images)?;
        if let Some(masked) = masked {
            let mask = &self.patches_of(masked.mask)?;
            x = MaskedTokens { mask, token: masked.token }.apply(&x)?;
        }
        for stage in &self.stages {
            x = stage.downsample.as_ref().map_or(Ok(x.shallow_clone()), |m| m.forward(&x))?;
            for block in &stage.blocks {
                x = block.forward(&x, train)?;
            }
        }
        self.norm.forward(&x)
    }

    /// Returns the projected and normalised patches, `[B, N, E]`.
    fn patches(&self, images: &Tensor) -> Result<Tensor> {
        let batch = images.size().first().copied().unwrap_or(0);
        let [channels, height, width] = self.input;
        expect_shape("Swin forward", "images", images, &[batch, channels, height, width])?;
        self.patch_norm.forward(&self.proj.forward(images)?)
    }

    /// Expands a mask over tokens of the last stage to one over their patches:
    /// `[B, tokens]` → `[B, patches]`. Where the grids were padded, the last tokens have fewer.
    fn patches_of(&self, mask: &Tensor) -> Result<Tensor> {
        let ([first, last], batch) = (self.grids, mask.size().first().copied().unwrap_or(0));
        expect_shape("masking tokens", "token mask", mask, &[batch, last * last])?;
        let (each, grid) = (self.merged, mask.f_view([batch, last, 1, last, 1])?);
        let patches = grid.f_expand([batch, last, each, last, each], false)?;
        let padded = patches.f_reshape([batch, last * each, last * each])?;
        let own = padded.f_narrow(1, 0, first)?.f_narrow(2, 0, first)?;
        Ok(own.f_reshape([batch, first * first])?)
    }

    fn logits(&self, features: &Tensor) -> Result<Logits> {
        let pooled = features.f_mean_dim([1i64].as_slice(), false, None)?;
        Ok(Logits::single(self.head.forward(&pooled)?))
    }
}

impl Network for SwinTransformer {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        Ok(self.forward_features(images, train)?.0)
    }

    fn forward_features(&self, images: &Tensor, train: bool) -> Result<(Logits, Tensor)> {
        let features = self.features(images, None, train)?;
        Ok((self.logits(&features)?, features))
    }

    fn forward_masked(
        &self,
        images: &Tensor,
        masked: &MaskedTokens,
        train: bool,
    ) -> Result<(Logits, Tensor)> {
        let features = self.features(images, Some(masked), train)?;
        Ok((self.logits(&features)?, features))
    }

    /// Returns the outputs of `patch_embed`, `layers.0.blocks.0`, …, `layers.1.downsample`, …,
    /// `norm`, `head`.
    fn trace(&self, images: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let mut x = self.patches(images)?;
        let mut outputs = vec![("patch_embed".to_string(), x.shallow_clone())];
        for (at, stage) in self.stages.iter().enumerate() {
            if let Some(merging) = &stage.downsample {
                x = merging.forward(&x)?;
                outputs.push((format!("layers.{at}.downsample"), x.shallow_clone()));
            }
            for (block, own) in stage.blocks.iter().enumerate() {
                x = own.forward(&x, false)?;
                outputs.push((format!("layers.{at}.blocks.{block}"), x.shallow_clone()));
            }
        }
        let features = self.norm.forward(&x)?;
        let logits = self.logits(&features)?;
        outputs.extend([("norm".into(), features), ("head".into(), logits.class)]);
        Ok(outputs)
    }
}
