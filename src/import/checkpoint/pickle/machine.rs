//! The stack machine that executes the opcodes of a pickle.

use super::cursor::Cursor;
use super::opcode as op;
use super::value::{Place, Value};
use crate::error::CheckpointError;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Limit on the bytes of a global's module and name.
const MAX_NAME: usize = 255;

/// State of the machine.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    cursor: Cursor<'a>,
    pub(super) values: Vec<Value>,
    pub(super) stack: Vec<Place>,
    /// Heights of the stack at the open marks.
    pub(super) marks: Vec<usize>,
    memo: BTreeMap<u64, Place>,
    /// Tensors rebuilt so far.
    pub(super) tensors: u64,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let cursor = Cursor::new(bytes);
        let (values, stack, marks, memo) = (vec![], vec![], vec![], BTreeMap::new());
        Self { cursor, values, stack, marks, memo, tensors: 0 }
    }

    /// Executes all opcodes; returns all values, and the place of the pickle's result.
    pub(super) fn run(mut self) -> Result<(Vec<Value>, Place), CheckpointError> {
        loop {
            let offset = self.cursor.offset();
            match self.cursor.unsigned(1)? as u8 {
                op::STOP => {
                    let root = self.pop()?;
                    return Ok((self.values, root));
                }
                opcode => {
                    let known = self.scalar(opcode)?
                        || self.text(opcode)?
                        || self.container(opcode)?
                        || self.bookkeeping(opcode)?
                        || self.memory(opcode)?
                        || self.code(opcode)?;
                    if !known {
                        return Err(CheckpointError::Opcode { opcode, offset });
                    }
                }
            }
        }
    }

    fn scalar(&mut self, opcode: u8) -> Result<bool, CheckpointError> {
        let value = match opcode {
            op::NONE => Value::Other("None"),
            op::NEWTRUE | op::NEWFALSE => Value::Bool(opcode == op::NEWTRUE),
            op::BININT => Value::Int(i64::from(self.cursor.unsigned(4)? as u32 as i32)),
            op::BININT1 => Value::Int(self.cursor.unsigned(1)? as i64),
            op::BININT2 => Value::Int(self.cursor.unsigned(2)? as i64),
            op::LONG1 => long(self.cursor.counted(1)?),
            op::LONG4 => long(self.cursor.counted(4)?),
            op::BINFLOAT => {
                self.cursor.take(8)?;
                Value::Other("a float")
            }
            _ => return Ok(false),
        };
        self.push(value);
        Ok(true)
    }

    fn text(&mut self, opcode: u8) -> Result<bool, CheckpointError> {
        let (width, is_text) = match opcode {
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => (1, true),
            op::BINUNICODE | op::BINSTRING => (4, true),
            op::BINUNICODE8 => (8, true),
            op::SHORT_BINBYTES => (1, false),
            op::BINBYTES => (4, false),
            op::BINBYTES8 | op::BYTEARRAY8 => (8, false),
            _ => return Ok(false),
        };
        let bytes = self.cursor.counted(width)?;
        let value = match std::str::from_utf8(bytes) {
            Ok(text) if is_text => Value::Text(text.into()),
            // Python writes surrogates for a path that is not in UTF-8.
            Err(_) if is_text => Value::Other("a string that is not in UTF-8"),
            _ => Value::Other("bytes"),
        };
        self.push(value);
        Ok(true)
    }

    fn container(&mut self, opcode: u8) -> Result<bool, CheckpointError> {
        match opcode {
            op::EMPTY_TUPLE => self.push(Value::Tuple(vec![])),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let items = self.pop_many(usize::from(opcode - op::TUPLE1) + 1)?;
                self.push(Value::Tuple(items));
            }
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            op::EMPTY_LIST => self.push(Value::Other("a list")),
            op::EMPTY_SET => self.push(Value::Other("a set")),
            op::EMPTY_DICT => self.push(Value::Dict(vec![])),
            op::FROZENSET => {
                self.pop_to_mark()?;
                self.push(Value::Other("a set"));
            }
            // No state dict of tensors needs a list or a set: their items are dropped.
            op::APPEND => {
                self.pop()?;
            }
            op::APPENDS | op::ADDITEMS => {
                self.pop_to_mark()?;
            }
            op::SETITEM => {
                let item = self.pop_many(2)?;
                self.set_items(&item)?;
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_items(&mut self, items: &[Place]) -> Result<(), CheckpointError> {
        let pairs = items.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(self.malformed("pairs of key and value", "a key alone"));
        }
        let place = self.top()?;
        // Anything else is an object such as a defaultdict, whose items are not recorded.
        if let Some(Value::Dict(entries)) = self.values.get_mut(place.0) {
            entries.extend(pairs.map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn bookkeeping(&mut self, opcode: u8) -> Result<bool, CheckpointError> {
        match opcode {
            op::PROTO => {
                let version = self.cursor.unsigned(1)?;
                if !(2..=5).contains(&version) {
                    return Err(self.malformed("protocol 2 to 5", version));
                }
            }
            op::FRAME => {
                self.cursor.take(8)?;
            }
            op::MARK => self.marks.push(self.stack.len()),
            op::POP => {
                self.pop()?;
            }
            op::POP_MARK => {
                self.pop_to_mark()?;
            }
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn memory(&mut self, opcode: u8) -> Result<bool, CheckpointError> {
        match opcode {
            op::BINPUT | op::LONG_BINPUT => {
                let key = self.cursor.unsigned(if opcode == op::BINPUT { 1 } else { 4 })?;
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            op::MEMOIZE => {
                let top = self.top()?;
                self.memo.insert(self.memo.len() as u64, top);
            }
            op::BINGET | op::LONG_BINGET => {
                let key = self.cursor.unsigned(if opcode == op::BINGET { 1 } else { 4 })?;
                match self.memo.get(&key) {
                    Some(&place) => self.stack.push(place),
                    None => return Err(self.malformed("a memoised value", key)),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn code(&mut self, opcode: u8) -> Result<bool, CheckpointError> {
        match opcode {
            op::GLOBAL => {
                let (module, name) = (self.cursor.line()?, self.cursor.line()?);
                let (module, name) = (self.utf8(module)?, self.utf8(name)?);
                self.global(&module, &name)?;
            }
            op::STACK_GLOBAL => {
                let parts = self.pop_many(2)?;
                match self.text_at(parts[0]).zip(self.text_at(parts[1])) {
                    Some((module, name)) => self.global(&module, &name)?,
                    None => return Err(self.malformed("the name of a global", "something else")),
                }
            }
            op::REDUCE | op::NEWOBJ => {
                let parts = self.pop_many(2)?;
                self.call(parts[0], parts[1])?;
            }
            op::NEWOBJ_EX => {
                let parts = self.pop_many(3)?;
                self.call(parts[0], parts[1])?;
            }
            // The attributes of an object. Those of a tensor could replace its values; torch.save
            // writes none.
            op::BUILD => {
                self.pop()?;
                let object = self.top()?;
                if matches!(self.values.get(object.0), Some(Value::Tensor(_))) {
                    return Err(self.malformed("an object with attributes", "a tensor with them"));
                }
            }
            op::BINPERSID => {
                let id = self.pop()?;
                self.persistent(id)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), CheckpointError> {
        // A pickle can refer to the same two strings any number of times.
        let length = module.len().saturating_add(name.len());
        if length > MAX_NAME {
            return Err(self.malformed("the name of a global, of at most 255 bytes", length));
        }
        self.push(Value::Global(format!("{module}.{name}").into()));
        Ok(())
    }

    pub(super) fn text_at(&self, place: Place) -> Option<Rc<str>> {
        match self.values.get(place.0) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn utf8(&self, bytes: &[u8]) -> Result<Rc<str>, CheckpointError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(self.malformed("UTF-8", error)),
        }
    }

    pub(super) fn malformed(
        &self,
        expected: &'static str,
        found: impl ToString,
    ) -> CheckpointError {
        CheckpointError::Pickle { offset: self.cursor.offset(), expected, found: found.to_string() }
    }
}

/// Decodes a signed little-endian integer of any length. Sizes fit 64 bits; a random seed may not.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Other("a large integer");
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let start = if negative { -1 } else { 0 };
    Value::Int(bytes.iter().rev().fold(start, |number, &byte| number << 8 | i64::from(byte)))
}
