//! Every operation of a graph in the operators of ONNX.

use super::builder::Attribute::{Float, Int, Ints};
use super::builder::Builder;
use super::INPUT;
use crate::models::graph::{Operation, Step, Value};
use crate::models::Graph;
use crate::Result;
use std::f64::consts::SQRT_2;

/// Adds all steps, and returns the name of the prediction.
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

/// A convolution, its grid flattened and put before the channels.
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
    let shape = builder.integers(&[0, 0, -1]);
    let row = builder.node("Reshape", &[&grid, &shape], format!("{to}.row"), &[]);
    Ok(builder.node("Transpose", &[&row], to, &[Ints("perm", &[0, 2, 1])]))
}

/// The token, once for every image, before the others.
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

/// The tokens from one on, averaged.
fn mean_token(builder: &mut Builder, to: &str, x: &str, first: i64) -> String {
    let [start, end, axis] = [first, i64::MAX, 1].map(|number| builder.integers(&[number]));
    let tokens = builder.node("Slice", &[x, &start, &end, &axis], format!("{to}.tokens"), &[]);
    let attributes = [Ints("axes", &[1]), Int("keepdims", 0)];
    builder.node("ReduceMean", &[&tokens], to, &attributes)
}

/// x·(1 + erf(x/√2))/2, in the form that runtimes recognise.
fn gelu(builder: &mut Builder, to: &str, x: &str) -> String {
    let (root, one, half) = (builder.scalar(SQRT_2), builder.scalar(1.0), builder.scalar(0.5));
    let scaled = builder.node("Div", &[x, &root], format!("{to}.scaled"), &[]);
    let erf = builder.node("Erf", &[&scaled], format!("{to}.erf"), &[]);
    let sum = builder.node("Add", &[&erf, &one], format!("{to}.sum"), &[]);
    let product = builder.node("Mul", &[x, &sum], format!("{to}.product"), &[]);
    builder.node("Mul", &[&product, &half], to, &[])
}

fn attention(
    builder: &mut Builder,
    to: &str,
    x: &str,
    [heads, head_dim]: [i64; 2],
    scale: f64,
) -> String {
    let shape = builder.integers(&[0, 0, 3, heads, head_dim]);
    let split = builder.node("Reshape", &[x, &shape], format!("{to}.split"), &[]);
    // 3 × B × heads × N × channels; the keys with the last two exchanged.
    let order = [Ints("perm", &[2, 0, 3, 1, 4])];
    let qkv = builder.node("Transpose", &[&split], format!("{to}.qkv"), &order);
    let [q, k, v] = [("q", 0), ("k", 1), ("v", 2)].map(|(part, index)| {
        let index = builder.index(index);
        builder.node("Gather", &[&qkv, &index], format!("{to}.{part}"), &[Int("axis", 0)])
    });
    let exchanged = [Ints("perm", &[0, 1, 3, 2])];
    let k = builder.node("Transpose", &[&k], format!("{to}.k_transposed"), &exchanged);
    let products = builder.node("MatMul", &[&q, &k], format!("{to}.products"), &[]);
    let scale = builder.scalar(scale);
    let scaled = builder.node("Mul", &[&products, &scale], format!("{to}.scaled"), &[]);
    let last = [Int("axis", -1)];
    let shares = builder.node("Softmax", &[&scaled], format!("{to}.shares"), &last);
    let mixed = builder.node("MatMul", &[&shares, &v], format!("{to}.mixed"), &[]);
    let order = [Ints("perm", &[0, 2, 1, 3])];
    let tokens = builder.node("Transpose", &[&mixed], format!("{to}.tokens"), &order);
    let shape = builder.integers(&[0, 0, heads * head_dim]);
    builder.node("Reshape", &[&tokens, &shape], to, &[])
}
