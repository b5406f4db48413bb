//! What a row was measured on: rows of other terms are not comparable.

use crate::data::Data;
use crate::methods::Named;
use crate::settings;
use crate::trial::{AnyError, Bench};
use crate::Options;
use once_for_both::search::SearchOptions;
use once_for_both::supernet::Weights;
use once_for_both::Result;
use serde_json::{json, Value};
use tch::{Device, Kind};

impl Bench<'_> {
    /// All that the numbers of a row depend on, besides method, budget and seed.
    pub fn terms(&self, method: Named, seed: u64) -> Result<Value, AnyError> {
        let options = self.search_options(method, seed)?;
        // From nothing: the dense network's weights have no part in it.
        let start = match method {
            Named::Scratch => Value::Null,
            _ => self.checksum.clone().into(),
        };
        Ok(json!({
            "batch": self.options.batch,
            "data": of_data(&self.data, self.options),
            "dense": start,
            "network": self.network,
            "options": options,
            "plain_interval": self.options.plain_interval,
        }))
    }

    /// The resolved options of a method.
    pub fn search_options(&self, method: Named, seed: u64) -> Result<SearchOptions, AnyError> {
        let options = method.options(self.options, seed);
        Ok(match method {
            Named::Scratch => options,
            _ => settings::apply(options, &self.options.settings)?,
        })
    }
}

/// The images by their number and pixels, wherever they lie.
pub fn of_data(data: &Data, options: &Options) -> Value {
    json!({
        "train": data.train.len(),
        "judge": data.judge.len(),
        "validate": options.validate,
        "pixels": data.pixels.map(|value| format!("{value:.5}")),
    })
}

/// Checksum of weights and their names.
pub fn checksum(weights: &Weights) -> Result<String> {
    let mut sum = 0;
    for (name, weight) in weights {
        sum = crc32c::crc32c_append(sum, name.as_bytes());
        let values = weight.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
        for value in Vec::<f32>::try_from(values)? {
            sum = crc32c::crc32c_append(sum, &value.to_le_bytes());
        }
    }
    Ok(format!("{sum:08x}"))
}
