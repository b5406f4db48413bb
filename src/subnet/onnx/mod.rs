//! ONNX export: a network graph as an ONNX model with opset 17 (onnxruntime 1.12 or newer).

mod attention;
mod builder;
mod layers;
mod steps;

use crate::models::Graph;
use crate::protobuf::Message;
use crate::tensors::Weights;
use crate::{Error, Result};
use builder::{Builder, FLOAT};
use tch::Tensor;

const IR_VERSION: i64 = 8;
/// The first opset with LayerNormalization.
const OPSET: i64 = 17;
/// Maximum size of a protocol buffer in bytes.
const LARGEST: usize = i32::MAX as usize;

/// Name of the input, `[batch, C, H, W]`, f32.
pub(super) const INPUT: &str = "images";
/// Name of the output, `[batch, classes]` or `[batch, tokens, classes]`, f32.
const OUTPUT: &str = "logits";
/// First character of the names of values and constants that are not weights.
const INNER: char = '/';

/// Returns the bytes of the model. Its weights are stored in their own types; it computes in f32.
///
/// # Errors
/// [`Error::Missing`] if the graph names a weight that is missing, [`Error::Invalid`] for one of another type than f32,
/// f16, bf16, integers and flags; those of [`expect_exportable`].
pub(super) fn model(graph: &Graph, weights: &Weights) -> Result<Vec<u8>> {
    expect_exportable(weights)?;
    let mut builder = Builder::new(graph.input(), weights);
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
    expect_size(model.len())?;
    Ok(model)
}

/// Refuses weights that a model cannot hold, before any of them is copied.
///
/// # Errors
/// [`Error::Invalid`] for weights above 2 GiB, and for one with the name of the input, of the output, or of a
/// value within the graph.
pub(super) fn expect_exportable(weights: &Weights) -> Result<()> {
    let bytes = |tensor: &Tensor| tensor.numel().saturating_mul(tensor.kind().elt_size_in_bytes());
    expect_size(weights.values().map(bytes).fold(0, usize::saturating_add))?;
    let is_taken =
        |name: &&String| [INPUT, OUTPUT].contains(&name.as_str()) || name.starts_with(INNER);
    match weights.keys().find(is_taken) {
        None => Ok(()),
        Some(name) => {
            let expected = format!(
                "neither {INPUT} nor {OUTPUT}, and no {INNER:?} at its start, which name values of the \
                 graph; rename the variable"
            );
            Err(Error::invalid("name of a weight in model.onnx", expected, format!("{name:?}")))
        }
    }
}

fn expect_size(bytes: usize) -> Result<()> {
    if bytes <= LARGEST {
        return Ok(());
    }
    let expected =
        format!("at most {LARGEST} bytes, the limit of protocol buffers; export TorchScript");
    Err(Error::invalid("size of model.onnx", expected, bytes))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::graph::{Operation, Value};
    use crate::tensors::to_bytes;
    use tch::{Device, Kind};

    /// Images to which a weight of this name is added, as a model.
    fn added(name: &str, weight: Tensor) -> Result<Vec<u8>> {
        let mut graph = Graph::new([1, 2, 2]);
        graph.then(Value::IMAGES, Operation::AddParameter { parameter: name.into() });
        model(&graph, &Weights::from([(name.to_string(), weight)]))
    }

    fn one() -> Tensor {
        Tensor::zeros([1], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn model_above_the_limit_is_refused_before_its_weights_are_copied() {
        let refused = added("weight", one().expand([1 << 30], false));
        let Err(Error::Invalid { name, actual, .. }) = refused else { panic!("not refused") };
        assert_eq!((name.as_str(), actual.as_str()), ("size of model.onnx", "4294967296"));
    }

    #[test]
    fn weight_with_the_name_of_a_value_of_the_graph_is_refused() {
        for own in ["images", "logits", "/v1"] {
            let refused = added(own, one());
            let Err(Error::Invalid { actual, .. }) = refused else { panic!("{own}: {refused:?}") };
            assert_eq!(actual, format!("{own:?}"));
        }
    }

    /// Whether a model has these bytes of a message.
    fn has(model: &[u8], bytes: &[u8]) -> bool {
        model.windows(bytes.len()).any(|window| window == bytes)
    }

    #[test]
    fn buffer_of_integers_or_flags_is_stored_in_its_type_and_cast_to_f32() {
        // TensorProto.DataType of each kind.
        for (kind, data_type) in [
            (Kind::Uint8, 2),
            (Kind::Int8, 3),
            (Kind::Int16, 5),
            (Kind::Int, 6),
            (Kind::Int64, 7),
            (Kind::Bool, 9),
        ] {
            let buffer = Tensor::ones([2], (kind, Device::Cpu));
            let model = added("mask", buffer.shallow_clone());
            let model = model.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            // dims = 1, data_type = 2, name = 8, raw_data = 9; input = 1, output = 2, name = 3, op_type = 4.
            let tensor = Message::default().int(1, 2).int(2, data_type).text(8, "/mask.stored");
            let bytes = to_bytes(&buffer).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            let cast = Message::default().text(1, "/mask.stored").text(2, "mask").text(3, "mask");
            assert!(has(&model, &tensor.bytes(9, &bytes).into_bytes()), "{kind:?}");
            assert!(has(&model, &cast.text(4, "Cast").into_bytes()), "{kind:?}");
        }
        let refused = added("mask", Tensor::ones([2], (Kind::Double, Device::Cpu)));
        let Err(Error::Invalid { name, actual, .. }) = refused else { panic!("not refused") };
        assert_eq!((name.as_str(), actual.as_str()), ("type of mask in model.onnx", "Double"));
    }

    #[test]
    fn weight_named_like_a_step_has_a_name_of_its_own() {
        let model = added("v1", one()).unwrap_or_else(|error| panic!("{error}"));
        let named = |field: u8, name: &str| {
            has(&model, &[&[field << 3 | 2, name.len() as u8], name.as_bytes()].concat())
        };
        // The name of an initializer is field 8, an output of a node is field 2.
        assert!(named(8, "v1") && named(2, "/v1") && !named(2, "v1"));
    }
}
