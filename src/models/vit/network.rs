//! The forward pass of a ViT. Variables carry timm's names.

use super::{Pooling, VitConfig};
use crate::components::MaskedTokens;
use crate::error::expect_shape;
use crate::models::block::drop_path_of;
use crate::models::layers::{
    drop_path, Attention, LayerNorm, LayerScale, Linear, Mlp, PatchEmbedding,
};
use crate::models::{Logits, Network};
use crate::Result;
use tch::{nn, Tensor};

/// A pre-norm transformer block: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))).
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    ls1: LayerScale,
    norm2: LayerNorm,
    mlp: Mlp,
    ls2: LayerScale,
    drop_path: f64,
}

impl Block {
    fn new(path: &nn::Path, config: &VitConfig, block: usize) -> Result<Self> {
        let (width, sizes) = (config.embed_dim, &config.blocks[block]);
        Ok(Self {
            norm1: LayerNorm::new(&(path / "norm1"), width, config.norm_eps)?,
            attn: Attention::new(&(path / "attn"), width, sizes)?,
            ls1: LayerScale::new(&(path / "ls1"), width, config.layer_scale)?,
            norm2: LayerNorm::new(&(path / "norm2"), width, config.norm_eps)?,
            mlp: Mlp::new(&(path / "mlp"), width, sizes.hidden_dim)?,
            ls2: LayerScale::new(&(path / "ls2"), width, config.layer_scale)?,
            drop_path: drop_path_of(block, config.blocks.len(), config.drop_path),
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let attended = self.ls1.forward(self.attn.forward(&self.norm1.forward(x)?, 1, None)?)?;
        let x = x.f_add(&drop_path(attended, self.drop_path, train)?)?;
        let hidden = self.ls2.forward(self.mlp.forward(&self.norm2.forward(&x)?)?)?;
        Ok(x.f_add(&drop_path(hidden, self.drop_path, train)?)?)
    }
}

/// A Vision Transformer (Dosovitskiy et al. 2021) or DeiT (Touvron et al. 2021).
#[derive(Debug)]
pub struct VisionTransformer {
    patch_embed: PatchEmbedding,
    /// Class token, and distillation token where there is one: each `[1, 1, E]`.
    prefix: Vec<Tensor>,
    pos_embed: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    head_dist: Option<Linear>,
    pooling: Pooling,
    input: [i64; 3],
}

impl VisionTransformer {
    pub(super) fn new(path: &nn::Path, config: &VitConfig) -> Result<Self> {
        let width = config.embed_dim;
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let patches = path / "patch_embed" / "proj";
        let mut prefix = vec![path.f_var("cls_token", &[1, 1, width], normal)?];
        let mut head_dist = None;
        if config.distilled {
            prefix.push(path.f_var("dist_token", &[1, 1, width], normal)?);
            head_dist = Some(Linear::new(&(path / "head_dist"), width, config.classes)?);
        }
        let blocks = path / "blocks";
        Ok(Self {
            patch_embed: PatchEmbedding::new(
                &patches,
                config.in_channels,
                config.patch_size,
                width,
            )?,
            prefix,
            pos_embed: path.f_var("pos_embed", &[1, config.tokens(), width], normal)?,
            blocks: (0..config.blocks.len())
                .map(|block| Block::new(&(&blocks / block), config, block))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(&(path / "norm"), width, config.norm_eps)?,
            head: Linear::new(&(path / "head"), width * config.pooling.parts(), config.classes)?,
            head_dist,
            pooling: config.pooling,
            input: [config.in_channels, config.image_size, config.image_size],
        })
    }

    /// Features of all tokens after the last norm: `[B, C, H, W]` → `[B, tokens, E]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the images are not of the size the network was built for.
    pub fn features(
        &self,
        images: &Tensor,
        hidden: Option<&MaskedTokens>,
        train: bool,
    ) -> Result<Tensor> {
        let mut patches = self.patches(images)?;
        if let Some(hidden) = hidden {
            patches = hidden.apply(&patches)?;
        }
        let mut x = self.tokens(patches)?;
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        self.norm.forward(&x)
    }

    /// Projected patches, `[B, N, E]`.
    fn patches(&self, images: &Tensor) -> Result<Tensor> {
        let batch = images.size().first().copied().unwrap_or(0);
        let [channels, height, width] = self.input;
        expect_shape("ViT forward", "images", images, &[batch, channels, height, width])?;
        self.patch_embed.forward(images)
    }

    /// Prefix tokens before the patches, and positions on all: `[B, N, E]` → `[B, tokens, E]`.
    fn tokens(&self, patches: Tensor) -> Result<Tensor> {
        let batch = patches.size()[0];
        let mut tokens = Vec::with_capacity(3);
        for token in &self.prefix {
            tokens.push(token.f_expand([batch, -1, -1], false)?.f_to_kind(patches.kind())?);
        }
        tokens.push(patches);
        Ok(Tensor::f_cat(&tokens, 1)?.f_add(&self.pos_embed)?)
    }

    /// What the classifier looks at: `[B, tokens, E]` → `[B, E]` or `[B, 2·E]`.
    fn pooled(&self, features: &Tensor) -> Result<Tensor> {
        let class = features.f_select(1, 0)?;
        match self.pooling {
            Pooling::ClassToken => Ok(class),
            Pooling::ClassAndMean => {
                let patches = features.f_narrow(1, 1, features.size()[1] - 1)?;
                let mean = patches.f_mean_dim([1i64].as_slice(), false, None)?;
                Ok(Tensor::f_cat(&[class, mean], -1)?)
            }
        }
    }

    fn logits(&self, features: &Tensor) -> Result<Logits> {
        let class = self.head.forward(&self.pooled(features)?)?;
        let distillation = match &self.head_dist {
            None => None,
            Some(head) => Some(head.forward(&features.f_select(1, 1)?)?),
        };
        Ok(Logits { class, distillation })
    }
}

impl Network for VisionTransformer {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        self.logits(&self.features(images, None, train)?)
    }

    fn forward_masked(
        &self,
        images: &Tensor,
        hidden: &MaskedTokens,
        train: bool,
    ) -> Result<(Logits, Tensor)> {
        let features = self.features(images, Some(hidden), train)?;
        let prefix = self.prefix.len() as i64;
        let patches = features.f_narrow(1, prefix, features.size()[1] - prefix)?;
        Ok((self.logits(&features)?, patches))
    }

    /// `patch_embed`, `pos_embed` (with the prefix tokens), `blocks.0`…, `norm`, `head`, and
    /// `head_dist` where there is one.
    fn trace(&self, images: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let patches = self.patches(images)?;
        let mut x = self.tokens(patches.shallow_clone())?;
        let mut outputs =
            vec![("patch_embed".into(), patches), ("pos_embed".into(), x.shallow_clone())];
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, false)?;
            outputs.push((format!("blocks.{index}"), x.shallow_clone()));
        }
        let features = self.norm.forward(&x)?;
        let logits = self.logits(&features)?;
        outputs.extend([("norm".into(), features), ("head".into(), logits.class)]);
        outputs.extend(logits.distillation.map(|logits| ("head_dist".into(), logits)));
        Ok(outputs)
    }
}
