//! Steps of transformer blocks, as ViT and Swin have them.

use super::{Graph, HeadNorms, HeadRotation, HeadSizes, Operation, Value};
use crate::models::block::BlockConfig;
use crate::models::heads::Projection;
use crate::models::options::{BlockStyle, Mlp, QkvBias};
use crate::models::rotary;

impl Graph {
    /// Adds a pre-norm transformer block, x + ls1(attention(norm1(x))), then
    /// x + ls2(mlp(norm2(x))). `attention` adds its steps. Of a removed branch, a constant is added.
    pub(in crate::models) fn block(
        &mut self,
        x: Value,
        own: &BlockSteps,
        attention: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let BlockSteps { name, width, sizes, style } = own;
        let x = match sizes.has_attention() {
            false => own.constant(self, x, "attn.proj.bias", "ls1"),
            true => {
                let normed = self.norm(x, format!("{name}.norm1"), *width, style);
                let attended = attention(self, normed);
                let attended = own.scaled(self, attended, "ls1");
                self.add(x, attended)
            }
        };
        if !sizes.has_mlp() {
            return own.constant(self, x, "mlp.fc2.bias", "ls2");
        }
        let normed = self.norm(x, format!("{name}.norm2"), *width, style);
        let output = self.mlp(normed, &format!("{name}.mlp"), sizes.hidden_dim, style);
        let output = own.scaled(self, output, "ls2");
        self.add(x, output)
    }

    /// Adds the MLP of a transformer block: `{name}.fc1`, the activation, `{name}.fc2`; `width` is
    /// its hidden width.
    pub(in crate::models) fn mlp(
        &mut self,
        input: Value,
        name: &str,
        width: i64,
        style: &BlockStyle,
    ) -> Value {
        let hidden = self.linear(input, format!("{name}.fc1"));
        let active = self.then(
            hidden,
            match style.mlp {
                Mlp::Plain => Operation::Activate(style.activation),
                Mlp::SwiGlu => Operation::SwiGlu { width },
            },
        );
        self.linear(active, format!("{name}.fc2"))
    }

    /// Adds the layers of an attention that make queries, keys and values: `{name}.qkv`, or `{name}.qk` and `{name}.v`.
    pub(in crate::models) fn projections(
        &mut self,
        input: Value,
        name: &str,
        sizes: HeadSizes,
        style: &BlockStyle,
    ) -> Vec<Value> {
        let full = style.qkv_bias == QkvBias::Full;
        let projection = |own: Projection| {
            let parameters = format!("{name}.{}", own.name);
            let made = self.then(
                input,
                match (own.has_axes(), full) {
                    (false, true) => Operation::Linear { parameters },
                    (false, false) => {
                        Operation::Project { parameter: format!("{parameters}.weight") }
                    }
                    (true, bias) => Operation::LinearOfAxes { parameters, bias },
                },
            );
            match style.qkv_bias {
                QkvBias::Full | QkvBias::None => made,
                QkvBias::QueryValue => {
                    let [query, value] = ["q_bias", "v_bias"].map(|bias| format!("{name}.{bias}"));
                    self.then(made, Operation::AddQueryValueBias { query, value })
                }
            }
        };
        sizes.projections().into_iter().map(projection).collect()
    }

    /// Adds the attention of a ViT: queries, keys and values, the mixing of all tokens, `{name}.proj`.
    pub(in crate::models) fn attention(
        &mut self,
        input: Value,
        name: &str,
        sizes: &BlockConfig,
        style: &BlockStyle,
    ) -> Value {
        let parts = self.projections(input, name, sizes.head_sizes(), style);
        let norms = |norm| HeadNorms { name: name.into(), norm, eps: style.norm_eps };
        let attention = Operation::Attention {
            sizes: sizes.head_sizes(),
            scale: sizes.attention_scale(),
            norms: style.qk_norm.map(norms),
            rotation: style.rotary.map(|rotary| HeadRotation {
                frequencies: format!("{name}.{}", rotary::VARIABLE),
                coordinates: rotary.coordinates(),
            }),
        };
        let mixed = self.push(attention, parts);
        self.linear(mixed, format!("{name}.proj"))
    }
}

/// Name, width and style of a transformer block of a graph.
pub(in crate::models) struct BlockSteps {
    /// Prefix of all parameter names.
    pub(in crate::models) name: String,
    /// Width of the embedding.
    pub(in crate::models) width: i64,
    /// Sizes of the block.
    pub(in crate::models) sizes: BlockConfig,
    /// What it has in common with the other blocks.
    pub(in crate::models) style: BlockStyle,
}

impl BlockSteps {
    /// Adds what is left of a removed branch.
    fn constant(&self, graph: &mut Graph, x: Value, bias: &str, layer: &str) -> Value {
        let named = |own: &str| format!("{}.{own}", self.name);
        let (parameter, scale) = (named(bias), named(&format!("{layer}.gamma")));
        let operation = match self.style.layer_scale {
            None => Operation::AddParameter { parameter },
            Some(_) => Operation::AddScaledParameter { parameter, scale },
        };
        graph.then(x, operation)
    }

    fn scaled(&self, graph: &mut Graph, branch: Value, layer: &str) -> Value {
        if self.style.layer_scale.is_none() {
            return branch;
        }
        let parameter = format!("{}.{layer}.gamma", self.name);
        graph.then(branch, Operation::ScaleParameter { parameter })
    }
}
