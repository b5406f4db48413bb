//! NLL of every image, in the file of rows.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use half::f16;
use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

/// NLL of every image, in the order of the images.
///
/// In f16, whose rounding (2⁻¹¹ of a value) is far below the spread over images; in JSON the values are
/// base64 of their little-endian bytes. In Python:
/// `numpy.frombuffer(base64.b64decode(row["nll"]), "<f2")`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageNlls(Vec<f16>);

impl ImageNlls {
    /// Returns the values.
    pub fn values(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.0.iter().map(|value| value.to_f64())
    }
}

impl From<Vec<f64>> for ImageNlls {
    fn from(values: Vec<f64>) -> Self {
        Self(values.into_iter().map(f16::from_f64).collect())
    }
}

impl Serialize for ImageNlls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|value| value.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for ImageNlls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = |reason: String| de::Error::custom(format!("nll: {reason}"));
        let bytes = STANDARD.decode(text).map_err(|error| refused(error.to_string()))?;
        let pairs = bytes.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(refused(format!("got {} bytes, expected two an image", bytes.len())));
        }
        Ok(Self(pairs.map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect()))
    }
}
