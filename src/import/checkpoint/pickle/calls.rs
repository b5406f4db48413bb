//! Calls of Python functions in a pickle: the few that a state dict of tensors needs are computed
//! here; the result of every other call is recorded as an object of that name.

use super::super::MAX_RANK;
use super::machine::Machine;
use super::value::{Place, Storage, TensorClaim, Value};
use crate::error::CheckpointError;
use std::rc::Rc;
use tch::Kind;

/// Limit on tensors of a checkpoint.
const MAX_TENSORS: u64 = 1 << 17;
/// Most arguments that a call below looks at. Many calls may share one long tuple.
const MAX_ARGUMENTS: usize = 8;
/// Entries of a tensor's metadata, at most: torch writes `conj` and `neg`. Many tensors may share one dict.
const MAX_METADATA: usize = 2;
/// Classes whose values are those of the tensor that they wrap.
const TENSOR_CLASSES: [&str; 3] =
    ["torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"];

impl Machine<'_> {
    /// Pushes the value of `callable(*arguments)`.
    pub(super) fn call(
        &mut self,
        callable: Place,
        arguments: Place,
    ) -> Result<(), CheckpointError> {
        let name = self.callable(callable)?;
        let arguments = self.arguments(arguments);
        match &*name {
            // A tensor with attributes: `_rebuild_from_type_v2(function, class, arguments, state)`.
            "torch._tensor._rebuild_from_type_v2" | "torch._tensor._rebuild_from_type" => {
                self.rebuild_from_type(&arguments)
            }
            _ => self.call_named(name, &arguments),
        }
    }

    fn call_named(&mut self, name: Rc<str>, arguments: &[Place]) -> Result<(), CheckpointError> {
        match &*name {
            "collections.OrderedDict" if arguments.is_empty() => self.push(Value::Dict(vec![])),
            "torch._utils._rebuild_tensor_v2" => self.rebuild_tensor(arguments)?,
            // Its element type has no storage class, and is none that weights are read from here.
            "torch._utils._rebuild_tensor_v3" => {
                let kind = arguments.get(6).and_then(|kind| self.values.get(kind.0));
                let (Some(Value::Global(kind)), true) = (kind, arguments.len() >= 7) else {
                    return Err(self.malformed("seven arguments, the last a type", arguments.len()));
                };
                let kind = kind.clone();
                self.push(Value::Object(kind));
            }
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.Size"
                if !arguments.is_empty() =>
            {
                self.push_again(arguments[0]);
            }
            _ => self.push(Value::Object(name)),
        }
        Ok(())
    }

    /// Calls the function among the arguments, unless the class could change the tensor's values.
    fn rebuild_from_type(&mut self, arguments: &[Place]) -> Result<(), CheckpointError> {
        let &[function, class, inner, ..] = arguments else {
            return Err(self.malformed("function, class and arguments", arguments.len()));
        };
        let (function, class) = (self.callable(function)?, self.callable(class)?);
        if !TENSOR_CLASSES.contains(&&*class) {
            self.push(Value::Object(class));
            return Ok(());
        }
        let inner = self.arguments(inner);
        self.call_named(function, &inner)
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, metadata)`; the
    /// last one is optional.
    fn rebuild_tensor(&mut self, arguments: &[Place]) -> Result<(), CheckpointError> {
        let &[storage, offset, shape, strides, ..] = arguments else {
            return Err(self.malformed("storage, offset, shape and strides", arguments.len()));
        };
        let storage = match self.values.get(storage.0) {
            Some(Value::Storage(storage)) => storage.clone(),
            // A storage of unknown type: the tensor becomes an object of that type.
            Some(Value::Object(_)) => {
                self.push_again(storage);
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
            offset: self.int(offset)?,
            shape: self.ints(shape)?,
            strides: self.ints(strides)?,
            negative: match arguments.get(6) {
                Some(&metadata) => self.is_negative(metadata)?,
                None => false,
            },
        };
        self.push(Value::Tensor(Box::new(claim)));
        Ok(())
    }

    /// Whether a tensor's metadata have torch's negative bit. The conjugate bit of a real tensor
    /// changes nothing; those of complex tensors are refused by their type.
    fn is_negative(&self, metadata: Place) -> Result<bool, CheckpointError> {
        let entries = match self.values.get(metadata.0) {
            Some(Value::Dict(entries)) if entries.len() <= MAX_METADATA => entries,
            Some(Value::Dict(entries)) => {
                return Err(self.malformed("at most 2 metadata of a tensor", entries.len()));
            }
            Some(Value::Other("None")) => return Ok(false),
            _ => return Err(self.malformed("metadata of a tensor, a dict", "something else")),
        };
        let mut negative = false;
        for &(key, value) in entries {
            match (self.text_at(key).as_deref(), self.values.get(value.0)) {
                (Some("neg"), Some(&Value::Bool(bit))) => negative = bit,
                (Some("conj"), Some(Value::Bool(_))) => {}
                (key, _) => {
                    let found = format!("{key:?}");
                    return Err(self.malformed("metadata neg or conj of a tensor", found));
                }
            }
        }
        Ok(negative)
    }

    /// Pushes the storage of a persistent id, `("storage", type, key, device, elements)`.
    pub(super) fn persistent(&mut self, id: Place) -> Result<(), CheckpointError> {
        let &[_, class, key, device, elements] = self.items(id).unwrap_or_default() else {
            return Err(self.malformed("a storage's id of five parts", "something else"));
        };
        let class: Rc<str> = match self.values.get(class.0) {
            Some(Value::Global(name)) => name.clone(),
            _ => return Err(self.malformed("a storage's type", "something else")),
        };
        if self.text_at(device).as_deref() == Some("meta") {
            self.push(Value::Object("torch.device.meta".into()));
            return Ok(());
        }
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

    fn callable(&self, place: Place) -> Result<Rc<str>, CheckpointError> {
        match self.values.get(place.0) {
            Some(Value::Global(name) | Value::Object(name)) => Ok(name.clone()),
            _ => Err(self.malformed("a global to call", "something else")),
        }
    }

    /// The first arguments of a call; none if they are not a tuple.
    fn arguments(&self, place: Place) -> Vec<Place> {
        self.items(place).unwrap_or_default().iter().take(MAX_ARGUMENTS).copied().collect()
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

/// Describes the type of a tensor that is recorded as an object: by its storage class, its element
/// type or the function that rebuilds it. `None` for any other object.
pub(in super::super) fn unsupported_type(global: &str) -> Option<String> {
    let words = match global {
        "torch.device.meta" | "torch._utils._rebuild_meta_tensor_no_storage" => {
            "a tensor on the device meta, which has no values"
        }
        "torch._utils._rebuild_sparse_tensor" => "a sparse tensor",
        "torch._utils._rebuild_qtensor" => "a quantised tensor",
        "torch._utils._rebuild_nested_tensor" => "a nested tensor",
        "torch._utils._rebuild_wrapper_subclass"
        | "torch._utils._rebuild_device_tensor_from_cpu_tensor"
        | "torch._utils._rebuild_device_tensor_from_numpy"
        | "torch._utils._rebuild_xla_tensor" => "a tensor of another device or class",
        _ => {
            let name = global.strip_prefix("torch.")?;
            let is_dtype = !name.contains('.') && name.starts_with(|c: char| c.is_lowercase());
            return (name.ends_with("Storage") || is_dtype).then(|| global.to_owned());
        }
    };
    Some(format!("{words} ({global})"))
}
