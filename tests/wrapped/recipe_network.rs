//! A ViT that is made of the recipes of docs/wrapping.md.

use once_for_both::cost::{CostModel, Polynomial};
use once_for_both::models::{Architecture, Logits, Network};
use once_for_both::space::{
    Binding, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::nn::ModuleT;
use tch::{nn, Tensor};

/// Query heads that share a head of keys and values.
pub const GROUP: i64 = 2;
pub const REGISTERS: i64 = 2;
pub const CLASSES: i64 = 5;
pub const PATCHES: i64 = 16;
pub const PIXELS: i64 = 48;

/// Attention of the network. With rotary positions, channels j and j + D/2 are a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Attention {
    Separate,
    Fused,
    /// Grouped queries, without positions: a unit is a head of keys and values.
    Grouped,
}

/// MLP of the network, which two layers share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Mlp {
    SwiGlu,
    FusedSwiGlu,
    /// With a batch norm over the hidden neurons, whose statistics are buffers.
    BatchNorm,
    /// With an RMSNorm over the hidden neurons.
    Normed,
}

/// A ViT with registers, RMSNorm, one attention and one MLP that is applied twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recipe {
    width: i64,
    heads: i64,
    /// Pairs of channels of a head.
    pairs: i64,
    hidden: i64,
    /// Channels of a head of the dense network.
    head_dim: i64,
    attention: Attention,
    mlp: Mlp,
}

pub fn recipe(attention: Attention, mlp: Mlp) -> Recipe {
    Recipe { width: 32, heads: 4, pairs: 4, hidden: 24, head_dim: 8, attention, mlp }
}

#[derive(Debug)]
pub struct Built {
    sizes: Recipe,
    patches: Tensor,
    registers: Tensor,
    norms: Vec<Tensor>,
    /// q, k and v, or all in one.
    qkv: Vec<Tensor>,
    rope: Tensor,
    out: Tensor,
    /// Gate and value, or both in one, or the layer before the batch norm.
    up: Vec<Tensor>,
    batch_norm: Option<nn::BatchNorm>,
    hidden_norm: Option<Tensor>,
    down: Tensor,
    head: Tensor,
}

pub fn weight(path: nn::Path, rows: i64, columns: i64) -> Result<Tensor> {
    let init = nn::Init::Randn { mean: 0.0, stdev: 0.2 };
    Ok(path.f_var("weight", &[rows, columns], init)?)
}

pub fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    x.linear(weight, None::<&Tensor>)
}

pub fn rms_norm(x: &Tensor, scale: &Tensor) -> Tensor {
    x * (x.square().mean_dim([-1i64].as_slice(), true, None) + 1e-6).rsqrt() * scale
}

impl Built {
    /// Turns channels j and j + D/2 of `[B, heads, N, D]` by position · θ_j.
    fn rotate(&self, x: &Tensor) -> Tensor {
        let Recipe { heads, pairs, .. } = self.sizes;
        let positions = Tensor::arange(x.size()[2], (x.kind(), x.device())).view([-1, 1]);
        let angles = positions * self.rope.view([heads, 1, pairs]);
        let angles = Tensor::cat(&[&angles, &angles], -1);
        let half = x.chunk(2, -1);
        let rotated = Tensor::cat(&[-&half[1], half[0].shallow_clone()], -1); // rotate_half
        x * angles.cos() + rotated * angles.sin()
    }

    fn attend(&self, x: &Tensor) -> Tensor {
        let Recipe { heads, pairs, head_dim, attention, .. } = self.sizes;
        let split = |x: Tensor, heads: i64| x.unflatten(2, [heads, -1]).transpose(1, 2);
        let [q, k, v] = match attention {
            Attention::Fused => {
                let qkv = linear(x, &self.qkv[0]).chunk(3, -1);
                [0, 1, 2].map(|at: usize| split(qkv[at].shallow_clone(), heads))
            }
            Attention::Separate => {
                [0, 1, 2].map(|at: usize| split(linear(x, &self.qkv[at]), heads))
            }
            Attention::Grouped => {
                let [q, k, v] = [0, 1, 2].map(|at: usize| linear(x, &self.qkv[at]));
                let shared = |x| split(x, heads).repeat_interleave_self_int(GROUP, 1, None);
                [split(q, heads * GROUP), shared(k), shared(v)]
            }
        };
        let rotate = attention != Attention::Grouped && pairs > 0;
        let [q, k] = [q, k].map(|x| if rotate { self.rotate(&x) } else { x });
        let scores = q.matmul(&k.transpose(2, 3)) / (head_dim as f64).sqrt();
        let mixed = scores.softmax(-1, None).matmul(&v).transpose(1, 2).flatten(2, 3);
        linear(&mixed, &self.out)
    }

