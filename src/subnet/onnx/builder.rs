//! Builder of an ONNX graph: nodes and initializers, referred to by name.

use super::INNER;
use crate::protobuf::Message;
use crate::tensors::{to_bytes, Weights};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use tch::{Kind, Tensor};

// TensorProto.DataType
pub(super) const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// Returns the TensorProto.DataType of a kind; `None` for a kind that no weight has.
fn data_type(kind: Kind) -> Option<i64> {
    Some(match kind {
        Kind::Float => FLOAT,
        Kind::Uint8 => 2,
        Kind::Int8 => 3,
        Kind::Int16 => 5,
        Kind::Int => 6,
        Kind::Int64 => INT64,
        Kind::Bool => 9,
        Kind::Half => 10,
        Kind::BFloat16 => 16,
        _ => return None,
    })
}

/// Attribute of a node: name and value.
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
}

impl Attribute<'_> {
    fn message(&self) -> Message {
        // name = 1, f = 2, i = 3, ints = 8, type = 20
        match *self {
            Self::Float(name, value) => Message::default().text(1, name).float(2, value).int(20, 1),
            Self::Int(name, value) => Message::default().text(1, name).int(3, value).int(20, 2),
            Self::Ints(name, values) => Message::default().text(1, name).ints(8, values).int(20, 7),
        }
    }
}

/// ONNX graph under construction. Equal constants share one initializer. A weight has its own name; the names
/// of all other values begin with [`INNER`].
pub(super) struct Builder<'a> {
    input: [i64; 3],
    weights: &'a Weights,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    known: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    /// Begins a graph over images of these channels, height and width.
    pub(super) fn new(input: [i64; 3], weights: &'a Weights) -> Self {
        let (nodes, initializers, known) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { input, weights, nodes, initializers, known }
    }

    /// Returns channels, height and width of an image.
    pub(super) fn input(&self) -> [i64; 3] {
        self.input
    }

    /// Adds a node with one output, and returns the output's name.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: impl Into<String>,
        attributes: &[Attribute],
    ) -> String {
        let output = output.into();
        // input = 1, output = 2, name = 3, op_type = 4, attribute = 5
        let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
        let node = node.text(2, &output).text(3, &output).text(4, operator);
        self.nodes.push(
            attributes.iter().fold(node, |node, attribute| node.message(5, &attribute.message())),
        );
        output
    }

    /// Adds a weight as f32, and returns its name.
    pub(super) fn weight(&mut self, name: &str) -> Result<String> {
        let tensor = self.find(name)?;
        self.tensor(name.into(), tensor)
    }

    /// Adds a weight as f32 with all its axes joined to one, and returns its name.
    pub(super) fn vector(&mut self, name: &str) -> Result<String> {
        let tensor = self.find(name)?.f_flatten(0, -1)?;
        self.tensor(name.into(), &tensor)
    }

    /// Adds a transposed matrix as f32, and returns its name: MatMul computes x·W, PyTorch's linear
    /// layer x·Wᵀ. Of a weight with more axes, all before the last are the rows of W.
    pub(super) fn transposed(&mut self, name: &str) -> Result<String> {
        let tensor = self.find(name)?.f_flatten(0, -2)?.f_transpose(0, 1)?;
        self.tensor(format!("{INNER}{name}.transposed"), &tensor)
    }

    /// Adds a one-dimensional i64 constant, and returns its name.
    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        let name = values.iter().map(i64::to_string).collect::<Vec<_>>().join("_");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(format!("{INNER}shape_{name}"), INT64, &[values.len() as i64], &bytes)
    }

    /// Adds an i64 constant of a shape, and returns its name.
    pub(super) fn numbers(&mut self, shape: &[i64], values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        // The name is a hash of the contents, so that equal constants share one initializer.
        let mut hasher = DefaultHasher::new();
        (shape, values).hash(&mut hasher);
        self.initializer(format!("{INNER}numbers_{:016x}", hasher.finish()), INT64, shape, &bytes)
    }

    /// Adds an f32 constant of a shape, and returns its name.
    pub(super) fn floats(&mut self, shape: &[i64], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut hasher = DefaultHasher::new();
        (shape, &bytes).hash(&mut hasher);
        self.initializer(format!("{INNER}floats_{:016x}", hasher.finish()), FLOAT, shape, &bytes)
    }

    /// Adds an i64 scalar, and returns its name.
    pub(super) fn index(&mut self, value: i64) -> String {
        self.initializer(format!("{INNER}index_{value}"), INT64, &[], &value.to_le_bytes())
    }

    /// Adds an f32 scalar, and returns its name.
    pub(super) fn scalar(&mut self, value: f64) -> String {
        self.initializer(
            format!("{INNER}scalar_{value}"),
            FLOAT,
            &[],
            &(value as f32).to_le_bytes(),
        )
    }

    /// Returns the GraphProto.
    pub(super) fn finish(self, name: &str) -> Message {
        // node = 1, name = 2, initializer = 5
        let graph = self.nodes.iter().fold(Message::default(), |graph, n| graph.message(1, n));
        let graph = graph.text(2, name);
        self.initializers.iter().fold(graph, |graph, tensor| graph.message(5, tensor))
    }

    fn find(&self, name: &str) -> Result<&'a Tensor> {
        self.weights.get(name).ok_or_else(|| Error::missing("weight", name))
    }

    /// Adds a weight, and returns the name of its f32 value. A weight of f16 or bf16 is followed by a Cast to f32,
    /// because some runtimes lack operators in half precision, and so is a buffer of integers or flags, which operators
    /// do not mix with f32.
    fn tensor(&mut self, name: String, tensor: &Tensor) -> Result<String> {
        if self.known.contains(&name) {
            return Ok(name);
        }
        let kind = data_type(tensor.kind()).ok_or_else(|| {
            let expected = "f32, f16, bf16, integers or flags";
            let found = format!("{:?}", tensor.kind());
            Error::invalid(format!("type of {name} in model.onnx"), expected, found)
        })?;
        let (shape, bytes) = (tensor.size(), to_bytes(tensor)?);
        if kind == FLOAT {
            return Ok(self.initializer(name, FLOAT, &shape, &bytes));
        }
        self.known.insert(name.clone());
        let stored = self.initializer(format!("{INNER}{name}.stored"), kind, &shape, &bytes);
        Ok(self.node("Cast", &[&stored], name, &[Attribute::Int("to", FLOAT)]))
    }

    /// Adds a TensorProto unless one of this name exists, and returns the name.
    fn initializer(&mut self, name: String, kind: i64, shape: &[i64], bytes: &[u8]) -> String {
        if self.known.insert(name.clone()) {
            // dims = 1, data_type = 2, name = 8, raw_data = 9
            let tensor = Message::default().ints(1, shape).int(2, kind).text(8, &name);
            self.initializers.push(tensor.bytes(9, bytes));
        }
        name
    }
}
