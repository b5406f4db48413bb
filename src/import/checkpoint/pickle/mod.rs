//! A reader of pickles that runs nothing: it understands what a state dict of tensors is made of,
//! keeps everything else as inert names, and refuses opcodes that `torch.save` never writes.
//!
//! Time and memory are linear in the length of the pickle: a value is stored once and referred to
//! by place, and lengths in the file are compared with the bytes that are there.

mod calls;
mod cursor;
mod machine;
mod opcode;
mod stack;
mod value;

pub(super) use value::{Place, Storage, TensorClaim, Value};

use crate::error::CheckpointError;

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// Every place is one of `values`; an impossible one reads as this.
    nothing: Value,
    root: Place,
}

impl Pickle {
    /// Reads a pickle.
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
