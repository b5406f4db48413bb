//! Attention of ViT and Swin, with fallible tensor calls only.

use super::block::BlockConfig;
use super::heads::{HeadSizes, Projection};
use super::layers::{Linear, NormLayer};
use super::options::{BlockStyle, QkvBias};
use super::rotary::{rotate, Rotation};
use crate::Result;
use tch::{nn, Tensor};

/// Attention of a transformer block: `[B, N, E]` → `[B, N, E]`.
pub(super) trait TokenMixing {
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

impl TokenMixing for Attention {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.in_windows(x, 1, None)
    }
}

/// Multi-head attention within windows of tokens; a ViT has one window of all tokens.
#[derive(Debug)]
pub(super) struct Attention {
    /// Layers that make queries, keys and values, in this order.
    projections: Vec<(Projection, Linear)>,
    /// Biases of queries and values, where keys have none.
    query_value: Option<[Tensor; 2]>,
    /// Norms of queries and keys.
    norms: Option<[NormLayer; 2]>,
    rotation: Option<Rotation>,
    proj: Linear,
    sizes: HeadSizes,
    scale: f64,
}

impl Attention {
    pub(super) fn new(
        path: &nn::Path,
        width: i64,
        sizes: &BlockConfig,
        style: &BlockStyle,
    ) -> Result<Self> {
        let (inner, head_dim) = (sizes.attention_dim(), sizes.head_dim);
        let norm = |name, norm| NormLayer::new(&(path / name), head_dim, norm, style.norm_eps);
        let full = style.qkv_bias == QkvBias::Full;
        let projection = |own: Projection| {
            let layer = Linear::with_axes(&(path / own.name), width, &own.outputs, full)?;
            Ok((own, layer))
        };
        let projections = sizes.head_sizes().projections().into_iter().map(projection);
        Ok(Self {
            projections: projections.collect::<Result<_>>()?,
            query_value: match style.qkv_bias {
                QkvBias::Full | QkvBias::None => None,
                QkvBias::QueryValue => {
                    Some([path.f_zeros("q_bias", &[inner])?, path.f_zeros("v_bias", &[inner])?])
                }
            },
            norms: match style.qk_norm {
                None => None,
                Some(kind) => Some([norm("q_norm", kind)?, norm("k_norm", kind)?]),
            },
            rotation: match style.rotary {
                None => None,
                Some(rotary) => Some(Rotation::new(path, rotary, [sizes.heads, head_dim])?),
            },
            proj: Linear::new(&(path / "proj"), inner, width)?,
            sizes: sizes.head_sizes(),
            scale: sizes.attention_scale(),
        })
    }

    /// Attends within each of `windows` windows: `[B·windows, N, E]` → `[B·windows, N, E]`; `bias`,
    /// `[1, windows·heads, N, N]`, is added to the attention logits.
    ///
    /// Windows share an axis with heads, so that the bias is broadcast over images, not copied.
    pub(super) fn in_windows(
        &self,
        x: &Tensor,
        windows: i64,
        bias: Option<Tensor>,
    ) -> Result<Tensor> {
        let (all, tokens, _) = x.size3()?;
        let HeadSizes { heads: own, head_dim, .. } = self.sizes;
        let (batch, heads) = (all / windows, windows * own);
        let mut parts = self.projected(x, windows)?;
        if let Some(norms) = &self.norms {
            for (part, norm) in parts.iter_mut().zip(norms) {
                *part = norm.forward(part)?;
            }
        }
        if let Some(rotation) = &self.rotation {
            let angles = rotation.angles(parts[0].kind())?;
            for part in &mut parts[..2] {
                *part = rotate(part, &angles)?;
            }
        }
        let bias = bias.map(|bias| bias.f_expand([batch, heads, tokens, tokens], false));
        let mixed = Tensor::f_scaled_dot_product_attention(
            &parts[0],
            &parts[1],
            &parts[2],
            bias.transpose()?,
            0.0,
            false,
            self.scale,
            false,
        )?;
        let padded = self.sizes.padded();
        let mut mixed = mixed.f_view([batch, windows, own, tokens, padded])?;
        if head_dim < padded {
            mixed = mixed.f_narrow(-1, 0, head_dim)?;
        }
        self.proj.forward(&mixed.f_transpose(2, 3)?.f_reshape([all, tokens, own * head_dim])?)
    }

    /// Returns queries, keys and values, padded to one width: `[B·windows, N, E]` → `[B, windows·heads, N, channels]` each.
    fn projected(&self, x: &Tensor, windows: i64) -> Result<Vec<Tensor>> {
        let (all, tokens, _) = x.size3()?;
        let mut parts = Vec::with_capacity(3);
        for (own, layer) in &self.projections {
            let shape = [all / windows, windows, tokens, own.parts, self.sizes.heads, own.channels];
            let mut made = self.biased(layer.forward(x)?)?.f_view(shape)?;
            if own.channels < self.sizes.padded() {
                made = made.f_constant_pad_nd([0, self.sizes.padded() - own.channels])?;
            }
            // The gradient of unbind is written at once; those of three selects would each be as large as qkv, and summed.
            for part in made.f_permute([3, 0, 1, 4, 2, 5])?.f_unbind(0)? {
                parts.push(part.f_flatten(1, 2)?);
            }
        }
        Ok(parts)
    }

    /// Adds the biases of queries and values, where keys have none, to `[B, N, 3·heads·head_dim]`.
    fn biased(&self, qkv: Tensor) -> Result<Tensor> {
        match &self.query_value {
            None => Ok(qkv),
            Some([q, v]) => Ok(qkv.f_add(&Tensor::f_cat(&[q, &q.f_zeros_like()?, v], 0)?)?),
        }
    }
}
