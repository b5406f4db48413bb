//! Terms of a row: everything its numbers depend on. Rows of other terms are not comparable.

use crate::bench::Bench;
use crate::family::Compared;
use crate::plan::Run;
use crate::AnyError;
use once_for_both::pipeline::Feed;
use once_for_both::supernet::Weights;
use once_for_both::Result;
use serde_json::{json, Value};
use tch::{Device, Kind};

impl<A: Compared> Bench<A> {
    /// Everything the numbers of a row depend on, besides method, budget, seed and draw.
    pub fn terms(&self, run: &Run) -> Result<Value, AnyError> {
        let (method, protocol) = (run.method, &run.protocol);
        let searched = method.is_searched();
        let mut terms = json!({
            "batch": protocol.batch,
            "components": searched.then(|| method.components().ids()),
            "curve": protocol.curve,
            "data": data(&self.feed, self.validate),
            "dense": searched.then(|| self.checksum.clone()),
            "loss_scale": searched.then_some(protocol.loss_scale),
            "network": self.network,
            "options": run.search_options()?,
            "order": run.order(),
            "plain_interval": protocol.plain_interval,
        });
        if searched && protocol.depth {
            terms["depth"] = true.into();
        }
        if let Some(share) = protocol.least_hidden.filter(|_| searched) {
            terms["least_hidden"] = share.into();
        }
        if let Some(model) = &self.latency {
            let model = serde_json::to_vec(model)?;
            terms["latency"] = format!("{:08x}", crc32c::crc32c(&model)).into();
            terms["limit"] = serde_json::to_value(self.limit)?;
        }
        Ok(terms)
    }
}

/// The images by number and pixel statistics, wherever they are stored.
pub fn data(feed: &Feed, validate: i64) -> Value {
    let normalisation = feed.normalisation();
    let pixels = normalisation.mean.iter().chain(&normalisation.std);
    json!({
        "train": feed.train_images(),
        "judge": feed.test_images(),
        "validate": validate,
        "pixels": pixels.map(|value| format!("{value:.5}")).collect::<Vec<_>>(),
    })
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
