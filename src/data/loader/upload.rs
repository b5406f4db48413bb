//! A prepared batch is copied to the device and completed there.

use super::batch_buffer::Pixels;
use super::options::LoaderOptions;
use super::worker::PreparedBatch;
use crate::batch::{Batch, Targets};
use crate::data::normalisation::DeviceNormalisation;
use crate::data::transform::{Erased, Rectangle};
use crate::transfer::{pinned, to_device};
use crate::Result;
use tch::{Device, Tensor};

/// Random erasing of a batch.
pub(super) struct Erasing {
    /// Erased rectangle of an image, with the image's index in the batch.
    rectangles: Vec<(usize, Rectangle)>,
    /// Noise of all rectangles, in their order, f32; in pinned memory for CUDA.
    noise: Tensor,
}

impl Erasing {
    /// Returns the erasing of a batch; `None` if nothing is erased.
    pub fn new(erased: Vec<(usize, Erased)>, device: Device) -> Result<Option<Self>> {
        if erased.is_empty() {
            return Ok(None);
        }
        // A single copy for the whole batch.
        let noise: Vec<f32> = erased.iter().flat_map(|(_, one)| &one.noise).copied().collect();
        let noise = pinned(Tensor::f_from_slice(&noise)?, device)?;
        let rectangles = erased.into_iter().map(|(image, one)| (image, one.rectangle)).collect();
        Ok(Some(Self { rectangles, noise }))
    }

    /// Writes the noise into `images`, in place.
    fn apply(&self, images: &Tensor) -> Result<()> {
        let noise = to_device(&self.noise, images.device())?;
        let channels = images.size4()?.1;
        let mut first = 0;
        for (image, rectangle) in &self.rectangles {
            let Rectangle { left, top, width, height } = *rectangle;
            let (width, height) = (width as i64, height as i64);
            let count = channels * height * width;
            let mut target = images
                .f_select(0, *image as i64)?
                .f_narrow(1, top as i64, height)?
                .f_narrow(2, left as i64, width)?;
            target.f_copy_(&noise.f_narrow(0, first, count)?.f_view([channels, height, width])?)?;
            first += count;
        }
        Ok(())
    }
}

/// Copies prepared batches to a device and applies what is left to do there. The host waits for none of it on CUDA.
#[derive(Debug)]
pub(super) struct Upload {
    device: Device,
    normalisation: DeviceNormalisation,
}

impl Upload {
    pub fn new(options: &LoaderOptions, device: Device) -> Result<Self> {
        Ok(Self { device, normalisation: options.normalisation.on(device)? })
    }

    /// Returns the batch on the device, with random erasing and mixing; its data set has `classes` classes.
    pub fn batch(
        &self,
        prepared: PreparedBatch,
        options: &LoaderOptions,
        classes: usize,
    ) -> Result<Batch> {
        let PreparedBatch { images, classes: labels, erasing, mix, .. } = prepared;
        let images = match images {
            Pixels::Normalised(images) => images,
            Pixels::Bytes(bytes) => self.normalisation.apply(&to_device(&bytes, self.device)?)?,
        };
        if let Some(erasing) = erasing {
            erasing.apply(&images)?;
        }
        let images = mix.images(images)?;
        let labels = to_device(&labels, self.device)?;
        let targets = match options.mixing {
            None => Targets::Classes(labels),
            Some(mixing) => {
                let size = options.transform.size();
                mix.targets(&labels, classes, size, mixing.label_smoothing)?
            }
        };
        Ok(Batch { images, targets })
    }
}
