//! The operations of a network graph as ONNX nodes.

use super::builder::Attribute::{Float, Int, Ints};
use super::builder::Builder;
use super::INPUT;
use crate::models::graph::{Operation, Step, Value};
use crate::models::{Graph, Windows};
use crate::Result;
use std::f64::consts::SQRT_2;

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
        other => format!("v{}", other.index()),
    }
}

fn add_step(builder: &mut Builder, to: &str, step: &Step) -> Result<String> {
    let inputs: Vec<String> = step.inputs.iter().map(|&input| name(input)).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let x = inputs.first().copied().unwrap_or_default();
    Ok(match &step.operation {
        Operation::Patches { parameters, patch } => patches(builder, to, x, parameters, *patch)?,
        Operation::Prepend { token } => prepend(builder, to, x, token)?,
        Operation::AddParameter { parameter } => {
            let parameter = builder.weight(parameter)?;
            builder.node("Add", &[x, &parameter], to, &[])
        }
        Operation::ScaleParameter { parameter } => {
            let parameter = builder.weight(parameter)?;
            builder.node("Mul", &[x, &parameter], to, &[])
        }
        Operation::LayerNorm { parameters, eps, .. } => {
            let scale = builder.weight(&format!("{parameters}.weight"))?;
            let shift = builder.weight(&format!("{parameters}.bias"))?;
            let attributes = [Int("axis", -1), Float("epsilon", *eps as f32)];
            builder.node("LayerNormalization", &[x, &scale, &shift], to, &attributes)
        }
        Operation::Linear { parameters } => {
            let matrix = builder.transposed(&format!("{parameters}.weight"))?;
            let bias = builder.weight(&format!("{parameters}.bias"))?;
            let product = builder.node("MatMul", &[x, &matrix], format!("{to}.product"), &[]);
            builder.node("Add", &[&product, &bias], to, &[])
        }
        Operation::Gelu => gelu(builder, to, x),
        Operation::Attention { heads, head_dim, scale } => {
            attention(builder, to, x, [*heads, *head_dim], *scale)
        }
        Operation::Project { parameter } => {
            let matrix = builder.transposed(parameter)?;
            builder.node("MatMul", &[x, &matrix], to, &[])
        }
        Operation::Merge { grid, width } => merge(builder, to, x, *grid, *width),
        Operation::WindowPartition(windows) => {
            let order = builder.numbers(&[windows.order().len() as i64], &windows.order());
            builder.node("Gather", &[x, &order], to, &[Int("axis", 1)])
        }
        Operation::WindowReverse(windows) => {
            let order = inverse(&windows.order());
            let order = builder.numbers(&[order.len() as i64], &order);
            builder.node("Gather", &[x, &order], to, &[Int("axis", 1)])
        }
        Operation::WindowAttention { windows, table, heads, head_dim, scale } => {
            let bias = bias(builder, to, *windows, table)?;
            window_attention(builder, to, x, *windows, &bias, [*heads, *head_dim], *scale)
        }
        Operation::Token { index } => {
            let index = builder.index(*index);
            builder.node("Gather", &[x, &index], to, &[Int("axis", 1)])
        }
        Operation::MeanToken { first } => mean_token(builder, to, x, *first),
        Operation::Concatenate => builder.node("Concat", &inputs, to, &[Int("axis", -1)]),
        Operation::Add => builder.node("Add", &inputs, to, &[]),
        Operation::Mean => {
            let sum = builder.node("Add", &inputs, format!("{to}.sum"), &[]);
            let half = builder.scalar(0.5);
            builder.node("Mul", &[&sum, &half], to, &[])
        }
    })
}

