//! Self-checks of unusual networks.

use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use once_for_both::check::{self_check, Findings};
use once_for_both::cost::{CostModel, Polynomial};
use once_for_both::error::{Advice, Fault, Suspect};
use once_for_both::models::{Architecture, TchModule};
use once_for_both::space::{Binding, Candidates, Dimension, DimensionKind, SearchSpace, Sizes};
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{nn, Kind, Tensor};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Odd {
    /// Attention with a temperature for each head.
    Temperature,
    /// Attention whose rows are laid out channels × heads.
    ChannelsOutside,
    /// Logits with noise in evaluation.
    Noisy,
    /// Infinite logits.
    Infinite,
}

const HEADS: i64 = 2;
const CHANNELS: i64 = 3;

impl Architecture for Odd {
    type Network = TchModule<nn::Func<'static>>;
    const FAMILY: &'static str = "odd";

    fn build(&self, path: &nn::Path) -> Result<Self::Network> {
        let odd = *self;
        let layers = ["q", "k", "v"]
            .map(|name| nn::linear(path / name, 8, HEADS * CHANNELS, Default::default()));
        let out = nn::linear(path / "out", HEADS * CHANNELS, 4, Default::default());
        let temperature = path.f_ones("temperature", &[HEADS])?;
        Ok(TchModule(nn::func(move |x| {
            let [q, k, v] = layers.each_ref().map(|layer| match odd {
                Odd::ChannelsOutside => {
                    x.apply(layer).unflatten(2, [CHANNELS, HEADS]).permute([0, 3, 1, 2])
                }
                _ => x.apply(layer).unflatten(2, [HEADS, CHANNELS]).transpose(1, 2),
            });
            let scores = q.matmul(&k.transpose(2, 3)) * temperature.view([HEADS, 1, 1]);
            let mixed = scores.softmax(-1, None).matmul(&v);
            let mixed = match odd {
                Odd::ChannelsOutside => mixed.permute([0, 2, 3, 1]),
                _ => mixed.transpose(1, 2),
            };
            let logits = mixed.flatten(2, 3).mean_dim(1, false, None).apply(&out);
            match odd {
                Odd::Noisy => &logits + logits.rand_like(),
                Odd::Infinite => logits / 0.0,
                _ => logits,
            }
        })))
    }

    fn space(&self) -> Result<SearchSpace> {
        let candidates = Candidates::attention(HEADS, CHANNELS)?;
        let mut attention = Dimension::new("attention", DimensionKind::Attention, candidates);
        for part in ["weight", "bias"] {
            let gates = ["q", "k", "v"].map(|layer| Binding::gated(format!("{layer}.{part}"), 0));
            attention.bindings.extend(gates);
        }
        let attention = attention.bind(Binding::narrowed("out.weight", 1));
        let attention = match self {
            Odd::Temperature => attention.bind(Binding::narrowed("temperature", 0).over_heads()),
            _ => attention,
        };
        Ok(SearchSpace { dimensions: vec![attention] })
    }

    fn cost_model(&self) -> CostModel {
        let params = Polynomial::units("attention") * (3 * 9 + 4) + 4;
        let params = params + Polynomial::heads("attention");
        CostModel::new(0.into(), params, Sizes::new())
    }
}

fn check(odd: Odd, space: &SearchSpace) -> TestResult<Result<Findings>> {
    let _alone = alone();
    let tokens = Tensor::f_randn([2, 5, 8], (Kind::Float, test_device()))?;
    Ok(self_check(&odd, space, &tokens))
}

fn suspects(report: &Findings) -> &[Suspect] {
    match &report.faults[0] {
        Fault::Order { suspects, explained: true, .. } => suspects,
        other => panic!("{other}"),
    }
}

#[test]
fn self_check_advises_over_heads_for_a_variable_with_one_entry_per_head() -> TestResult {
    let mut space = Odd::Temperature.space()?;
    check(Odd::Temperature, &space)??.expect_sound()?;
    space.dimensions[0].bindings.pop();
    let report = check(Odd::Temperature, &space)??;
    let advice = Advice::BindHeads;
    assert_eq!(suspects(&report), [Suspect { variable: "temperature".into(), axis: 0, advice }]);
    Ok(())
}

#[test]
fn self_check_finds_rows_laid_out_channels_before_heads() -> TestResult {
    let mut space = Odd::ChannelsOutside.space()?;
    space.dimensions[0].bindings.push(Binding::narrowed("temperature", 0).over_heads());
    let report = check(Odd::ChannelsOutside, &space)??;
    let advice = Advice::ChannelsOutside;
    assert_eq!(suspects(&report), [Suspect { variable: "q.weight".into(), axis: 0, advice }]);
    Ok(())
}

#[test]
fn self_check_of_a_network_with_noise_in_evaluation_is_refused() -> TestResult {
    let refused = check(Odd::Noisy, &Odd::Noisy.space()?)?;
    assert!(
        matches!(&refused, Err(Error::Invalid { name, .. }) if name.contains("two forward passes"))
    );
    Ok(())
}

#[test]
fn self_check_with_infinite_logits_is_refused() -> TestResult {
    let refused = check(Odd::Infinite, &Odd::Infinite.space()?)?;
    assert!(matches!(&refused, Err(Error::NonFinite { .. })), "{refused:?}");
    Ok(())
}

#[test]
fn self_check_finds_a_dimension_without_cost_and_a_cost_without_dimension() -> TestResult {
    let mut space = Odd::Temperature.space()?;
    space.dimensions[0].name = "renamed".into();
    let faults = check(Odd::Temperature, &space)??.faults;
    let unknown = Fault::UnknownCost { dimension: "attention".into() };
    assert_eq!(faults, [unknown, Fault::Free { dimension: "renamed".into() }]);
    Ok(())
}
