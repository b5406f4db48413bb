//! ONNX export: a network graph as an ONNX model with opset 17 (onnxruntime 1.12 or newer).

mod attention;
mod builder;
mod layers;
mod steps;

use super::Precision;
use crate::models::Graph;
use crate::protobuf::Message;
use crate::tensors::Weights;
use crate::{Error, Result};
use builder::{Builder, FLOAT};

const IR_VERSION: i64 = 8;
/// The first opset with LayerNormalization.
const OPSET: i64 = 17;
/// Maximum size of a protocol buffer in bytes.
const LARGEST: usize = i32::MAX as usize;

/// Name of the input, `[batch, C, H, W]`, f32.
pub(super) const INPUT: &str = "images";
/// Name of the output, `[batch, classes]` or `[batch, tokens, classes]`, f32.
const OUTPUT: &str = "logits";

/// Returns the bytes of the model. Its weights are stored in `precision`; it computes in f32.
///
/// # Errors
/// [`Error::Missing`] if the graph names a weight that is missing; [`Error::Invalid`] above 2 GiB.
pub(super) fn model(graph: &Graph, weights: &Weights, precision: Precision) -> Result<Vec<u8>> {
    let mut builder = Builder::new(graph.input(), weights, precision);
    let output = steps::add(&mut builder, graph)?;
    builder.node("Identity", &[&output], OUTPUT, &[]);
    let images: Vec<Dimension> = graph.input().into_iter().map(Dimension::Fixed).collect();
    let mut logits = vec![Dimension::Free("classes")];
    if graph.output_has_tokens() {
        logits.insert(0, Dimension::Free("tokens"));
    }
    // input = 11, output = 12
    let graph = builder
        .finish("once-for-both")
        .message(11, &value_info(INPUT, &images))
        .message(12, &value_info(OUTPUT, &logits));

    // domain (the default one is empty) = 1, version = 2
    let opset = Message::default().text(1, "").int(2, OPSET);
    // ir_version = 1, producer_name = 2, producer_version = 3, graph = 7, opset_import = 8
    let model = Message::default()
        .int(1, IR_VERSION)
        .text(2, env!("CARGO_PKG_NAME"))
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, &graph)
        .message(8, &opset)
        .into_bytes();
    if model.len() > LARGEST {
        let expected =
            format!("at most {LARGEST} bytes, the limit of protocol buffers; export TorchScript");
        return Err(Error::invalid("size of model.onnx", expected, model.len()));
    }
    Ok(model)
}

/// Length of an axis: a number, or a named free length.
enum Dimension {
    Fixed(i64),
    Free(&'static str),
}

/// Returns the ValueInfoProto of an f32 tensor `[batch, dimensions…]`.
fn value_info(name: &str, dimensions: &[Dimension]) -> Message {
    // dim = 1: dim_value = 1, dim_param = 2
    let shape = std::iter::once(&Dimension::Free("batch")).chain(dimensions).fold(
        Message::default(),
        |shape, dimension| {
            let dimension = match dimension {
                Dimension::Fixed(length) => Message::default().int(1, *length),
                Dimension::Free(name) => Message::default().text(2, name),
            };
            shape.message(1, &dimension)
        },
    );
    // elem_type = 1, shape = 2; tensor_type = 1; name = 1, type = 2
    let tensor = Message::default().int(1, FLOAT).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
