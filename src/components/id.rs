//! Id of a component: its name and its parameters.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Name and parameters of a component.
///
/// A checkpoint stores the id of every component; a resume with a component of another id is
/// refused.
///
/// ```
/// use once_for_both::components::ComponentId;
///
/// let id = ComponentId::new("fisher").with("momentum", 0.9);
/// assert_eq!(id.to_string(), "fisher {momentum: 0.9}");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentId {
    /// Name of the component.
    pub name: String,
    /// Parameters by name; `name` is no name of one.
    #[serde(flatten)]
    pub parameters: BTreeMap<String, Value>,
}

impl ComponentId {
    /// Parameter of a teacher: checksum of its weights.
    pub(crate) const CHECKSUM: &str = "checksum";

    /// Creates an id without parameters.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), parameters: BTreeMap::new() }
    }

    /// Adds a parameter.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Whether this teacher is the one that a search began with. A search of an earlier version has saved no checksum, and
    /// may have saved the run folder with the network.
    pub(crate) fn is_teacher(&self, saved: &Self) -> bool {
        if saved.parameters.contains_key(Self::CHECKSUM) {
            return self == saved;
        }
        let mut own = self.clone();
        if own.parameters.remove(Self::CHECKSUM).is_none() {
            return own == *saved;
        }
        let path =
            |id: &Self| id.parameters.get("network").and_then(Value::as_str).map(PathBuf::from);
        let (network, folder) = (path(&own), path(saved));
        own.name == saved.name
            && network.zip(folder).is_some_and(|(network, folder)| network.starts_with(folder))
    }
}

impl From<&str> for ComponentId {
    /// An id without parameters.
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.name)?;
        if self.parameters.is_empty() {
            return Ok(());
        }
        let parameters = self.parameters.iter().map(|(name, value)| format!("{name}: {value}"));
        write!(formatter, " {{{}}}", parameters.collect::<Vec<_>>().join(", "))
    }
}
