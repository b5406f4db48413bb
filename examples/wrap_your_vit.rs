//! A ViT of your own: declare what can go, check it, search, extract. See docs/wrapping.md.

use once_for_both::cost::{Budget, CostModel, Metric, Polynomial};
use once_for_both::models::{Architecture, TchModule};
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::space::{
    Binding, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::subnet::{verify, FoldingExtractor, SubnetExtractor};
use once_for_both::{check::self_check, data::Batch, loss::Targets, Result};
use tch::{nn, Device, Kind, Tensor};

/// What can change in a network of one block: its attention grid and its hidden width.
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
        CostModel { macs: macs + 16 * 4 * 32 + 32 * 4, params, dense }
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        let mlp = sizes.get("mlp").map_or(self.1, |size| size.channels);
        Ok(Self(*sizes.get("attention").unwrap_or(&self.0), mlp))
    }
}

fn main() -> Result<()> {
    let (mine, device) = (Mine(Size { heads: 4, channels: 8 }, 64), Device::Cpu);
    let images = Tensor::f_randn([8, 1, 8, 8], (Kind::Float, device))?;
    self_check(&mine, &mine.space()?, &images)?.expect_sound()?;
    let targets = Targets::Classes(Tensor::f_randint(4, [8], (Kind::Int64, device))?);
    let batch = [Batch { images, targets, hidden: None }];
    let (budget, space) = (Budget::share(Metric::Macs, 0.5, &mine.cost_model())?, mine.space()?);
    let options = SearchOptions { pmim: None, ..SearchOptions::new(30, 20) };
    let mut session = Search::new(mine, space, None, vec![budget], options, device)?;
    while !session.is_done() {
        session.step(&batch, &mut |_: &Event| Ok(()))?;
    }
    let subnet = FoldingExtractor.extract(session.supernet())?;
    verify(session.supernet(), &subnet, &batch[0].images)?;
    println!("{:?}: {} MACs of at most {}", subnet.architecture(), subnet.macs()?, budget.limit);
    Ok(())
}
