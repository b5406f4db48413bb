//! Reader of pickles that executes no code. It computes the values that a state dict of tensors
//! consists of, records all other objects by their class name, and refuses opcodes that
//! `torch.save` does not write.
//!
//! Time and memory are linear in the length of the pickle: a value is stored once and referred to
//! by index, and every length in the file is compared with the bytes that are left.

mod calls;
mod cursor;
mod machine;
mod opcode;
mod stack;
mod value;

pub(super) use calls::unsupported_type;
pub(super) use value::{Place, Storage, TensorClaim, Value};

use crate::error::CheckpointError;

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// Value of a place outside `values`, which no pickle can make.
    nothing: Value,
    root: Place,
}

impl Pickle {
    /// Parses a pickle.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (values, root) = machine::Machine::new(bytes).run()?;
        Ok(Self { values, nothing: Value::Other("nothing"), root })
    }

    pub(super) fn root(&self) -> &Value {
        self.get(self.root)
    }

    pub(super) fn get(&self, place: Place) -> &Value {
        self.values.get(place.0).unwrap_or(&self.nothing)
    }
}
