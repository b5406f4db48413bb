//! Self-checks of attention with rotary positions and with grouped queries.

use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use once_for_both::check::{self_check, Findings};
use once_for_both::cost::{CostModel, Polynomial};
use once_for_both::error::{Advice, Fault, Suspect};
use once_for_both::models::{Architecture, TchModule};
use once_for_both::space::{
    Binding, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{nn, Kind, Tensor};

const WIDTH: i64 = 8;
const HEADS: i64 = 2;
const PAIRS: i64 = 3;
/// Query heads that share a head of keys and values.
const GROUP: i64 = 2;

/// Attention layers with heads of 2 · `PAIRS` channels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Layer {
    /// Rotary positions over adjacent channels (2j, 2j + 1).
    Interleaved,
    /// Rotary positions over channels (j, j + `PAIRS`), as in LLaMA.
    HalfSplit,
    /// Grouped queries, without positions; its heads alone are searched.
    Grouped,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Attention {
    layer: Layer,
    heads: i64,
    pairs: i64,
}

impl Attention {
    fn new(layer: Layer) -> Self {
        Self { layer, heads: HEADS, pairs: PAIRS }
    }

    fn group(&self) -> i64 {
        if self.layer == Layer::Grouped {
            GROUP
        } else {
            1
        }
    }
}

/// Rotates `[B, heads, N, 2 · pairs]` by position · `theta`, which is `[heads · pairs]`.
fn rotated(layer: Layer, x: Tensor, theta: &Tensor) -> Tensor {
    let size = x.size();
    let (heads, pairs) = (size[1], size[3] / 2);
    let positions = Tensor::arange(size[2], (Kind::Float, x.device())).view([-1, 1]);
    let angles = positions * theta.view([heads, 1, pairs]);
    let (shape, axis) = match layer {
        Layer::Interleaved => ([pairs, 2], -1),
        _ => ([2, pairs], -2),
    };
    let parts = x.unflatten(3, shape);
    let (even, odd) = (parts.select(axis, 0), parts.select(axis, 1));
    let (sin, cos) = (angles.sin(), angles.cos());
    Tensor::stack(&[&even * &cos - &odd * &sin, even * sin + odd * cos], axis).flatten(3, 4)
}

impl Architecture for Attention {
    type Network = TchModule<nn::Func<'static>>;
    const FAMILY: &'static str = "attention";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        let own = *self;
        let (inner, queries) = (own.heads * own.pairs * 2, own.heads * own.group());
        let bare = nn::LinearConfig { bias: false, ..Default::default() };
        let q = nn::linear(path / "q", WIDTH, inner * own.group(), bare);
        let [k, v] = ["k", "v"].map(|name| nn::linear(path / name, WIDTH, inner, bare));
        let out = nn::linear(path / "out", inner * own.group(), 4, bare);
        let mut theta = path.f_zeros_no_train("theta", &[own.heads * own.pairs])?;
        theta.f_copy_(&Tensor::f_arange(theta.size1()?, (Kind::Float, path.device()))?)?;
        Ok(TchModule(nn::func(move |x| {
            let split = |layer: &nn::Linear, heads: i64| {
                x.apply(layer).unflatten(2, [heads, own.pairs * 2]).transpose(1, 2)
            };
            let (q, k) = (split(&q, queries), split(&k, own.heads));
            let (q, k) = match own.layer {
                Layer::Grouped => (q, k.repeat_interleave_self_int(GROUP, 1, None)),
                layer => (rotated(layer, q, &theta), rotated(layer, k, &theta)),
            };
            let v = split(&v, own.heads).repeat_interleave_self_int(own.group(), 1, None);
            let mixed = q.matmul(&k.transpose(2, 3)).softmax(-1, None).matmul(&v);
            mixed.transpose(1, 2).flatten(2, 3).mean_dim(1, false, None).apply(&out)
        })))
    }

    fn space(&self) -> Result<SearchSpace> {
        let grouped = self.layer == Layer::Grouped;
        let candidates = match grouped {
            // A unit is a head of keys and values with all of its queries.
            true => Candidates::grid(self.heads, 1, (1..=self.heads).collect(), vec![1])?,
            false => Candidates::attention(self.heads, self.pairs)?,
        };
        let inner = if grouped { 2 * self.pairs } else { 2 };
        let table = if grouped { self.pairs } else { 1 };
        let attention = Dimension::new("attention", DimensionKind::Attention, candidates)
            .bind(Binding::gated("q.weight", 0).inner(inner * self.group()))
            .bind(Binding::gated("k.weight", 0).inner(inner))
            .bind(Binding::gated("v.weight", 0).inner(inner))
            .bind(Binding::narrowed("out.weight", 1).inner(inner * self.group()))
            .bind(Binding::narrowed("theta", 0).inner(table));
        Ok(SearchSpace { dimensions: vec![attention] })
    }

    fn cost_model(&self) -> CostModel {
        let inner = if self.layer == Layer::Grouped { 2 * self.pairs } else { 2 };
        let rows = WIDTH * (self.group() + 2) + 4 * self.group();
        let params = Polynomial::units("attention") * (inner * rows);
        let channels = if self.layer == Layer::Grouped { 1 } else { self.pairs };
        let dense = [("attention".into(), Size { heads: self.heads, channels })].into();
        CostModel::new(0.into(), params, dense)
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        let mut own = *self;
        if let Some(size) = sizes.get("attention") {
            own.heads = size.heads;
            if own.layer != Layer::Grouped {
                own.pairs = size.channels;
            }
        }
        Ok(own)
    }
}

fn check(layer: Layer, change: impl FnOnce(&mut Dimension)) -> TestResult<Findings> {
    let _alone = alone();
    let attention = Attention::new(layer);
    let mut space = attention.space()?;
    change(&mut space.dimensions[0]);
    let tokens = Tensor::f_randn([2, 5, WIDTH], (Kind::Float, test_device()))?;
    Ok(self_check(&attention, &space, &tokens)?)
}

#[test]
fn self_check_of_interleaved_rotary_pairs_with_a_bound_table_is_sound() -> TestResult {
    check(Layer::Interleaved, |_| {})?.expect_sound()?;
    Ok(())
}

#[test]
fn self_check_of_rotary_positions_with_an_unbound_table_names_it() -> TestResult {
    let unbind = |attention: &mut Dimension| {
        attention.bindings.pop();
    };
    let report = check(Layer::Interleaved, unbind)?;
    let [Fault::Order { suspects, explained: true, .. }, ..] = report.faults.as_slice() else {
        panic!("{:?}", report.faults);
    };
    let advice = Advice::Bind { outer: 1, inner: 1 };
    assert_eq!(suspects[..], [Suspect { variable: "theta".into(), axis: 0, advice }]);
    Ok(())
}

#[test]
fn self_check_of_half_split_rotary_pairs_finds_them_out_of_order() -> TestResult {
    let report = check(Layer::HalfSplit, |_| {})?;
    assert!(matches!(report.faults[0], Fault::Order { .. }), "{:?}", report.faults);
    Ok(())
}

#[test]
fn self_check_of_grouped_queries_with_heads_as_units_is_sound() -> TestResult {
    check(Layer::Grouped, |_| {})?.expect_sound()?;
    Ok(())
}
