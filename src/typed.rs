//! Text read into types: an error names the field, and the type that it has in words.

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;
use std::fmt;

/// Types of Rust as serde names them, in words.
const TYPES: [(&str, &str); 19] = [
    ("i8", "an integer"),
    ("i16", "an integer"),
    ("i32", "an integer"),
    ("i64", "an integer"),
    ("isize", "an integer"),
    ("u8", "an integer from 0"),
    ("u16", "an integer from 0"),
    ("u32", "an integer from 0"),
    ("u64", "an integer from 0"),
    ("usize", "an integer from 0"),
    ("f32", "a number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("a map", "a table"),
    ("unit", "nothing"),
    ("path string", "a path"),
    ("string or map", "a word or a table"),
    ("string only", "a word"),
];

/// Kinds of types of Rust that are followed by a name.
const NAMED: [(&str, &str); 5] = [
    ("struct ", "a table"),
    ("tuple struct ", "a list"),
    ("internally tagged enum ", "a table"),
    ("adjacently tagged enum ", "a table"),
    ("enum ", "a word or a table"),
];

/// Beginnings of serde's messages about a value.
const VALUES: [(&str, &str); 3] =
    [("invalid type: ", ""), ("invalid value: ", ""), ("invalid length ", "length ")];

/// Words of serde for a value, which is between backticks or in quotes.
const FOUND: [(&str, &str); 8] = [
    ("integer `", ""),
    ("floating point `", ""),
    ("boolean `", ""),
    ("character `", ""),
    ("string \"", "\""),
    ("sequence", "a list"),
    ("map", "a table"),
    ("unit value", "nothing"),
];

/// Field that is missing, unknown, or has another type.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Dotted name of the field; empty for the whole.
    path: String,
    reason: String,
}

impl Fault {
    fn of(error: serde_path_to_error::Error<impl fmt::Display>) -> Self {
        let path = error.path().to_string();
        Self {
            path: if path == "." { String::new() } else { path },
            reason: in_words(&error.inner().to_string()),
        }
    }

    /// Returns the name of the field within `under`.
    #[cfg(feature = "pipeline")]
    pub(crate) fn name(&self, under: &str) -> String {
        match self.path.as_str() {
            "" => under.into(),
            path => format!("{under}.{path}"),
        }
    }

    /// The message, without the name of the field.
    #[cfg(feature = "pipeline")]
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => formatter.write_str(&self.reason),
            path => write!(formatter, "{path}: {}", self.reason),
        }
    }
}

impl From<Fault> for serde_json::Error {
    fn from(fault: Fault) -> Self {
        Self::custom(fault)
    }
}

/// Reads a type with any deserialiser.
pub(crate) fn read<'de, T: DeserializeOwned, D>(deserializer: D) -> Result<T, Fault>
where
    D: Deserializer<'de>,
    D::Error: fmt::Display,
{
    serde_path_to_error::deserialize(deserializer).map_err(Fault::of)
}

/// Reads a type from JSON text.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Fault> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = read(&mut deserializer)?;
    let rest = deserializer.end();
    rest.map_err(|error| Fault { path: String::new(), reason: error.to_string() })?;
    Ok(read)
}

/// Reads a type from parsed JSON.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    read(value)
}

/// Replaces names of Rust's types in a message of serde; its last line may be one of several.
fn in_words(message: &str) -> String {
    let start = message.trim_end().rfind('\n').map_or(0, |at| at + 1);
    let (lines, message) = message.split_at(start);
    let value =
        VALUES.iter().find_map(|(begins, word)| Some((message.strip_prefix(begins)?, word)));
    let Some((value, word)) = value else { return format!("{lines}{message}") };
    let Some((found, expected)) = value.rsplit_once(", expected ") else {
        return format!("{lines}{message}");
    };
    let end = [" at line ", "\n"].iter().filter_map(|end| expected.find(end)).min();
    let (expected, end) = expected.split_at(end.unwrap_or(expected.len()));
    format!("{lines}got {word}{}, expected {}{end}", found_in_words(found), type_in_words(expected))
}

fn found_in_words(found: &str) -> String {
    let known = FOUND.iter().find_map(|(serde, word)| Some((found.strip_prefix(serde)?, word)));
    known.map_or_else(
        || found.into(),
        |(rest, word)| format!("{word}{}", rest.trim_end_matches('`')),
    )
}

fn type_in_words(expected: &str) -> &str {
    let exact = TYPES.iter().find(|(serde, _)| *serde == expected);
    let named = || NAMED.iter().find(|(serde, _)| expected.starts_with(serde));
    exact.or_else(named).map_or(expected, |(_, words)| words)
}

/// Path and both values of the first difference of two JSON values.
pub(crate) fn first_difference(
    name: &str,
    left: &Value,
    right: &Value,
) -> (String, String, String) {
    if let (Value::Array(left), Value::Array(right)) = (left, right) {
        let pairs = left.iter().zip(right).enumerate();
        if let Some((at, (own, other))) = pairs.into_iter().find(|(_, (own, other))| own != other) {
            return first_difference(&format!("{name}.{at}"), own, other);
        }
    }
    if let (Value::Object(left), Value::Object(right)) = (left, right) {
        for (key, own) in left {
            let other = right.get(key).unwrap_or(&Value::Null);
            if own != other {
                return first_difference(&format!("{name}.{key}"), own, other);
            }
        }
    }
    (name.into(), left.to_string(), right.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::SearchOptions;

    fn refused(pointer: &str, value: impl Into<Value>) -> String {
        let mut json = serde_json::to_value(SearchOptions::new(4, 2)).unwrap_or_default();
        if let Some(field) = json.pointer_mut(pointer) {
            *field = value.into();
        }
        from_value::<SearchOptions>(json).err().map(|fault| fault.to_string()).unwrap_or_default()
    }

    #[test]
    fn field_of_another_type_is_refused_by_its_path_without_a_type_of_rust() {
        for (pointer, value, message) in [
            ("/seed", Value::from("x"), "seed: got \"x\", expected an integer from 0"),
            (
                "/pruning/fade_out_steps",
                (-1).into(),
                "pruning.fade_out_steps: got -1, expected an integer from 0",
            ),
            ("/training/ema_decay", "x".into(), "training.ema_decay: got \"x\", expected a number"),
            (
                "/optimiser/clip_norm",
                vec![1e300].into(),
                "optimiser.clip_norm: got a list, expected a number",
            ),
            ("/one_hot", 1.into(), "one_hot: got 1, expected a table"),
            ("/training/precision", 1.5.into(), "training.precision: got 1.5"),
        ] {
            let refused = refused(pointer, value);
            assert!(refused.starts_with(message), "{refused}");
        }
    }

    #[test]
    fn json_text_of_another_type_is_refused_by_its_path_and_line() {
        let refused = from_json::<Vec<u64>>(b"[1, true]").err().map(|fault| fault.to_string());
        let expected = "[1]: got true, expected an integer from 0 at line 1 column 8";
        assert_eq!(refused.as_deref(), Some(expected));
        assert!(from_json::<Vec<u64>>(b"[1] 2").is_err());
    }
}
