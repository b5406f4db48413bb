//! Attention pooling of SigLIP (MAP): sizes, variables, dimensions and cost.

mod network;

pub(super) use network::PoolingLayer;

use super::block::{attention_name, hidden_name, linear, norm, scale_rows, BlockConfig};
use super::family::width_in;
use super::graph::{Graph, Operation, Value};
use super::options::BlockStyle;
use super::Shapes;
use crate::cost::Polynomial;
use crate::space::{Binding, Candidates, Dimension, DimensionKind, Size, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Prefix of all its variables and dimensions.
const NAME: &str = "attn_pool";

/// Sizes of an attention pooling (Zhai et al. 2022): a learned latent attends to all patch tokens, then
/// x + mlp(norm(x)). Variables have timm's names: `attn_pool.latent`, `.q`, `.kv`, `.proj`, `.norm`,
/// `.mlp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionPool {
    /// Heads, channels of a head and hidden width of the MLP.
    pub sizes: BlockConfig,
    /// Width of the latent, which is not pruned.
    pub latent_dim: i64,
    /// Width of the pooled features, which the classifier reads.
    pub embed_dim: i64,
}

impl AttentionPool {
    /// Returns the pooling over an embedding of this width, with latent and pooled features of the same
    /// width.
    pub fn new(embed_dim: i64, heads: i64, hidden_dim: i64) -> Self {
        let head_dim = super::limits::head_dim(embed_dim, heads);
        let sizes = BlockConfig::new(heads, head_dim, hidden_dim);
        Self { sizes, latent_dim: embed_dim, embed_dim }
    }

    /// Returns the name of the dimension of the pooled features.
    pub(super) fn embedding() -> String {
        format!("{NAME}.embed")
    }

    pub(super) fn check(&self) -> Result<()> {
        super::limits::check_size("attn_pool.latent_dim", self.latent_dim)?;
        super::limits::check_size("attn_pool.embed_dim", self.embed_dim)?;
        // It cannot be removed: nothing else gives the head its input.
        for (name, size) in [("heads", self.sizes.heads), ("hidden_dim", self.sizes.hidden_dim)] {
            super::limits::check_size(&format!("{NAME}.{name}"), size)?;
        }
        if let Some(own) = self.sizes.qk_dim {
            let expected = "not set: a pooling makes keys and values together";
            return Err(Error::invalid(format!("{NAME}.qk_dim"), expected, own));
        }
        self.sizes.check(NAME)
    }

    /// Adds names and shapes of its variables over an embedding of this width.
    pub(super) fn variables(&self, width: i64, style: &BlockStyle, shapes: &mut Shapes) {
        let (inner, own) = (self.sizes.attention_dim(), self.embed_dim);
        shapes.insert(format!("{NAME}.latent"), vec![1, 1, self.latent_dim]);
        linear(shapes, &format!("{NAME}.q"), self.latent_dim, inner);
        linear(shapes, &format!("{NAME}.kv"), width, 2 * inner);
        linear(shapes, &format!("{NAME}.proj"), inner, own);
        norm(shapes, &format!("{NAME}.norm"), own, style.norm);
        linear(shapes, &format!("{NAME}.mlp.fc1"), own, self.sizes.hidden_dim);
        linear(shapes, &format!("{NAME}.mlp.fc2"), self.sizes.hidden_dim, own);
    }

    /// Returns its dimensions: pooled features, heads × channels, and hidden neurons.
    pub(super) fn dimensions(&self, style: &BlockStyle) -> Result<[Dimension; 3]> {
        let candidates = Candidates::embedding(self.embed_dim)?;
        let mut pooled = Dimension::new(Self::embedding(), DimensionKind::Embedding, candidates)
            .bind(Binding::gated(format!("{NAME}.proj.weight"), 0))
            .bind(Binding::gated(format!("{NAME}.proj.bias"), 0))
            .bind(Binding::scaled(format!("{NAME}.norm.weight"), 0))
            .bind(Binding::written(format!("{NAME}.mlp.fc2.weight"), 0))
            .bind(Binding::written(format!("{NAME}.mlp.fc2.bias"), 0))
            .bind(Binding::narrowed(format!("{NAME}.mlp.fc1.weight"), 1))
            .bind(Binding::narrowed("head.weight", 1));
        if style.norm.parameters().contains(&"bias") {
            pooled = pooled.bind(Binding::written(format!("{NAME}.norm.bias"), 0));
        }
        let candidates = Candidates::attention(self.sizes.heads, self.sizes.head_dim)?;
        let attention = Dimension::new(attention_name(NAME), DimensionKind::Attention, candidates)
            .bind(Binding::gated(format!("{NAME}.q.weight"), 0))
            .bind(Binding::gated(format!("{NAME}.q.bias"), 0))
            .bind(Binding::gated(format!("{NAME}.kv.weight"), 0).outer(2))
            .bind(Binding::gated(format!("{NAME}.kv.bias"), 0).outer(2))
            .bind(Binding::narrowed(format!("{NAME}.proj.weight"), 1));
        Ok([pooled, attention, self.sizes.hidden(NAME, style)?])
    }

