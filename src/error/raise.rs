//! How errors are made, and shapes checked.

use super::{Error, Result};
use std::path::PathBuf;
use tch::TchError;

/// Returns an error with its causes, in one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

impl From<TchError> for Error {
    fn from(source: TchError) -> Self {
        Self::Torch { operation: "a tensor operation".into(), source: plain(source) }
    }
}

impl Error {
    pub(crate) fn invalid(
        name: impl Into<String>,
        expected: impl Into<String>,
        actual: impl ToString,
    ) -> Self {
        Self::Invalid { name: name.into(), expected: expected.into(), actual: actual.to_string() }
    }

    /// [`Error::Unknown`]: `name` is not among `known`.
    pub(crate) fn unknown<'a>(
        kind: &'static str,
        name: impl Into<String>,
        known: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        const LISTED: usize = 20;
        let mut names = known.into_iter().map(String::as_str);
        let mut listed: Vec<&str> = names.by_ref().take(LISTED).collect();
        let more = match names.count() {
            0 => String::new(),
            rest => format!(", and {rest} more"),
        };
        if listed.is_empty() {
            listed.push("none");
        }
        Self::Unknown { kind, name: name.into(), known: listed.join(", ") + &more }
    }

    /// [`Error::Missing`]: there is no `name`.
    pub(crate) fn missing(kind: &'static str, name: impl Into<String>) -> Self {
        Self::Missing { kind, name: name.into() }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: std::io::Error,
    ) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::File { path: path.into(), reason: without_stack(reason.to_string()) }
    }

    /// The error of an option of the section `section`: its name gets the section in front.
    #[cfg(feature = "pipeline")]
    pub(crate) fn of_section(self, section: &str) -> Self {
        match self {
            Self::Invalid { name, expected, actual } => {
                Self::Invalid { name: format!("{section}.{name}"), expected, actual }
            }
            other => other,
        }
    }
}

/// Returns libtorch's error without the stack of C++ functions that it ends with.
pub(crate) fn plain(error: TchError) -> TchError {
    match error {
        TchError::Torch(text) => TchError::Torch(without_stack(text)),
        other => other,
    }
}

fn without_stack(text: String) -> String {
    match text.find("\nException raised from").or_else(|| text.find("\nframe #")) {
        Some(end) => text[..end].trim_end().to_string(),
        None => text,
    }
}

/// Says what is not finite after so many skipped steps in a row.
pub(super) fn not_finite(in_a_row: u64) -> String {
    match in_a_row {
        0 => "logits of the trained network are".into(),
        steps => format!("losses or gradients of {steps} steps in a row were"),
    }
}

/// Names what was not finite first.
pub(super) fn first_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(", at the first of them: {}", names.join(", ")),
    }
}

/// Says what the crate was doing when libtorch failed.
pub(crate) trait During<T> {
    /// Names the operation of a libtorch error.
    fn during(self, operation: impl Into<String>) -> Result<T>;
}

impl<T> During<T> for Result<T> {
    fn during(self, operation: impl Into<String>) -> Result<T> {
        self.map_err(|error| match error {
            Error::Torch { source, .. } => Error::Torch { operation: operation.into(), source },
            other => other,
        })
    }
}

/// Checks a tensor's shape.
pub(crate) fn expect_shape(
    operation: &'static str,
    name: &str,
    tensor: &tch::Tensor,
    expected: &[i64],
) -> Result<()> {
    let actual = tensor.size();
    if actual == expected {
        return Ok(());
    }
    Err(Error::Shape { operation, name: name.into(), expected: expected.to_vec(), actual })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn error_of_libtorch_has_its_message_without_the_stack() {
        let ones = |length| Tensor::ones([length], (Kind::Float, Device::Cpu));
        let failed = ones(3).f_add(&ones(2)).map(drop);
        let error = failed.map_err(Error::from).err();
        let text = error.as_ref().and_then(|error| error.source()).map(ToString::to_string);
        let text = text.unwrap_or_default();
        assert!(text.contains("must match the size of tensor b"), "{text}");
        assert!(!text.contains("frame #") && !text.contains("Exception raised"), "{text}");
        let path = Error::file("weights", "damaged\nException raised from read at file.cpp:7");
        assert_eq!(path.to_string(), "weights: damaged");
    }
}