/// Patch embedding: a convolution, then `[B, C, H, W]` → `[B, H·W, C]`.
fn patches(
    builder: &mut Builder,
    to: &str,
    x: &str,
    parameters: &str,
    patch: i64,
) -> Result<String> {
    let weight = builder.weight(&format!("{parameters}.weight"))?;
    let bias = builder.weight(&format!("{parameters}.bias"))?;
    let side = [patch, patch];
    let attributes = [Ints("kernel_shape", &side), Ints("strides", &side)];
    let grid = builder.node("Conv", &[x, &weight, &bias], format!("{to}.grid"), &attributes);
    let [_, height, width] = builder.input();
    // The number of patches is written out: -1 would be ambiguous for 0 images.
    let shape = builder.integers(&[0, 0, (height / patch.max(1)) * (width / patch.max(1))]);
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

/// Mean of the tokens from index `first` on.
fn mean_token(builder: &mut Builder, to: &str, x: &str, first: i64) -> String {
    let [start, end, axis] = [first, i64::MAX, 1].map(|number| builder.integers(&[number]));
    let tokens = builder.node("Slice", &[x, &start, &end, &axis], format!("{to}.tokens"), &[]);
    let attributes = [Ints("axes", &[1]), Int("keepdims", 0)];
    builder.node("ReduceMean", &[&tokens], to, &attributes)
}

/// GELU, x·(1 + erf(x/√2))/2, as the node sequence that onnxruntime fuses.
fn gelu(builder: &mut Builder, to: &str, x: &str) -> String {
    let (root, one, half) = (builder.scalar(SQRT_2), builder.scalar(1.0), builder.scalar(0.5));
    let scaled = builder.node("Div", &[x, &root], format!("{to}.scaled"), &[]);
    let erf = builder.node("Erf", &[&scaled], format!("{to}.erf"), &[]);
    let sum = builder.node("Add", &[&erf, &one], format!("{to}.sum"), &[]);
    let product = builder.node("Mul", &[x, &sum], format!("{to}.product"), &[]);
    builder.node("Mul", &[&product, &half], to, &[])
}

/// Patch merging: concatenates the channels of every 2 × 2 tokens.
fn merge(builder: &mut Builder, to: &str, x: &str, grid: i64, width: i64) -> String {
    let half = grid / 2;
    let shape = builder.integers(&[0, half, 2, half, 2, width]);
    let pairs = builder.node("Reshape", &[x, &shape], format!("{to}.pairs"), &[]);
    let order = [Ints("perm", &[0, 1, 3, 4, 2, 5])];
    let merged = builder.node("Transpose", &[&pairs], format!("{to}.merged"), &order);
    let shape = builder.integers(&[0, half * half, 4 * width]);
    builder.node("Reshape", &[&merged, &shape], to, &[])
}

/// Returns the inverse permutation.
fn inverse(order: &[i64]) -> Vec<i64> {
    let mut inverse = vec![0; order.len()];
    (0..).zip(order).for_each(|(to, &from)| inverse[from as usize] = to);
    inverse
}

/// Bias of window attention: the relative position bias, `[heads, tokens, tokens]`; for shifted
/// windows plus the mask between regions, `[windows, heads, tokens, tokens]`.
fn bias(builder: &mut Builder, to: &str, windows: Windows, table: &str) -> Result<String> {
    let (count, tokens) = (windows.count(), windows.tokens());
    let rows = builder.numbers(&[tokens, tokens], &windows.relative_position_index());
    let table = builder.weight(table)?;
    let axis = [Int("axis", 0)];
    let biases = builder.node("Gather", &[&table, &rows], format!("{to}.biases"), &axis);
    let order = [Ints("perm", &[2, 0, 1])];
    let bias = builder.node("Transpose", &[&biases], format!("{to}.bias"), &order);
    if windows.shift == 0 {
        return Ok(bias);
    }
    let regions = windows.regions();
    let from = builder.numbers(&[count, 1, tokens, 1], &regions);
    let onto = builder.numbers(&[count, 1, 1, tokens], &regions);
    let same = builder.node("Equal", &[&from, &onto], format!("{to}.same"), &[]);
    let (zero, apart) = (builder.scalar(0.0), builder.scalar(Windows::MASKED));
    let separation =
        builder.node("Where", &[&same, &zero, &apart], format!("{to}.separation"), &[]);
    Ok(builder.node("Add", &[&bias, &separation], format!("{to}.separated"), &[]))
}

/// Multi-head attention within windows: [`attention`] with an axis of windows after the batch.
fn window_attention(
    builder: &mut Builder,
    to: &str,
    x: &str,
    windows: Windows,
    bias: &str,
    [heads, head_dim]: [i64; 2],
    scale: f64,
) -> String {
    let (count, tokens) = (windows.count(), windows.tokens());
    let shape = builder.integers(&[0, count, tokens, 3, heads, head_dim]);
    let split = builder.node("Reshape", &[x, &shape], format!("{to}.split"), &[]);
    let order = [Ints("perm", &[3, 0, 1, 4, 2, 5])];
    let qkv = builder.node("Transpose", &[&split], format!("{to}.qkv"), &order);
    let exchanged = [0, 1, 2, 4, 3];
    let mixed = mix(builder, to, &qkv, &exchanged, scale, Some(bias));
    let order = [Ints("perm", &[0, 1, 3, 2, 4])];
    let ordered = builder.node("Transpose", &[&mixed], format!("{to}.tokens"), &order);
    let shape = builder.integers(&[0, count * tokens, heads * head_dim]);
    builder.node("Reshape", &[&ordered, &shape], to, &[])
}

/// Multi-head attention on a fused qkv, `[B, N, 3 · heads · channels]` → `[B, N, heads · channels]`.
fn attention(
    builder: &mut Builder,
    to: &str,
    x: &str,
    [heads, head_dim]: [i64; 2],
    scale: f64,
) -> String {
    let shape = builder.integers(&[0, 0, 3, heads, head_dim]);
    let split = builder.node("Reshape", &[x, &shape], format!("{to}.split"), &[]);
    // [3, B, heads, N, channels]
    let order = [Ints("perm", &[2, 0, 3, 1, 4])];
    let qkv = builder.node("Transpose", &[&split], format!("{to}.qkv"), &order);
    let mixed = mix(builder, to, &qkv, &[0, 1, 3, 2], scale, None);
    let order = [Ints("perm", &[0, 2, 1, 3])];
    let tokens = builder.node("Transpose", &[&mixed], format!("{to}.tokens"), &order);
    let shape = builder.integers(&[0, 0, heads * head_dim]);
    builder.node("Reshape", &[&tokens, &shape], to, &[])
}

/// softmax(scale·q·kᵀ + bias)·v, with q, k and v along axis 0 of `qkv`; `exchanged` is the
/// permutation that transposes the last two axes of k.
fn mix(
    builder: &mut Builder,
    to: &str,
    qkv: &str,
    exchanged: &[i64],
    scale: f64,
    bias: Option<&str>,
) -> String {
    let [q, k, v] = [("q", 0), ("k", 1), ("v", 2)].map(|(part, index)| {
        let index = builder.index(index);
        builder.node("Gather", &[qkv, &index], format!("{to}.{part}"), &[Int("axis", 0)])
    });
    let exchanged = [Ints("perm", exchanged)];
    let k = builder.node("Transpose", &[&k], format!("{to}.k_transposed"), &exchanged);
    let products = builder.node("MatMul", &[&q, &k], format!("{to}.products"), &[]);
    let scale = builder.scalar(scale);
    let mut logits = builder.node("Mul", &[&products, &scale], format!("{to}.scaled"), &[]);
    if let Some(bias) = bias {
        logits = builder.node("Add", &[&logits, bias], format!("{to}.biased"), &[]);
    }
    let last = [Int("axis", -1)];
    let shares = builder.node("Softmax", &[&logits], format!("{to}.shares"), &last);
    builder.node("MatMul", &[&shares, &v], format!("{to}.mixed"), &[])
}
