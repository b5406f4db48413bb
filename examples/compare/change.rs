//! Ablations: one option changed alone, all others as they are.

use crate::protocol::Protocol;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An option and its values, `NAME=VALUE,VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ablation {
    name: String,
    values: Vec<String>,
}

/// One option at one of its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    pub value: String,
}

impl FromStr for Ablation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected NAME=VALUE,VALUE, such as budget.weight=0.2,1,5";
        let Some((name, values)) = text.split_once('=') else {
            return Err(format!("got no =, {expected}"));
        };
        let values: Vec<String> = values.split(',').map(|value| value.trim().into()).collect();
        match name.trim().is_empty() || values.iter().any(String::is_empty) {
            true => Err(format!("got an empty name or value, {expected}")),
            false => Ok(Self { name: name.trim().into(), values }),
        }
    }
}

impl Ablation {
    /// Returns the option at each of its values.
    pub fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let change = |value: &String| Change { name: self.name.clone(), value: value.clone() };
        self.values.iter().map(change)
    }
}

impl Change {
    /// Returns the protocol with the option at this value.
    pub fn apply(&self, protocol: &Protocol) -> Result<Protocol, String> {
        let mut changed = protocol.clone();
        match self.name.as_str() {
            "loss_scale" => changed.loss_scale = self.parsed("a positive factor")?,
            "search_steps" => changed.search_steps = self.parsed("a number of steps")?,
            "least_hidden" => changed.least_hidden = Some(self.parsed("a share in [0, 1]")?),
            "depth" => changed.depth = self.parsed("true or false")?,
            "order" => changed.order = Some(self.parsed("the number of an order")?),
            "teacher" if self.value == "off" => changed.distil = Some(0.0),
            "teacher" => changed.distil = Some(self.parsed("off, or a weight in [0, 1]")?),
            _ => changed.settings.push(self.to_string()),
        }
        changed.checked().map_err(|error| format!("--ablate {self}: {error}"))
    }

    fn parsed<T: FromStr>(&self, expected: &str) -> Result<T, String> {
        let refused =
            |_| format!("--ablate {}: got {}, expected {expected}", self.name, self.value);
        self.value.parse().map_err(refused)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}={}", self.name, self.value)
    }
}