    fn mlp(&self, x: &Tensor, train: bool) -> Tensor {
        let hidden = match (self.sizes.mlp, &self.batch_norm) {
            (Mlp::SwiGlu, _) => linear(x, &self.up[0]).silu() * linear(x, &self.up[1]),
            (Mlp::FusedSwiGlu, _) => {
                let both = linear(x, &self.up[0]).chunk(2, -1);
                both[0].silu() * &both[1]
            }
            (Mlp::Normed, _) => {
                let hidden = linear(x, &self.up[0]).relu();
                self.hidden_norm.as_ref().map_or(hidden.copy(), |scale| rms_norm(&hidden, scale))
            }
            (Mlp::BatchNorm, norm) => {
                let hidden = linear(x, &self.up[0]);
                let flat = hidden.flatten(0, 1);
                let normed = norm.as_ref().map_or(flat.copy(), |norm| norm.forward_t(&flat, train));
                normed.view_as(&hidden).relu()
            }
        };
        linear(&hidden, &self.down)
    }
}

impl Network for Built {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        // Patches of 4 × 4 pixels.
        let patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute([0, 2, 3, 1, 4, 5]);
        let x = linear(&patches.reshape([-1, PATCHES, PIXELS]), &self.patches);
        let registers = self.registers.expand([x.size()[0], -1, -1], false);
        let x = Tensor::cat(&[registers, x], 1);
        let x = &x + self.attend(&rms_norm(&x, &self.norms[0]));
        let x = &x + self.mlp(&rms_norm(&x, &self.norms[1]), train);
        let x = &x + self.mlp(&rms_norm(&x, &self.norms[2]), train); // tied: the same MLP
        let patches = x.narrow(1, REGISTERS, PATCHES);
        let pooled = patches.mean_dim([1i64].as_slice(), false, None);
        Ok(Logits::single(linear(&pooled, &self.head)))
    }
}

impl Architecture for Recipe {
    type Network = Built;
    const FAMILY: &'static str = "recipe";

    fn build(&self, path: &nn::Path) -> Result<Built> {
        let Self { width, heads, pairs, hidden, .. } = *self;
        let inner = heads * pairs * 2;
        let rows = |name: &str, count| weight(path / name, count, width);
        let qkv = match self.attention {
            Attention::Fused => vec![rows("qkv", 3 * inner)?],
            Attention::Separate => vec![rows("q", inner)?, rows("k", inner)?, rows("v", inner)?],
            Attention::Grouped => {
                vec![rows("q", GROUP * inner)?, rows("k", inner)?, rows("v", inner)?]
            }
        };
        let up = match self.mlp {
            Mlp::SwiGlu => vec![rows("gate", hidden)?, rows("value", hidden)?],
            Mlp::FusedSwiGlu => vec![rows("w12", 2 * hidden)?],
            Mlp::BatchNorm | Mlp::Normed => vec![rows("up", hidden)?],
        };
        let theta = |unit| 100f32.powf(-((unit % pairs) as f32) / pairs as f32);
        let thetas: Vec<f32> = (0..heads * pairs).map(theta).collect();
        let mut rope = path.f_zeros_no_train("rope", &[heads * pairs])?;
        rope.f_copy_(&Tensor::f_from_slice(&thetas)?)?;
        let queries = if self.attention == Attention::Grouped { GROUP * inner } else { inner };
        let norm = |at: i64| (path / "norms" / at).f_ones("weight", &[width]);
        let batch_norm = (self.mlp == Mlp::BatchNorm)
            .then(|| nn::batch_norm1d(path / "bn", hidden, Default::default()));
        let hidden_norm = (self.mlp == Mlp::Normed)
            .then(|| (path / "hidden_norm").f_ones("weight", &[hidden]))
            .transpose()?;
        Ok(Built {
            sizes: self.clone(),
            patches: weight(path / "patches", width, PIXELS)?,
            registers: path.f_randn("registers", &[1, REGISTERS, width], 0.0, 0.5)?,
            norms: (0..3).map(norm).collect::<std::result::Result<_, _>>()?,
            qkv,
            rope,
            out: weight(path / "out", width, queries)?,
            up,
            batch_norm,
            hidden_norm,
            down: weight(path / "down", width, hidden)?,
            head: weight(path / "head", CLASSES, width)?,
        })
    }

    fn space(&self) -> Result<SearchSpace> {
        let mut embed =
            Dimension::new("embed", DimensionKind::Embedding, Candidates::embedding(self.width)?)
                .bind(Binding::gated("patches.weight", 0))
                .bind(Binding::gated("registers", 2))
                .bind(Binding::narrowed("head.weight", 1));
        for at in 0..3 {
            embed = embed.bind(Binding::scaled(format!("norms.{at}.weight"), 0));
        }
        let readers: &[&str] = match self.attention {
            Attention::Fused => &["qkv"],
            _ => &["q", "k", "v"],
        };
        let layers: &[&str] = match self.mlp {
            Mlp::SwiGlu => &["gate", "value"],
            Mlp::FusedSwiGlu => &["w12"],
            Mlp::BatchNorm | Mlp::Normed => &["up"],
        };
        for layer in readers.iter().chain(layers) {
            embed = embed.bind(Binding::narrowed(format!("{layer}.weight"), 1));
        }
        for writer in ["out", "down"] {
            embed = embed.bind(Binding::written(format!("{writer}.weight"), 0));
        }
        Ok(SearchSpace { dimensions: vec![embed, self.attention_dimension()?, self.hidden()?] })
    }

