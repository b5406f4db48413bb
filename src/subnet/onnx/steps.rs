//! The operations of a network graph as ONNX nodes.

use super::attention::{add_query_value_bias, attention, bias, latent_attention, window_attention};
use super::builder::Attribute::{Int, Ints};
use super::builder::Builder;
use super::layers::{activate, layer_norm, rms_norm, swiglu};
use super::{INNER, INPUT};
use crate::models::graph::{Operation, Step, Value};
use crate::models::{Graph, Windows};
use crate::Result;

/// Adds all steps of a graph, and returns the name of the logits.
pub(super) fn add(builder: &mut Builder, graph: &Graph) -> Result<String> {
    for (value, step) in graph.steps() {
        add_step(builder, &name(value), step)?;
    }
    Ok(name(graph.output()))
}

fn name(value: Value) -> String {
    match value {
        Value::IMAGES => INPUT.into(),
        other => format!("{INNER}v{}", other.index()),
    }
}

fn add_step(builder: &mut Builder, to: &str, step: &Step) -> Result<String> {
    let inputs: Vec<String> = step.inputs.iter().map(|&input| name(input)).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let x = inputs.first().copied().unwrap_or_default();
    Ok(match &step.operation {
        Operation::Patches { parameters, patch, bias } => {
            patches(builder, to, x, parameters, *patch, *bias)?
        }
        Operation::Prepend { token } => prepend(builder, to, x, token)?,
        Operation::AddParameter { parameter } => {
            let parameter = builder.weight(parameter)?;
            builder.node("Add", &[x, &parameter], to, &[])
        }
        Operation::AddScaledParameter { parameter, scale } => {
            let (parameter, scale) = (builder.weight(parameter)?, builder.weight(scale)?);
            let added = builder.node("Mul", &[&parameter, &scale], format!("{to}.added"), &[]);
            builder.node("Add", &[x, &added], to, &[])
        }
        Operation::ScaleParameter { parameter } => {
            let parameter = builder.weight(parameter)?;
            builder.node("Mul", &[x, &parameter], to, &[])
        }
        Operation::LayerNorm { parameters, eps, .. } => {
            layer_norm(builder, to, x, parameters, *eps)?
        }
        Operation::RmsNorm { parameters, eps, .. } => rms_norm(builder, to, x, parameters, *eps)?,
        Operation::Linear { parameters } => linear(builder, to, x, parameters)?,
        Operation::LinearOfAxes { parameters, bias: true } => linear(builder, to, x, parameters)?,
        Operation::LinearOfAxes { parameters, bias: false } => {
            project(builder, to, x, &format!("{parameters}.weight"))?
        }
        Operation::Activate(activation) => activate(builder, to, x, *activation),
        Operation::SwiGlu { width } => swiglu(builder, to, x, *width),
        Operation::AddQueryValueBias { query, value } => {
            add_query_value_bias(builder, to, x, query, value)?
        }
        Operation::Attention { sizes, scale, norms, rotation } => {
            let (norms, rotation) = (norms.as_ref(), rotation.as_ref());
            attention(builder, to, &inputs, *sizes, *scale, norms, rotation)?
        }
        Operation::Project { parameter } => project(builder, to, x, parameter)?,
        Operation::Merge { grid, width } => merge(builder, to, x, *grid, *width),
        Operation::WindowPartition(windows) => partition(builder, to, x, *windows),
        Operation::WindowReverse(windows) => {
            let order = inverse(&windows.order(), windows.grid * windows.grid);
            let order = builder.numbers(&[order.len() as i64], &order);
            builder.node("Gather", &[x, &order], to, &[Int("axis", 1)])
        }
        Operation::WindowAttention { windows, table, sizes, scale } => {
            let bias = bias(builder, to, *windows, table)?;
            window_attention(builder, to, &inputs, *windows, &bias, *sizes, *scale)
        }
        Operation::Token { index } => {
            let index = builder.index(*index);
            builder.node("Gather", &[x, &index], to, &[Int("axis", 1)])
        }
        Operation::MeanToken { first } => mean_token(builder, to, x, *first),
        Operation::Tokens { first } => tokens(builder, to, x, *first),
        Operation::LatentAttention { latent, query, heads, head_dim, scale } => {
            latent_attention(builder, to, x, [latent, query], [*heads, *head_dim], *scale)?
        }
        Operation::Concatenate => builder.node("Concat", &inputs, to, &[Int("axis", -1)]),
        Operation::Add => builder.node("Add", &inputs, to, &[]),
        Operation::Mean => {
            let sum = builder.node("Add", &inputs, format!("{to}.sum"), &[]);
            let half = builder.scalar(0.5);
            builder.node("Mul", &[&sum, &half], to, &[])
        }
    })
}

/// x·Wᵀ + b.
fn linear(builder: &mut Builder, to: &str, x: &str, parameters: &str) -> Result<String> {
    let product = project(builder, &format!("{to}.product"), x, &format!("{parameters}.weight"))?;
    let bias = builder.vector(&format!("{parameters}.bias"))?;
    Ok(builder.node("Add", &[&product, &bias], to, &[]))
}

