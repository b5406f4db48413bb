use super::super::trainable::learned;
use super::*;
use crate::space::{Binding, Candidates, Dimension, DimensionKind};
use tch::IndexOp;

const CPU: Device = Device::Cpu;

/// Two dimensions of 4 and 3 units: `both` is gated by both, on different axes, `rows` and `tokens` by the
/// first alone, `frozen` too, but it is not learned, so that only its gates are; `plain` has no gates.
fn two_dimensions() -> Result<(SearchSpace, Weights)> {
    let flat = |width| Candidates::flat(width, vec![1, width]);
    let first = Dimension::new("first", DimensionKind::Embedding, flat(4)?)
        .bind(Binding::gated("both", 0))
        .bind(Binding::gated("rows", 0).outer(2))
        .bind(Binding::gated("tokens", 1))
        .bind(Binding::gated("frozen", 0));
    let second = Dimension::new("second", DimensionKind::Hidden, flat(3)?)
        .bind(Binding::gated("both", 1).inner(2));
    let numbers = |shape: &[i64]| -> Result<Tensor> {
        Ok(Tensor::f_randn(shape, (Kind::Float, CPU))?.f_set_requires_grad(true)?)
    };
    let variables = Weights::from([
        ("both".into(), numbers(&[4, 6])?),
        ("rows".into(), numbers(&[8, 5])?),
        ("tokens".into(), numbers(&[3, 4])?),
        ("frozen".into(), Tensor::f_randn([4, 2], (Kind::Float, CPU))?),
        ("plain".into(), numbers(&[7])?),
    ]);
    Ok((SearchSpace { dimensions: vec![first, second] }, variables))
}

fn gates() -> Result<Vec<Tensor>> {
    let numbers = |units| Tensor::f_rand([1, units], (Kind::Float, CPU));
    Ok(vec![numbers(4)?, numbers(3)?])
}

/// θ ⊙ gates of every variable, by broadcasting.
fn gated(theta: &Weights, gates: &[Tensor]) -> Weights {
    let (first, second) = (gates[0].view([4, 1]), gates[1].view([1, 3, 1]));
    let repeated = Tensor::cat(&[&first, &first], 0);
    let both = (&theta["both"] * &first).view([4, 3, 2]) * second;
    Weights::from([
        ("both".into(), both.view([4, 6])),
        ("rows".into(), &theta["rows"] * repeated),
        ("tokens".into(), &theta["tokens"] * first.view([1, 4])),
        ("frozen".into(), &theta["frozen"] * &first),
        ("plain".into(), theta["plain"].shallow_clone()),
    ])
}

fn difference(left: &Tensor, right: &Tensor) -> f64 {
    (left - right).abs().max().double_value(&[])
}

#[test]
fn materialise_and_pull_back_with_gates_on_two_axes_equal_autograd_through_products() -> Result<()>
{
    let (space, variables) = two_dimensions()?;
    let theta: Weights = variables.iter().map(|(name, own)| (name.clone(), own.copy())).collect();
    let gating =
        Gating::new(&space, &[false, false], &variables, learned(&variables), Kind::Float, CPU)?;
    let gates = gates()?;
    let leaf = |own: &Tensor| own.detach().copy().set_requires_grad(true);
    let leaves: Weights = theta.iter().map(|(name, own)| (name.clone(), leaf(own))).collect();
    let masks: Vec<Tensor> = gates.iter().map(leaf).collect();
    let expected = gated(&leaves, &masks);

    let factors = Factors { masks: &gates, fade_out: BTreeMap::new() };
    gating.materialise(&factors)?;
    for (name, value) in &expected {
        assert!(difference(&variables[name], value) < 1e-6, "{name}");
    }
    let loss: Tensor = expected.values().map(|own| (own * own).sum(None)).sum();
    let inputs: Vec<&Tensor> = leaves.values().chain(&masks).collect();
    let found = Tensor::run_backward(&[&loss], &inputs, false, false);
    let gradients = FlatTensors::gather(gating.theta().layout(), CPU, |segment| {
        Some(expected[&segment.name].detach() * 2)
    })?;
    let pulled = gating.pull_back(&gradients, &factors)?;
    for (name, own) in leaves.keys().zip(&found) {
        let pulled = gradients.get(name)?.ok_or_else(|| crate::Error::missing("gradient", name))?;
        assert!(difference(&pulled, own) < 1e-5, "{name}");
    }
    for (own, expected) in pulled.iter().zip(&found[leaves.len()..]) {
        assert!(difference(own, expected) < 1e-5, "{own:?}");
    }
    Ok(())
}

#[test]
fn variables_of_the_network_share_memory_with_theta_or_its_product() -> Result<()> {
    let (space, variables) = two_dimensions()?;
    let gating =
        Gating::new(&space, &[false, false], &variables, learned(&variables), Kind::Float, CPU)?;
    let _ = gating.theta().data().shallow_clone().f_fill_(3.0)?;
    assert_eq!(variables["plain"].i(0).double_value(&[]), 3.0);
    assert_ne!(variables["rows"].i((0, 0)).double_value(&[]), 3.0);
    let ones = [Tensor::ones([1, 4], (Kind::Float, CPU)), Tensor::ones([1, 3], (Kind::Float, CPU))];
    gating.materialise(&Factors { masks: &ones, fade_out: BTreeMap::new() })?;
    assert_eq!(variables["rows"].i((0, 0)).double_value(&[]), 3.0);
    Ok(())
}

#[test]
fn bf16_buffer_changed_by_the_network_updates_theta_and_unchanged_one_keeps_f32() -> Result<()> {
    let half = || Tensor::f_full([2], 0.1, (Kind::BFloat16, CPU));
    let variables = BTreeMap::from([("constant".into(), half()?), ("statistic".into(), half()?)]);
    let gating = Gating::new(
        &SearchSpace::empty(),
        &[],
        &variables,
        learned(&variables),
        Kind::BFloat16,
        CPU,
    )?;
    for name in ["constant", "statistic"] {
        let raw = gating.raw(name).ok_or_else(|| crate::Error::missing("buffer", name))?;
        let _ = raw.shallow_clone().f_fill_(0.1)?;
    }
    let factors = Factors { masks: &[], fade_out: BTreeMap::new() };
    gating.materialise(&factors)?;
    let _ = variables["statistic"].shallow_clone().f_fill_(3.0)?;
    let none = FlatTensors::zeros(gating.theta().layout(), Kind::Float, CPU)?;
    gating.pull_back(&none, &factors)?;
    gating.materialise(&factors)?;
    let first = |tensor: &Tensor| tensor.f_double_value(&[0]);
    for (name, expected) in [("constant", f64::from(0.1f32)), ("statistic", 3.0)] {
        let raw = gating.raw(name).map(first).transpose()?;
        assert_eq!(raw, Some(expected), "{name}");
    }
    assert_eq!(first(&variables["statistic"])?, 3.0);
    Ok(())
}