    fn cost_model(&self) -> CostModel {
        let (embed, attn) = (Polynomial::units("embed"), Polynomial::units("attn"));
        let (hidden, tokens) = (Polynomial::units("mlp"), PATCHES + REGISTERS);
        // Rows of q, k and v, and columns of the output projection, of one unit.
        let [rows, queries] = match self.attention {
            Attention::Grouped => [(GROUP + 2) * self.head_dim, GROUP * self.head_dim],
            _ => [6, 2],
        };
        let [up, own] = match self.mlp {
            Mlp::SwiGlu | Mlp::FusedSwiGlu => [2, 0],
            Mlp::BatchNorm => [1, 2],
            Mlp::Normed => [1, 1],
        };
        let projections = embed.clone() * attn.clone() * (rows + queries);
        let layers = embed.clone() * hidden.clone() * (up + 1);
        let params = projections.clone()
            + layers.clone()
            + embed.clone() * (PIXELS + REGISTERS + 3 + CLASSES)
            + hidden * own;
        let macs = projections * tokens
            + attn * (2 * queries * tokens * tokens)
            + layers * (2 * tokens) // the MLP is applied twice, and counted once in `params`
            + embed * (PIXELS * PATCHES + CLASSES);
        let attn = match self.attention {
            Attention::Grouped => Size { heads: self.heads, channels: 1 },
            _ => Size { heads: self.heads, channels: self.pairs },
        };
        let sizes = [("embed", Size::flat(self.width)), ("attn", attn)];
        let sizes = sizes.into_iter().chain([("mlp", Size::flat(self.hidden))]);
        CostModel::new(macs, params, sizes.map(|(name, size)| (name.into(), size)).collect())
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        let mut own = self.clone();
        own.width = sizes.get("embed").map_or(own.width, |size| size.channels);
        own.hidden = sizes.get("mlp").map_or(own.hidden, |size| size.channels);
        if let Some(size) = sizes.get("attn") {
            own.heads = size.heads;
            if own.attention != Attention::Grouped {
                own.pairs = size.channels;
            }
        }
        Ok(own)
    }
}

impl Recipe {
    fn attention_dimension(&self) -> Result<Dimension> {
        let (pairs, channels) = (Candidates::attention(self.heads, self.pairs)?, self.head_dim);
        let heads = Candidates::grid(self.heads, 1, (1..=self.heads).collect(), vec![1])?;
        let named = |candidates| Dimension::new("attn", DimensionKind::Attention, candidates);
        Ok(match self.attention {
            Attention::Separate => named(pairs)
                .bind(Binding::gated("q.weight", 0).half_split())
                .bind(Binding::gated("k.weight", 0).half_split())
                .bind(Binding::gated("v.weight", 0).half_split())
                .bind(Binding::narrowed("rope", 0))
                .bind(Binding::narrowed("out.weight", 1).half_split()),
            Attention::Fused => named(pairs)
                .bind(Binding::gated("qkv.weight", 0).outer(3).half_split())
                .bind(Binding::narrowed("rope", 0))
                .bind(Binding::narrowed("out.weight", 1).half_split()),
            Attention::Grouped => named(heads)
                .bind(Binding::gated("q.weight", 0).inner(GROUP * channels))
                .bind(Binding::gated("k.weight", 0).inner(channels))
                .bind(Binding::gated("v.weight", 0).inner(channels))
                .bind(Binding::narrowed("rope", 0).inner(self.pairs))
                .bind(Binding::narrowed("out.weight", 1).inner(GROUP * channels)),
        })
    }

    fn hidden(&self) -> Result<Dimension> {
        let kind = match self.mlp {
            Mlp::Normed => DimensionKind::Embedding,
            _ => DimensionKind::Hidden,
        };
        let mlp = Dimension::new("mlp", kind, Candidates::hidden(self.hidden)?);
        let mlp = mlp.bind(Binding::narrowed("down.weight", 1));
        Ok(match self.mlp {
            Mlp::SwiGlu => mlp
                .bind(Binding::gated("value.weight", 0))
                .bind(Binding::narrowed("gate.weight", 0)),
            Mlp::FusedSwiGlu => mlp.bind(Binding::gated("w12.weight", 0).outer(2)),
            Mlp::BatchNorm => mlp
                .bind(Binding::narrowed("up.weight", 0))
                .bind(Binding::gated("bn.weight", 0))
                .bind(Binding::gated("bn.bias", 0))
                .bind(Binding::narrowed("bn.running_mean", 0))
                .bind(Binding::narrowed("bn.running_var", 0)),
            Mlp::Normed => mlp
                .bind(Binding::gated("up.weight", 0))
                .bind(Binding::scaled("hidden_norm.weight", 0)),
        })
    }
}
