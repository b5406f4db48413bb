//! Operators of a training step, each timed alone: libtorch's profiler is not bound by tch.

use crate::network::Plan;
use crate::options::Options;
use crate::report::{number, Section, Table};
use crate::task::Task;
use crate::AnyError;
use once_for_both::latency::compare_latency;
use once_for_both::precision::Precision;
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// An operator with its inputs.
struct Operator {
    name: &'static str,
    calls: usize,
    inputs: Vec<Tensor>,
    run: fn(&[Tensor]) -> Result<Tensor>,
}

/// Time of an operator.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    name: String,
    /// Calls in a forward pass of the network.
    calls: usize,
    /// Milliseconds of all calls, forward.
    forward: f64,
    /// Milliseconds of all calls, forward and backward.
    both: f64,
}

/// Measures every operator at the shapes of the dense network.
pub fn measure(
    options: &Options,
    precision: Precision,
    device: Device,
) -> std::result::Result<Vec<Row>, AnyError> {
    let plan = Plan::of(options);
    let operators = operators(&plan, precision.kind(), device)?;
    let mut rows = Vec::new();
    for operator in operators {
        let burst = |call: &dyn Fn() -> Result<()>| (0..plan.burst).try_for_each(|_| call());
        let alone = || tch::no_grad(|| burst(&|| all_calls(&operator)));
        let both = || burst(&|| both_passes(&operator));
        let times = compare_latency(&[&alone, &both], plan.rounds, device)?;
        let ms = |at: usize| times[at].median_ms / plan.burst as f64;
        let name = operator.name.to_owned();
        rows.push(Row { name, calls: operator.calls, forward: ms(0), both: ms(1) });
    }
    rows.sort_by(|left, right| right.both.total_cmp(&left.both));
    Ok(rows)
}

/// The forward passes of all calls.
fn all_calls(operator: &Operator) -> Result<()> {
    (0..operator.calls).try_for_each(|_| (operator.run)(&operator.inputs).map(drop))
}

/// The forward passes of all calls, and one backward pass through them: the host runs ahead of the device as in
/// a training step.
fn both_passes(operator: &Operator) -> Result<()> {
    let (mut leaves, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..operator.calls {
        // Each call has leaves of its own: gradients would be added up else.
        let leaf =
            |input: &Tensor| Ok(input.f_detach()?.f_set_requires_grad(input.requires_grad())?);
        let inputs = operator.inputs.iter().map(leaf).collect::<Result<Vec<Tensor>>>()?;
        sums.push((operator.run)(&inputs)?.f_sum(Kind::Float)?);
        leaves.extend(inputs.into_iter().filter(Tensor::requires_grad));
    }
    let sum = Tensor::f_stack(&sums, 0)?.f_sum(None)?;
    Tensor::f_run_backward(&[sum], &leaves, false, false)?;
    Ok(())
}

/// Operators of a ViT of equal blocks.
fn operators(
    plan: &Plan,
    kind: Kind,
    device: Device,
) -> std::result::Result<Vec<Operator>, AnyError> {
    let network = &plan.dense;
    let block = network.blocks.first().ok_or("got no blocks, expected at least one")?;
    let (tokens, width, hidden) = (network.tokens(), network.embed_dim, block.hidden_dim);
    let (inner, depth) = (block.heads * block.head_dim, network.blocks.len());
    let (patch, channels) = (network.patch_size, network.in_channels);
    let operator = |name, calls, shapes: &[&[i64]], run| -> Result<Operator> {
        let random = |shape: &&[i64]| -> Result<Tensor> {
            Ok(Tensor::f_randn(*shape, (kind, device))?.f_set_requires_grad(true)?)
        };
        Ok(Operator { name, calls, inputs: shapes.iter().map(random).collect::<Result<_>>()?, run })
    };
    let linear = |name, inputs, outputs| {
        let shapes = [&[plan.batch, tokens, inputs][..], &[outputs, inputs], &[outputs]];
        operator(name, depth, &shapes, |x| Ok(x[0].f_linear(&x[1], Some(&x[2]))?))
    };
    let stream = &[plan.batch, tokens, width][..];
    let head = &[plan.batch, block.heads, tokens, block.head_dim][..];
    let filter = &[width, channels, patch, patch][..];
    // The images have no gradient.
    let mut embedding = operator("patch embedding", 1, &[filter], embed)?;
    embedding.inputs.push(plan.images(plan.batch, device)?.f_to_kind(kind)?);
    Ok(vec![
        embedding,
        operator("layer norm", 2 * depth + 1, &[stream, &[width], &[width]], norm)?,
        linear("linear, qkv", width, 3 * inner)?,
        operator("attention", depth, &[head, head, head], attend)?,
        linear("linear, proj", inner, width)?,
        linear("linear, fc1", width, hidden)?,
        operator("GELU", depth, &[&[plan.batch, tokens, hidden]], |x| Ok(x[0].f_gelu("none")?))?,
        linear("linear, fc2", hidden, width)?,
        operator("residual sum", 2 * depth, &[stream, stream], |x| Ok(x[0].f_add(&x[1])?))?,
    ])
}

fn embed(x: &[Tensor]) -> Result<Tensor> {
    let patch = x[0].size()[2];
    Ok(x[1].f_conv2d(&x[0], None::<Tensor>, [patch, patch], [0, 0], [1, 1], 1)?)
}

fn norm(x: &[Tensor]) -> Result<Tensor> {
    Ok(x[0].f_layer_norm(x[1].size(), Some(&x[1]), Some(&x[2]), 1e-6, true)?)
}

fn attend(x: &[Tensor]) -> Result<Tensor> {
    let (none, scale) = (None::<Tensor>, None::<f64>);
    Ok(Tensor::f_scaled_dot_product_attention(&x[0], &x[1], &x[2], none, 0.0, false, scale, false)?)
}

/// Measures in every precision.
pub fn section(options: &Options) -> Section {
    let mut section = Section::default();
    section.text(
        "Each operator of the dense network alone, at the shapes of a training step, times its calls in one; slowest \
         first. libtorch's own profiler is not bound by tch. The backward pass of each includes the sum that it starts from.",
    );
    let head = ["operator", "precision", "calls", "forward, ms", "both passes, ms", "share of all"];
    let mut table = Table::new(&head);
    for precision in Plan::of(options).precisions {
        let rows = Task::Operators { precision }.run::<Vec<Row>>(options);
        let Some((rows, _)) = section.measured(precision.name(), rows) else { continue };
        let all: f64 = rows.iter().map(|row| row.both).sum();
        for row in rows {
            table.row([
                row.name,
                precision.name().into(),
                row.calls.to_string(),
                number(row.forward),
                number(row.both),
                format!("{:.0} %", 100.0 * row.both / all),
            ]);
        }
    }
    section.table(table);
    section
}