/// x·Wᵀ.
fn project(builder: &mut Builder, to: &str, x: &str, parameter: &str) -> Result<String> {
    let matrix = builder.transposed(parameter)?;
    Ok(builder.node("MatMul", &[x, &matrix], to, &[]))
}

/// Patch embedding: a convolution, then `[B, C, H, W]` → `[B, H·W, C]`.
fn patches(
    builder: &mut Builder,
    to: &str,
    x: &str,
    parameters: &str,
    patch: [i64; 2],
    bias: bool,
) -> Result<String> {
    let mut inputs = vec![x.to_owned(), builder.weight(&format!("{parameters}.weight"))?];
    if bias {
        inputs.push(builder.weight(&format!("{parameters}.bias"))?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let attributes = [Ints("kernel_shape", &patch), Ints("strides", &patch)];
    let grid = builder.node("Conv", &inputs, format!("{to}.grid"), &attributes);
    let [_, height, width] = builder.input();
    // The number of patches is written out: -1 would be ambiguous for 0 images.
    let shape = builder.integers(&[0, 0, (height / patch[0].max(1)) * (width / patch[1].max(1))]);
    let row = builder.node("Reshape", &[&grid, &shape], format!("{to}.row"), &[]);
    Ok(builder.node("Transpose", &[&row], to, &[Ints("perm", &[0, 2, 1])]))
}

/// Prepends a token, expanded to the batch size.
fn prepend(builder: &mut Builder, to: &str, x: &str, token: &str) -> Result<String> {
    let token = builder.weight(token)?;
    let range = [Int("start", 0), Int("end", 1)];
    let batch = builder.node("Shape", &[x], format!("{to}.batch"), &range);
    let ones = builder.integers(&[1, 1]);
    let axis = [Int("axis", 0)];
    let shape = builder.node("Concat", &[&batch, &ones], format!("{to}.shape"), &axis);
    let tokens = builder.node("Expand", &[&token, &shape], format!("{to}.tokens"), &[]);
    Ok(builder.node("Concat", &[&tokens, x], to, &[Int("axis", 1)]))
}

/// The tokens from index `first` on.
fn tokens(builder: &mut Builder, to: &str, x: &str, first: i64) -> String {
    let [start, end, axis] = [first, i64::MAX, 1].map(|number| builder.integers(&[number]));
    builder.node("Slice", &[x, &start, &end, &axis], to, &[])
}

/// Mean of the tokens from index `first` on.
fn mean_token(builder: &mut Builder, to: &str, x: &str, first: i64) -> String {
    let tokens = tokens(builder, &format!("{to}.tokens"), x, first);
    let attributes = [Ints("axes", &[1]), Int("keepdims", 0)];
    builder.node("ReduceMean", &[&tokens], to, &attributes)
}

/// Window partition: the tokens of a grid, and after them one of zeros for the padding, in the order of
/// the windows.
fn partition(builder: &mut Builder, to: &str, x: &str, windows: Windows) -> String {
    let mut tokens = x.to_owned();
    if windows.padding() > 0 {
        let pads = builder.integers(&[0, 0, 0, 0, 1, 0]);
        tokens = builder.node("Pad", &[x, &pads], format!("{to}.padded"), &[]);
    }
    let order = builder.numbers(&[windows.order().len() as i64], &windows.order());
    builder.node("Gather", &[&tokens, &order], to, &[Int("axis", 1)])
}

/// Patch merging: concatenates the channels of every 2 × 2 tokens.
fn merge(builder: &mut Builder, to: &str, x: &str, grid: i64, width: i64) -> String {
    let (odd, half) = (grid % 2, (grid + 1) / 2);
    let mut x = x.to_owned();
    if odd > 0 {
        let shape = builder.integers(&[0, grid, grid, width]);
        let square = builder.node("Reshape", &[&x, &shape], format!("{to}.grid"), &[]);
        let pads = builder.integers(&[0, 0, 0, 0, 0, odd, odd, 0]);
        x = builder.node("Pad", &[&square, &pads], format!("{to}.padded"), &[]);
    }
    let shape = builder.integers(&[0, half, 2, half, 2, width]);
    let pairs = builder.node("Reshape", &[&x, &shape], format!("{to}.pairs"), &[]);
    let order = [Ints("perm", &[0, 1, 3, 4, 2, 5])];
    let merged = builder.node("Transpose", &[&pairs], format!("{to}.merged"), &order);
    let shape = builder.integers(&[0, half * half, 4 * width]);
    builder.node("Reshape", &[&merged, &shape], to, &[])
}

/// Returns the inverse of a permutation of `0..count`, in which numbers from `count` on are left out.
fn inverse(order: &[i64], count: i64) -> Vec<i64> {
    let mut inverse = vec![0; usize::try_from(count).unwrap_or(0)];
    for (to, &from) in (0..).zip(order) {
        if let Some(place) = usize::try_from(from).ok().and_then(|from| inverse.get_mut(from)) {
            *place = to;
        }
    }
    inverse
}
