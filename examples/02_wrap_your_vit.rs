//! Wraps a ViT that this crate does not know: declare its prunable units, check the declaration,
//! search, extract. docs/wrapping.md explains each part.
//! `cargo run --release --example 02_wrap_your_vit`

use once_for_both::check::self_check;
use once_for_both::cost::{CostModel, Polynomial};
use once_for_both::models::TchModule;
use once_for_both::prelude::*;
use once_for_both::Result;
use tch::{nn, Device, Kind, Tensor};

/// Sizes of a ViT of one block: heads × channels of its attention, and its hidden width.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Mine(Size, i64);

impl Architecture for Mine {
    type Network = TchModule<nn::Func<'static>>;
    const FAMILY: &'static str = "mine";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        let (heads, inner, mlp) = (self.0.heads, self.0.units(), self.1);
        let bare = nn::LinearConfig { bias: false, ..Default::default() };
        let linear = |(name, inputs, outputs)| nn::linear(path / name, inputs, outputs, bare);
        let [q, k, v] = ["q", "k", "v"].map(|name| linear((name, 32, inner)));
        let [embed, head] = [("embed", 4, 32), ("head", 32, 4)].map(linear);
        let [out, w1, w2] = [("out", inner, 32), ("w1", 32, mlp), ("w2", mlp, 32)].map(linear);
        let norm = nn::layer_norm(path / "norm", vec![32], Default::default());
        Ok(TchModule(nn::func(move |images| {
            let x = images.reshape([-1, 16, 4]).apply(&embed); // 16 tokens of 4 pixels
            let map = |layer| x.apply(&norm).apply(layer).unflatten(2, [heads, -1]).transpose(1, 2);
            let a = map(&q).matmul(&map(&k).transpose(2, 3)) / 8f64.sqrt(); // √8 after a cut, too
            let mixed = a.softmax(-1, None).matmul(&map(&v)).transpose(1, 2).flatten(2, 3);
            let x = &x + mixed.apply(&out);
            let x = &x + x.apply(&norm).apply(&w1).gelu("none").apply(&w2);
            x.mean_dim(1, false, None).apply(&head)
        })))
    }

    fn space(&self) -> Result<SearchSpace> {
        let candidates = Candidates::attention(self.0.heads, self.0.channels)?;
        let attention = Dimension::new("attention", DimensionKind::Attention, candidates)
            .bind(Binding::gated("q.weight", 0))
            .bind(Binding::gated("k.weight", 0))
            .bind(Binding::gated("v.weight", 0))
            .bind(Binding::narrowed("out.weight", 1));
        let mlp = Dimension::new("mlp", DimensionKind::Hidden, Candidates::hidden(self.1)?);
        let mlp = mlp.bind(Binding::gated("w1.weight", 0)).bind(Binding::narrowed("w2.weight", 1));
        Ok(SearchSpace { dimensions: vec![attention, mlp] })
    }

    fn cost_model(&self) -> CostModel {
        let [attention, mlp] = ["attention", "mlp"].map(Polynomial::units);
        let macs = attention.clone() * (16 * (4 * 32 + 2 * 16)) + mlp.clone() * (16 * 2 * 32);
        let params = attention * (4 * 32) + mlp * (2 * 32) + (4 + 4 + 2) * 32;
        let dense = [("attention".into(), self.0), ("mlp".into(), Size::flat(self.1))].into();
        CostModel::new(macs + 16 * 4 * 32 + 32 * 4, params, dense)
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        let mlp = sizes.get("mlp").map_or(self.1, |size| size.channels);
        Ok(Self(*sizes.get("attention").unwrap_or(&self.0), mlp))
    }
}

fn main() -> Result<()> {
    let mine = Mine(Size { heads: 4, channels: 8 }, 64);
    let random = |_: u64| {
        let images = Tensor::f_randn([8, 1, 8, 8], (Kind::Float, Device::Cpu))?;
        Ok(Batch::classes(images, Tensor::f_randint(4, [8], (Kind::Int64, Device::Cpu))?))
    };
    let images = random(0)?.images;
    self_check(&mine, &mine.space()?, &images)?.expect_sound()?;

    let builder = Search::of(mine).budget(Budget::macs_share(0.5)).steps(30, 20);
    let mut search = builder.build()?;
    search.train(&mut { random }, &mut ())?;

    let subnet = search.extract(&images)?;
    let (sizes, macs, limit) = (subnet.architecture(), subnet.macs()?, search.limits()[0].limit);
    println!("{sizes:?}: {macs} MACs of at most {limit}");
    Ok(())
}
