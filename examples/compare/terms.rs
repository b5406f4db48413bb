//! Terms of a row: everything its numbers depend on. Rows of other terms are not comparable.

use crate::methods::Named;
use crate::trial::{AnyError, Bench};
use once_for_both::pipeline::{overlay, parse_setting};
use once_for_both::search::SearchOptions;
use once_for_both::supernet::Weights;
use once_for_both::Result;
use serde_json::{json, Value};
use tch::{Device, Kind};

impl Bench<'_> {
    /// Everything the numbers of a row depend on, besides method, budget and seed.
    pub fn terms(&self, method: Named, seed: u64) -> Result<Value, AnyError> {
        let options = self.search_options(method, seed)?;
        let searched = method != Named::Scratch;
        Ok(json!({
            "batch": self.options.batch,
            "components": searched.then(|| method.components().ids()),
            "curve": self.options.curve,
            "data": self.data_terms(),
            "dense": searched.then(|| self.checksum.clone()),
            "network": self.network,
            "options": options,
            "plain_interval": self.options.plain_interval,
        }))
    }

    /// The options of a method, with those of `--set`.
    pub fn search_options(&self, method: Named, seed: u64) -> Result<SearchOptions, AnyError> {
        let options = method.options(self.options, seed);
        if method == Named::Scratch {
            return Ok(options);
        }
        let mut all = serde_json::to_value(&options)?;
        for setting in &self.options.settings {
            overlay(&mut all, parse_setting(setting)?.into(), "options")?;
        }
        Ok(serde_json::from_value(all)?)
    }

    /// The images by number and pixel statistics, wherever they are stored.
    fn data_terms(&self) -> Value {
        let normalisation = self.feed.normalisation();
        let pixels = normalisation.mean.iter().chain(&normalisation.std);
        json!({
            "train": self.feed.train_images(),
            "judge": self.feed.test_images(),
            "validate": self.options.validate,
            "pixels": pixels.map(|value| format!("{value:.5}")).collect::<Vec<_>>(),
        })
    }
}

/// Returns the checksum of weights and their names.
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
