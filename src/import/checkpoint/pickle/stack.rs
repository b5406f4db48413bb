//! Stack operations of the pickle machine.

use super::machine::Machine;
use super::value::{Place, Value};
use crate::error::CheckpointError;

impl Machine<'_> {
    pub(super) fn push(&mut self, value: Value) {
        self.stack.push(Place(self.values.len()));
        self.values.push(value);
    }

    /// Pushes a value that exists already.
    pub(super) fn push_again(&mut self, place: Place) {
        self.stack.push(place);
    }

    /// Returns the number of values above the last mark; only these may be popped.
    fn height(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Place, CheckpointError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    pub(super) fn top(&self) -> Result<Place, CheckpointError> {
        match self.stack.last() {
            Some(&top) if self.height() > 0 => Ok(top),
            _ => Err(self.malformed("a value on the stack", "none")),
        }
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<Place>, CheckpointError> {
        match self.height() {
            height if height >= count => Ok(self.stack.split_off(self.stack.len() - count)),
            height => Err(self.malformed("more values on the stack", height)),
        }
    }

    pub(super) fn pop_to_mark(&mut self) -> Result<Vec<Place>, CheckpointError> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.malformed("a mark on the stack", "none")),
        }
    }
}
