//! The pickle of a module tree, in the few instructions (protocol 2) that TorchScript reads.

use super::code::class;
use super::modules::Module;
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// An empty tuple: the weights are parameters, there are no other constants.
pub(super) const NO_CONSTANTS: &[u8] = b"\x80\x02).";

/// The tree with its parameters; tensor `n` of `weights` is in the storage `n`.
pub(super) fn module(root: &Module, weights: &Weights) -> Result<Vec<u8>> {
    let tensors: Vec<&Tensor> = weights.values().collect();
    let mut pickle = Pickle(vec![0x80, 2]);
    pickle.object(root, &tensors)?;
    pickle.0.push(b'.');
    Ok(pickle.0)
}

struct Pickle(Vec<u8>);

impl Pickle {
    /// An object of the module's class whose attributes are a dict.
    fn object(&mut self, module: &Module, tensors: &[&Tensor]) -> Result<()> {
        self.global("__torch__", &class(module));
        self.0.extend(b")\x81}("); // empty tuple, new object, empty dict, mark
        self.text("training");
        self.bool(false);
        for (name, place) in &module.parameters {
            self.text(name);
            self.tensor(*place, tensors[*place])?;
        }
        for (name, child) in &module.children {
            self.text(name);
            self.object(child, tensors)?;
        }
        self.0.extend(b"ub"); // set items since the mark, build
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&mut self, key: usize, tensor: &Tensor) -> Result<()> {
        let shape = tensor.size();
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", storage_type(tensor.f_kind()?)?);
        self.text(&key.to_string());
        self.text("cpu");
        self.integer(tensor.numel() as i64);
        self.0.extend(b"tQ"); // tuple, persistent id
        self.integer(0);
        self.integers(&shape);
        self.integers(&contiguous_strides(&shape));
        self.bool(false);
        self.global("collections", "OrderedDict");
        self.0.extend(b")RtR"); // called with nothing; all of it as arguments
        Ok(())
    }

    fn integers(&mut self, values: &[i64]) {
        self.0.push(b'(');
        values.iter().for_each(|&value| self.integer(value));
        self.0.push(b't');
    }

    /// BININT, or LONG1 where 32 bits are too few.
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
        // Parts of names and keys: never near 4 GB.
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

fn storage_type(kind: Kind) -> Result<&'static str> {
    match kind {
        Kind::Float => Ok("FloatStorage"),
        Kind::Half => Ok("HalfStorage"),
        Kind::BFloat16 => Ok("BFloat16Storage"),
        other => Err(Error::invalid("type of a weight", "f32, f16 or bf16", format!("{other:?}"))),
    }
}

fn contiguous_strides(shape: &[i64]) -> Vec<i64> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}
