//! Values of a pickle, as plain data.

use std::rc::Rc;
use tch::Kind;

/// Index of a value in its [`super::Pickle`]. Values refer to each other by index, so that neither
/// deep nesting nor a cycle can exhaust the call stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Place(pub(super) usize);

/// A value of a pickle.
#[derive(Debug)]
pub(in super::super) enum Value {
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    Tuple(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    /// A name of Python code: `module.name`.
    Global(Rc<str>),
    /// Result of calling this global, which is not executed.
    Object(Rc<str>),
    Storage(Storage),
    Tensor(Box<TensorClaim>),
    /// A value that no state dict of tensors needs, described for messages.
    Other(&'static str),
}

/// A storage as the pickle describes it.
#[derive(Debug, Clone)]
pub(in super::super) struct Storage {
    pub(in super::super) kind: Kind,
    pub(in super::super) key: Rc<str>,
    pub(in super::super) elements: u64,
}

/// A tensor as the pickle describes it, not validated yet.
#[derive(Debug)]
pub(in super::super) struct TensorClaim {
    pub(in super::super) storage: Storage,
    pub(in super::super) offset: i64,
    pub(in super::super) shape: Vec<i64>,
    pub(in super::super) strides: Vec<i64>,
    /// torch's negative bit: the tensor's values are those of the storage, negated.
    pub(in super::super) negative: bool,
}

impl Value {
    pub(in super::super) fn describe(&self) -> String {
        match self {
            Self::Bool(value) => format!("the bool {value}"),
            Self::Int(value) => format!("the integer {value}"),
            Self::Text(_) => "a string".into(),
            Self::Tuple(_) => "a tuple".into(),
            Self::Dict(_) => "a dict".into(),
            Self::Global(name) => format!("the global {name}"),
            Self::Object(name) => format!("an object of {name}"),
            Self::Storage(_) => "a storage".into(),
            Self::Tensor(_) => "a tensor".into(),
            Self::Other(words) => (*words).into(),
        }
    }
}