    /// Returns the axis of the embedding that it reads.
    pub(super) fn reader() -> Binding {
        Binding::narrowed(format!("{NAME}.kv.weight"), 1)
    }

    /// Returns its sizes by the names of its dimensions.
    pub(super) fn all_sizes(&self) -> [(String, Size); 3] {
        let attention = Size { heads: self.sizes.heads, channels: self.sizes.head_dim };
        [
            (Self::embedding(), Size::flat(self.embed_dim)),
            (attention_name(NAME), attention),
            (hidden_name(NAME), Size::flat(self.sizes.hidden_dim)),
        ]
    }

    /// Sets those of its sizes that are in `wanted`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for heads of a dimension without.
    pub(super) fn resize(&mut self, wanted: &Sizes) -> Result<()> {
        if let Some(width) = width_in(wanted, &Self::embedding())? {
            self.embed_dim = width;
        }
        if let Some(size) = wanted.get(&attention_name(NAME)) {
            (self.sizes.heads, self.sizes.head_dim) = (size.heads, size.channels);
        }
        if let Some(width) = width_in(wanted, &hidden_name(NAME))? {
            self.sizes.hidden_dim = width;
        }
        Ok(())
    }

    /// Folds the attention scale into the layer that makes the queries.
    pub(super) fn fold_attention_scale(&mut self, weights: &mut Weights) -> Result<()> {
        let factor = (self.sizes.head_dim as f64 / self.sizes.scale_dim as f64).sqrt();
        for part in ["weight", "bias"] {
            let name = format!("{NAME}.q.{part}");
            scale_rows(weights, &name, self.sizes.attention_dim(), factor)?;
        }
        self.sizes.scale_dim = self.sizes.head_dim;
        Ok(())
    }

    /// Returns MACs and parameters, over this many patch tokens.
    pub(super) fn cost(
        &self,
        style: &BlockStyle,
        embed: &Polynomial,
        patches: f64,
    ) -> [Polynomial; 2] {
        let inner = || Polynomial::units(&attention_name(NAME));
        let hidden = || Polynomial::units(&hidden_name(NAME));
        let own = || Polynomial::units(&Self::embedding());
        let latent = self.latent_dim as f64;
        // Queries of the latent; keys and values of all patches; q·kᵀ and attention·v; the output
        // projection; the MLP.
        let macs = inner() * latent
            + embed.clone() * inner() * (2.0 * patches)
            + inner() * (2.0 * patches)
            + inner() * own()
            + own() * hidden() * 2;
        let params = Polynomial::from(latent)
            + inner() * (latent + 1.0)
            + (embed.clone() + 1) * inner() * 2
            + (inner() + 1) * own()
            + own() * style.norm.parameters().len() as i64
            + (own() + 1) * hidden()
            + (hidden() + 1) * own();
        [macs, params]
    }

    /// Adds its steps over the features of all tokens, of which the first `prefix` are left out.
    pub(super) fn steps(
        &self,
        graph: &mut Graph,
        features: Value,
        prefix: i64,
        style: &BlockStyle,
    ) -> Value {
        let patches = graph.then(features, Operation::Tokens { first: prefix });
        let keys = graph.linear(patches, format!("{NAME}.kv"));
        let attention = Operation::LatentAttention {
            latent: format!("{NAME}.latent"),
            query: format!("{NAME}.q"),
            heads: self.sizes.heads,
            head_dim: self.sizes.head_dim,
            scale: self.sizes.attention_scale(),
        };
        let mixed = graph.then(keys, attention);
        let x = graph.linear(mixed, format!("{NAME}.proj"));
        let normed = graph.norm(x, format!("{NAME}.norm"), self.embed_dim, style);
        let output = graph.mlp(normed, &format!("{NAME}.mlp"), self.sizes.hidden_dim, style);
        graph.add(x, output)
    }
}
