//! Forward pass of the attention pooling.

use super::{AttentionPool, NAME};
use crate::models::layers::{Linear, MlpLayer, NormLayer};
use crate::models::options::BlockStyle;
use crate::Result;
use tch::{nn, Tensor};

/// A latent that attends to tokens, then x + mlp(norm(x)).
#[derive(Debug)]
pub(in crate::models) struct PoolingLayer {
    /// `[1, 1, L]`.
    latent: Tensor,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: NormLayer,
    mlp: MlpLayer,
    heads: i64,
    head_dim: i64,
    scale: f64,
}

impl PoolingLayer {
    /// Adds its variables below the path of the network, over an embedding of this width.
    pub(in crate::models) fn new(
        path: &nn::Path,
        width: i64,
        pool: &AttentionPool,
        style: &BlockStyle,
    ) -> Result<Self> {
        let (path, sizes, own) = (path / NAME, &pool.sizes, pool.embed_dim);
        let inner = sizes.attention_dim();
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            latent: path.f_var("latent", &[1, 1, pool.latent_dim], normal)?,
            q: Linear::new(&(&path / "q"), pool.latent_dim, inner)?,
            kv: Linear::new(&(&path / "kv"), width, 2 * inner)?,
            proj: Linear::new(&(&path / "proj"), inner, own)?,
            norm: NormLayer::new(&(&path / "norm"), own, style.norm, style.norm_eps)?,
            mlp: MlpLayer::new(&(&path / "mlp"), own, sizes.hidden_dim, style)?,
            heads: sizes.heads,
            head_dim: sizes.head_dim,
            scale: sizes.attention_scale(),
        })
    }

    /// `[B, N, E]` → `[B, P]`.
    pub(in crate::models) fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, count, _) = tokens.size3()?;
        let (heads, channels) = (self.heads, self.head_dim);
        let q = self.q.forward(&self.latent)?.f_view([1, 1, heads, channels])?.f_transpose(1, 2)?;
        let q = q.f_expand([batch, -1, -1, -1], false)?;
        let kv = self.kv.forward(tokens)?.f_view([batch, count, 2, heads, channels])?;
        let kv = kv.f_permute([2, 0, 3, 1, 4])?;
        let (k, v) = (kv.f_select(0, 0)?, kv.f_select(0, 1)?);
        let none: Option<&Tensor> = None;
        let mixed = Tensor::f_scaled_dot_product_attention(
            &q, &k, &v, none, 0.0, false, self.scale, false,
        )?;
        let x = self.proj.forward(&mixed.f_reshape([batch, heads * channels])?)?;
        Ok(x.f_add(&self.mlp.forward(&self.norm.forward(&x)?)?)?)
    }
}
