//! Forward pass of a ViT. Variables have timm's names.

use super::{Pooling, PositionEmbedding, VitConfig};
use crate::components::MaskedTokens;
use crate::error::expect_shape;
use crate::models::attention::Attention;
use crate::models::attention_pool::PoolingLayer;
use crate::models::block::drop_path_of;
use crate::models::family::Blocks;
use crate::models::layers::{Linear, NormLayer, PatchEmbedding};
use crate::models::residual::{Block, BlockLayout};
use crate::models::{Logits, Network};
use crate::Result;
use tch::{nn, Tensor};

/// A Vision Transformer (Dosovitskiy et al. 2021), or one of its descendants.
#[derive(Debug)]
pub struct VisionTransformer {
    patch_embed: PatchEmbedding,
    /// Class token, distillation token and registers, as far as there are any; each `[1, R, E]`.
    prefix: Vec<Tensor>,
    prefix_tokens: i64,
    /// `[1, rows, E]`.
    pos_embed: Option<Tensor>,
    positions: PositionEmbedding,
    norm_pre: Option<NormLayer>,
    blocks: Vec<Block<Attention>>,
    /// Of every token, or of their mean.
    norm: NormLayer,
    attn_pool: Option<PoolingLayer>,
    head: Linear,
    head_dist: Option<Linear>,
    pooling: Pooling,
    input: [i64; 3],
}

fn block(path: &nn::Path, config: &VitConfig, at: usize) -> Result<Block<Attention>> {
    let (width, sizes, style) = (config.embed_dim, &config.blocks[at], config.style());
    let layout = BlockLayout {
        width,
        sizes: *sizes,
        style,
        drop_path: drop_path_of(at, config.blocks.len(), config.drop_path),
    };
    Block::new(path, layout, |path| Attention::new(path, width, sizes, &style))
}

impl VisionTransformer {
    pub(super) fn new(path: &nn::Path, config: &VitConfig) -> Result<Self> {
        let (width, pooling, classes) = (config.embed_dim, config.pooling, config.classes);
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let norm = |name: &str| NormLayer::new(&(path / name), width, config.norm, config.norm_eps);
        let tokens = |(name, count)| path.f_var(name, &[1, count, width], normal);
        let rows = config.position_rows();
        let prefix = config.prefix().into_iter().map(tokens).collect::<Result<_, _>>()?;
        let dist = config.distilled.then(|| Linear::new(&(path / "head_dist"), width, classes));
        let blocks = path / "blocks";
        Ok(Self {
            patch_embed: PatchEmbedding::new(
                &(path / "patch_embed" / "proj"),
                config.in_channels,
                config.patch(),
                width,
                config.patch_bias,
            )?,
            prefix,
            prefix_tokens: config.prefix_tokens(),
            pos_embed: rows.map(|rows| tokens(("pos_embed", rows))).transpose()?,
            positions: config.positions,
            norm_pre: config.pre_norm.then(|| norm("norm_pre")).transpose()?,
            blocks: (0..config.blocks.len())
                .map(|at| block(&(&blocks / at), config, at))
                .collect::<Result<_>>()?,
            norm: norm(pooling.norm())?,
            attn_pool: match &config.pooling {
                Pooling::Attention(pool) => {
                    Some(PoolingLayer::new(path, width, pool, &config.style().of_pool())?)
                }
                _ => None,
            },
            head: {
                let columns = config.head_columns();
                Linear::with_bias(&(path / "head"), columns, classes, config.head_bias)?
            },
            head_dist: dist.transpose()?,
            pooling,
            input: config.input_shape(),
        })
    }

    /// Returns the features of all tokens after the final norm: `[B, C, H, W]` → `[B, tokens, E]`; with
    /// [`Pooling::MeanNorm`], which has the norm after the mean, those of the last block. Patch
    /// tokens that are `masked` are replaced by the mask token.
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
        self.normed(x)
    }

    /// The final norm, where it is of every token.
    fn normed(&self, x: Tensor) -> Result<Tensor> {
        match self.pooling {
            Pooling::MeanNorm => Ok(x),
            _ => self.norm.forward(&x),
        }
    }

    /// Returns the projected patches, `[B, N, E]`.
    fn patches(&self, images: &Tensor) -> Result<Tensor> {
        let batch = images.size().first().copied().unwrap_or(0);
        let [channels, height, width] = self.input;
        expect_shape("ViT forward", "images", images, &[batch, channels, height, width])?;
        self.patch_embed.forward(images)
    }

    /// Puts prefix tokens before the patches and adds positions: `[B, N, E]` → `[B, tokens, E]`;
    /// then the norm before the blocks.
    fn tokens(&self, mut patches: Tensor) -> Result<Tensor> {
        let batch = patches.size()[0];
        let table = |of| self.pos_embed.as_ref().filter(|_| self.positions == of);
        if let Some(table) = table(PositionEmbedding::Patches) {
            patches = patches.f_add(table)?;
        }
        let mut tokens = Vec::with_capacity(4);
        for token in &self.prefix {
            tokens.push(token.f_expand([batch, -1, -1], false)?.f_to_kind(patches.kind())?);
        }
        tokens.push(patches);
        let mut x = Tensor::f_cat(&tokens, 1)?;
        if let Some(table) = table(PositionEmbedding::AllTokens) {
            x = x.f_add(table)?;
        }
        self.norm_pre.as_ref().map_or(Ok(x.shallow_clone()), |norm| norm.forward(&x))
    }

    /// Returns the input of the classifier: `[B, tokens, E]` → `[B, E]`, `[B, 2·E]` or itself.
    fn pooled(&self, features: &Tensor) -> Result<Tensor> {
        if let Some(pool) = &self.attn_pool {
            return pool.forward(&self.patch_features(features)?);
        }
        let class = || features.f_select(1, 0);
        let mean = || self.patch_features(features)?.f_mean_dim([1i64].as_slice(), false, None);
        Ok(match self.pooling {
            Pooling::ClassToken => class()?,
            Pooling::Tokens | Pooling::Attention(_) => features.shallow_clone(),
            Pooling::ClassAndMean => Tensor::f_cat(&[class()?, mean()?], -1)?,
            Pooling::Mean => mean()?,
            Pooling::MeanNorm => self.norm.forward(&mean()?)?,
        })
    }

    /// Returns the tokens of the patches: `[B, tokens, E]` → `[B, N, E]`.
    fn patch_features(&self, features: &Tensor) -> Result<Tensor, tch::TchError> {
        let patches = features.size()[1] - self.prefix_tokens;
        features.f_narrow(1, self.prefix_tokens, patches)
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
        Ok((self.logits(&features)?, self.patch_features(&features)?))
    }

    /// Returns the outputs of `patch_embed`, `pos_embed` (with prefix tokens, and after the norm
    /// before the blocks), `blocks.0`, …, `norm` unless it is after the mean, `head`, and
    /// `head_dist` if there is one.
    fn trace(&self, images: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let patches = self.patches(images)?;
        let mut x = self.tokens(patches.shallow_clone())?;
        let mut outputs =
            vec![("patch_embed".into(), patches), ("pos_embed".into(), x.shallow_clone())];
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, false)?;
            outputs.push((format!("blocks.{index}"), x.shallow_clone()));
        }
        let features = self.normed(x)?;
        let logits = self.logits(&features)?;
        if self.pooling != Pooling::MeanNorm {
            outputs.push(("norm".into(), features));
        }
        outputs.push(("head".into(), logits.class));
        outputs.extend(logits.distillation.map(|logits| ("head_dist".into(), logits)));
        Ok(outputs)
    }
}
