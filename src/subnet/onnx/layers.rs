//! Norms and activations as ONNX nodes.

use super::builder::Attribute::{Float, Int, Ints};
use super::builder::Builder;
use crate::models::Activation;
use crate::Result;
use std::f64::consts::{PI, SQRT_2};

/// LayerNorm over the last axis.
pub(super) fn layer_norm(
    builder: &mut Builder,
    to: &str,
    x: &str,
    parameters: &str,
    eps: f64,
) -> Result<String> {
    let scale = builder.weight(&format!("{parameters}.weight"))?;
    let shift = builder.weight(&format!("{parameters}.bias"))?;
    let attributes = [Int("axis", -1), Float("epsilon", eps as f32)];
    Ok(builder.node("LayerNormalization", &[x, &scale, &shift], to, &attributes))
}

/// RMSNorm over the last axis, x/√(mean of x² + ε)·weight. Opset 17 has no operator for it.
pub(super) fn rms_norm(
    builder: &mut Builder,
    to: &str,
    x: &str,
    parameters: &str,
    eps: f64,
) -> Result<String> {
    let scale = builder.weight(&format!("{parameters}.weight"))?;
    let squares = builder.node("Mul", &[x, x], format!("{to}.squares"), &[]);
    let last = [Ints("axes", &[-1]), Int("keepdims", 1)];
    let mean = builder.node("ReduceMean", &[&squares], format!("{to}.mean"), &last);
    let eps = builder.scalar(eps);
    let shifted = builder.node("Add", &[&mean, &eps], format!("{to}.shifted"), &[]);
    let root = builder.node("Sqrt", &[&shifted], format!("{to}.root"), &[]);
    let normed = builder.node("Div", &[x, &root], format!("{to}.normed"), &[]);
    Ok(builder.node("Mul", &[&normed, &scale], to, &[]))
}

/// Activation of an MLP.
pub(super) fn activate(builder: &mut Builder, to: &str, x: &str, activation: Activation) -> String {
    match activation {
        Activation::Gelu => gelu(builder, to, x),
        Activation::GeluTanh => gelu_tanh(builder, to, x),
        Activation::QuickGelu => {
            let factor = builder.scalar(1.702);
            let scaled = builder.node("Mul", &[x, &factor], format!("{to}.scaled"), &[]);
            let share = builder.node("Sigmoid", &[&scaled], format!("{to}.share"), &[]);
            builder.node("Mul", &[x, &share], to, &[])
        }
        Activation::Relu => builder.node("Relu", &[x], to, &[]),
    }
}

/// SiLU of the first half of the last axis, times the second.
pub(super) fn swiglu(builder: &mut Builder, to: &str, x: &str, width: i64) -> String {
    let [start, middle, end, axis] =
        [0, width, 2 * width, -1].map(|number| builder.integers(&[number]));
    let gate = builder.node("Slice", &[x, &start, &middle, &axis], format!("{to}.gate"), &[]);
    let value = builder.node("Slice", &[x, &middle, &end, &axis], format!("{to}.value"), &[]);
    let share = builder.node("Sigmoid", &[&gate], format!("{to}.share"), &[]);
    let active = builder.node("Mul", &[&gate, &share], format!("{to}.active"), &[]);
    builder.node("Mul", &[&active, &value], to, &[])
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

/// GELU by its tanh approximation, x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
fn gelu_tanh(builder: &mut Builder, to: &str, x: &str) -> String {
    let [cubic, root, one, half] =
        [0.044715, (2.0 / PI).sqrt(), 1.0, 0.5].map(|number| builder.scalar(number));
    let mut step = |operator: &str, inputs: [&str; 2], name: &str| {
        builder.node(operator, &inputs, format!("{to}.{name}"), &[])
    };
    let square = step("Mul", [x, x], "square");
    let cube = step("Mul", [&square, x], "cube");
    let scaled = step("Mul", [&cube, &cubic], "scaled");
    let sum = step("Add", [x, &scaled], "sum");
    let inner = step("Mul", [&sum, &root], "inner");
    let tanh = builder.node("Tanh", &[&inner], format!("{to}.tanh"), &[]);
    let share = builder.node("Add", &[&tanh, &one], format!("{to}.share"), &[]);
    let product = builder.node("Mul", &[x, &share], format!("{to}.product"), &[]);
    builder.node("Mul", &[&product, &half], to, &[])
}
