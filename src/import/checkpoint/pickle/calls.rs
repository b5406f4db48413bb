//! Calls of Python functions in a pickle: the few that a state dict of tensors needs are computed
//! here; the result of every other call is recorded as an object of that name.

use super::machine::Machine;
use super::value::{Place, Storage, TensorClaim, Value};
use crate::error::CheckpointError;
use std::rc::Rc;
use tch::Kind;

/// Limit on tensors of a checkpoint.
const MAX_TENSORS: u64 = 1 << 17;
/// Limit on axes of a tensor: torch itself supports fewer.
const MAX_RANK: usize = 64;

impl Machine<'_> {
    /// Pushes the value of `callable(*arguments)`.
    pub(super) fn call(
        &mut self,
        callable: Place,
        arguments: Place,
    ) -> Result<(), CheckpointError> {
        let name = match self.values.get(callable.0) {
            Some(Value::Global(name) | Value::Object(name)) => name.clone(),
            _ => return Err(self.malformed("a global to call", "something else")),
        };
        // No call below needs more than four, and many calls may share one long tuple.
        let arguments = self.items(arguments).unwrap_or_default();
        let arguments: Vec<Place> = arguments.iter().take(4).copied().collect();
        match &*name {
            "collections.OrderedDict" if arguments.is_empty() => self.push(Value::Dict(vec![])),
            "torch._utils._rebuild_tensor_v2" => self.rebuild_tensor(&arguments)?,
            "torch._utils._rebuild_parameter" | "torch.Size" if !arguments.is_empty() => {
                self.push_again(arguments[0]);
            }
            _ => self.push(Value::Object(name)),
        }
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, …)`.
    fn rebuild_tensor(&mut self, arguments: &[Place]) -> Result<(), CheckpointError> {
        let [storage, offset, shape, strides] = arguments else {
            return Err(self.malformed("storage, offset, shape and strides", arguments.len()));
        };
        let storage = match self.values.get(storage.0) {
            Some(Value::Storage(storage)) => storage.clone(),
            // A storage of unknown type: the tensor becomes an object of that type.
            Some(Value::Object(_)) => {
                self.push_again(*storage);
                return Ok(());
            }
            _ => return Err(self.malformed("a storage", "something else")),
        };
        // Many calls may share one shape, and each copies it.
        self.tensors += 1;
        if self.tensors > MAX_TENSORS {
            let (what, actual) = ("number of tensors".into(), self.tensors);
            return Err(CheckpointError::TooMany { what, limit: MAX_TENSORS, actual });
        }
        let claim = TensorClaim {
            storage,
            offset: self.int(*offset)?,
            shape: self.ints(*shape)?,
            strides: self.ints(*strides)?,
        };
        self.push(Value::Tensor(Box::new(claim)));
        Ok(())
    }

    /// Pushes the storage of a persistent id, `("storage", type, key, device, elements)`.
    pub(super) fn persistent(&mut self, id: Place) -> Result<(), CheckpointError> {
        let &[_, class, key, _, elements] = self.items(id).unwrap_or_default() else {
            return Err(self.malformed("a storage's id of five parts", "something else"));
        };
        let class: Rc<str> = match self.values.get(class.0) {
            Some(Value::Global(name)) => name.clone(),
            _ => return Err(self.malformed("a storage's type", "something else")),
        };
        let Some(kind) = kind(&class) else {
            self.push(Value::Object(class));
            return Ok(());
        };
        let (Some(key), Ok(elements)) = (self.text_at(key), u64::try_from(self.int(elements)?))
        else {
            return Err(self.malformed("a storage's key and length", "something else"));
        };
        self.push(Value::Storage(Storage { kind, key, elements }));
        Ok(())
    }

    fn items(&self, place: Place) -> Option<&[Place]> {
        match self.values.get(place.0) {
            Some(Value::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    fn int(&self, place: Place) -> Result<i64, CheckpointError> {
        match self.values.get(place.0) {
            Some(Value::Int(value)) => Ok(*value),
            _ => Err(self.malformed("an integer of 64 bits", "something else")),
        }
    }

    fn ints(&self, place: Place) -> Result<Vec<i64>, CheckpointError> {
        match self.items(place) {
            Some(items) if items.len() <= MAX_RANK => {
                items.iter().map(|&item| self.int(item)).collect()
            }
            Some(items) => Err(self.malformed("at most 64 axes", items.len())),
            None => Err(self.malformed("a tuple of integers", "something else")),
        }
    }
}

/// Returns the element type of a storage class.
fn kind(class: &str) -> Option<Kind> {
    Some(match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Float" => Kind::Float,
        "Double" => Kind::Double,
        "Half" => Kind::Half,
        "BFloat16" => Kind::BFloat16,
        "Long" => Kind::Int64,
        "Int" => Kind::Int,
        "Short" => Kind::Int16,
        "Char" => Kind::Int8,
        // Read as bytes, because not every byte is a valid bool.
        "Byte" | "Bool" => Kind::Uint8,
        _ => return None,
    })
}
