//! The measured networks.

use crate::options::Options;
use crate::AnyError;
use once_for_both::batch::Batch;
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::space::Size;
use once_for_both::Result;
use tch::{Device, Kind, Tensor};

/// Network, batch sizes and repetitions.
pub struct Plan {
    /// DeiT-S at 224².
    pub dense: VitConfig,
    /// Images of a training step.
    pub batch: i64,
    /// Consecutive steps or calls that one time is taken of, so that the host may run ahead of the device.
    pub burst: usize,
    /// Times that a median is taken of.
    pub rounds: usize,
    /// Batch sizes of the latencies.
    pub latency_batches: [i64; 2],
    /// What everything is measured in.
    pub precisions: Vec<Precision>,
    /// Shares of the dense MACs of the subnets.
    pub shares: Vec<f64>,
}

impl Plan {
    /// Returns what is measured with these options.
    pub fn of(options: &Options) -> Self {
        if options.quick {
            let dense = VitConfig::uniform(32, 2, 2).input(32, 3, 8).classes(10);
            return Self {
                dense,
                batch: 2,
                burst: 1,
                rounds: 1,
                latency_batches: [1, 2],
                precisions: vec![Precision::Bf16],
                shares: vec![0.5],
            };
        }
        Self {
            dense: VitConfig::deit_small(),
            batch: options.batch,
            burst: 8,
            rounds: 3,
            latency_batches: [1, 64],
            precisions: vec![Precision::F32, Precision::Bf16],
            shares: vec![0.7, 0.5, 0.3],
        }
    }

    /// Returns random images and classes.
    pub fn training_batch(&self, device: Device) -> Result<Batch> {
        let classes = [self.batch];
        let classes = Tensor::f_randint(self.dense.classes, classes, (Kind::Int64, device))?;
        Ok(Batch::classes(self.images(self.batch, device)?, classes))
    }

    /// Returns random images.
    pub fn images(&self, count: i64, device: Device) -> Result<Tensor> {
        let side = self.dense.image_size;
        Ok(Tensor::f_randn([count, self.dense.in_channels, side, side], (Kind::Float, device))?)
    }

    /// Returns the largest network within a share of the dense MACs whose dimensions have, all heads kept, the
    /// largest candidate up to one share of their width; and its share of the MACs.
    pub fn subnet(&self, share: f64) -> std::result::Result<(VitConfig, f64), AnyError> {
        let (space, model) = (self.dense.space()?, self.dense.cost_model());
        let most = model.dense_cost(Metric::Macs)?;
        for percent in (1..=100).rev() {
            let largest = |full: Size, sizes: &mut dyn Iterator<Item = Size>| {
                let narrow = |size: &Size| {
                    size.heads == full.heads && size.channels * 100 <= percent * full.channels
                };
                sizes.filter(narrow).max_by_key(|size| size.channels)
            };
            let sizes = space.dimensions.iter().map(|dimension| {
                let candidates = &dimension.candidates;
                let size = largest(candidates.full(), &mut candidates.sizes())?;
                Some((dimension.name.clone(), size))
            });
            let Some(sizes) = sizes.collect() else { break };
            let macs = model.cost(Metric::Macs, &sizes)? / most;
            if macs <= share {
                return Ok((self.dense.resized(&sizes)?, macs));
            }
        }
        Err(format!("share of the MACs: got no subnet within {share}").into())
    }
}
