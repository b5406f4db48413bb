//! The pickle (protocol 2) of a module tree.

use super::code::class;
use super::modules::Module;
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Pickle of an empty tuple: the archive has no constants.
pub(super) const NO_CONSTANTS: &[u8] = b"\x80\x02).";

/// Returns the pickle of a module tree; tensor n of `weights` refers to storage n.
pub(super) fn module(root: &Module, weights: &Weights) -> Result<Vec<u8>> {
    let tensors: Vec<(&String, &Tensor)> = weights.iter().collect();
    let mut pickle = Pickle(vec![0x80, 2]);
    pickle.object(root, &tensors)?;
    pickle.0.push(b'.');
    Ok(pickle.0)
}

struct Pickle(Vec<u8>);

impl Pickle {
    /// Writes an object of the module's class, with its attributes as a dict.
    fn object(&mut self, module: &Module, tensors: &[(&String, &Tensor)]) -> Result<()> {
        self.global("__torch__", &class(module));
        self.0.extend(b")\x81}("); // empty tuple, new object, empty dict, mark
        self.text("training");
        self.bool(false);
        for own in &module.attributes {
            self.text(&own.name);
            self.tensor(own.place, tensors[own.place])?;
        }
        for (name, child) in &module.children {
            self.text(name);
            self.object(child, tensors)?;
        }
        self.0.extend(b"ub"); // set items since the mark, build
        Ok(())
    }

    /// Writes a call of `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&mut self, key: usize, (name, tensor): (&String, &Tensor)) -> Result<()> {
        let shape = tensor.size();
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", storage_type(name, tensor.f_kind()?)?);
        self.text(&key.to_string());
        self.text("cpu");
        self.integer(tensor.numel() as i64);
        self.0.extend(b"tQ"); // tuple, persistent id
        self.integer(0);
        self.integers(&shape);
        self.integers(&contiguous_strides(&shape));
        self.bool(false);
        self.global("collections", "OrderedDict");
        self.0.extend(b")RtR"); // call OrderedDict(), end the argument tuple, call
        Ok(())
    }

    /// Writes a tuple of integers.
    fn integers(&mut self, values: &[i64]) {
        self.0.push(b'(');
        values.iter().for_each(|&value| self.integer(value));
        self.0.push(b't');
    }

    /// Writes an integer: BININT, or LONG1 above 32 bits.
    fn integer(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(short) => {
                self.0.push(b'J');
                self.0.extend(short.to_le_bytes());
            }
            Err(_) => {
                self.0.extend([0x8a, 8]);
                self.0.extend(value.to_le_bytes());
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        // Names and keys are far below the 4 GiB limit of BINUNICODE.
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn bool(&mut self, value: bool) {
        self.0.push(if value { 0x88 } else { 0x89 });
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }
}

fn storage_type(name: &str, kind: Kind) -> Result<&'static str> {
    Ok(match kind {
        Kind::Float => "FloatStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        Kind::Int => "IntStorage",
        Kind::Int16 => "ShortStorage",
        Kind::Int8 => "CharStorage",
        Kind::Uint8 => "ByteStorage",
        Kind::Bool => "BoolStorage",
        other => {
            let expected = "f32, f16, bf16, integers or flags";
            return Err(Error::invalid(format!("type of {name}"), expected, format!("{other:?}")));
        }
    })
}

fn contiguous_strides(shape: &[i64]) -> Vec<i64> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}
