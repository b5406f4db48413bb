//! Forward pass of a ViT. Variables have timm's names.

use super::{Pooling, VitConfig};
use crate::components::MaskedTokens;
use crate::error::expect_shape;
use crate::models::block::drop_path_of;
use crate::models::layers::{Attention, Block, BlockLayout, LayerNorm, Linear, PatchEmbedding};
use crate::models::{Logits, Network};
use crate::Result;
use tch::{nn, Tensor};

/// A Vision Transformer (Dosovitskiy et al. 2021) or DeiT (Touvron et al. 2021).
#[derive(Debug)]
pub struct VisionTransformer {
    patch_embed: PatchEmbedding,
    /// Class token, then the distillation token if there is one; each `[1, 1, E]`.
    prefix: Vec<Tensor>,
    pos_embed: Tensor,
    blocks: Vec<Block<Attention>>,
    norm: LayerNorm,
    head: Linear,
    head_dist: Option<Linear>,
    pooling: Pooling,
    input: [i64; 3],
}

fn block(path: &nn::Path, config: &VitConfig, at: usize) -> Result<Block<Attention>> {
    let (width, sizes) = (config.embed_dim, &config.blocks[at]);
    let layout = BlockLayout {
        width,
        hidden_dim: sizes.hidden_dim,
        eps: config.norm_eps,
        layer_scale: config.layer_scale,
        drop_path: drop_path_of(at, config.blocks.len(), config.drop_path),
    };
    Block::new(path, layout, |path| Attention::new(path, width, sizes))
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
                .map(|at| block(&(&blocks / at), config, at))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(&(path / "norm"), width, config.norm_eps)?,
            head: Linear::new(&(path / "head"), width * config.pooling.parts(), config.classes)?,
            head_dist,
            pooling: config.pooling,
            input: [config.in_channels, config.image_size, config.image_size],
        })
    }

    /// Returns the features of all tokens after the final norm: `[B, C, H, W]` → `[B, tokens, E]`.
    /// Patch tokens that are `masked` are replaced by the mask token.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the images are not of the size the network was built for.
    pub fn features(
        &self,
        images: &Tensor,
        masked: Option<&MaskedTokens>,
        train: bool,
    ) -> Result<Tensor> {
        let mut patches = self.patches(images)?;
        if let Some(masked) = masked {
            patches = masked.apply(&patches)?;
        }
        let mut x = self.tokens(patches)?;
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        self.norm.forward(&x)
    }

    /// Returns the projected patches, `[B, N, E]`.
    fn patches(&self, images: &Tensor) -> Result<Tensor> {
        let batch = images.size().first().copied().unwrap_or(0);
        let [channels, height, width] = self.input;
        expect_shape("ViT forward", "images", images, &[batch, channels, height, width])?;
        self.patch_embed.forward(images)
    }

    /// Puts prefix tokens before the patches and adds positions: `[B, N, E]` → `[B, tokens, E]`.
    fn tokens(&self, patches: Tensor) -> Result<Tensor> {
        let batch = patches.size()[0];
        let mut tokens = Vec::with_capacity(3);
        for token in &self.prefix {
            tokens.push(token.f_expand([batch, -1, -1], false)?.f_to_kind(patches.kind())?);
        }
        tokens.push(patches);
        Ok(Tensor::f_cat(&tokens, 1)?.f_add(&self.pos_embed)?)
    }

    /// Returns the input of the classifier: `[B, tokens, E]` → `[B, E]`, `[B, 2·E]` or itself.
    fn pooled(&self, features: &Tensor) -> Result<Tensor> {
        let class = features.f_select(1, 0)?;
        match self.pooling {
            Pooling::ClassToken => Ok(class),
            Pooling::Tokens => Ok(features.shallow_clone()),
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
        let prefix = self.prefix.len() as i64;
        let patches = features.f_narrow(1, prefix, features.size()[1] - prefix)?;
        Ok((self.logits(&features)?, patches))
    }

    /// Returns the outputs of `patch_embed`, `pos_embed` (with the prefix tokens), `blocks.0`, …,
    /// `norm`, `head`, and `head_dist` if there is one.
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
