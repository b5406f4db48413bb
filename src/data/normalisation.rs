//! Normalisation of pixel values.

use crate::range::{Range, SHARE};
use crate::transfer::{pinned, to_device};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Standard deviations that pixels in [0, 1] are divided by.
pub(super) const STD: Range<f64> = Range::closed(1e-6, 1e6);

/// Normalisation (x − mean) / std of values x in [0, 1], per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Mean of each channel, in [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, in [1e-6, 1e6].
    pub std: Vec<f64>,
}

impl Normalisation {
    /// ImageNet's mean and standard deviation.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Mean colour in 0..=255, one value a channel.
    pub fn mean_colour(&self) -> Vec<u8> {
        self.mean.iter().map(|mean| (mean * 255.0).round_ties_even() as u8).collect()
    }

    /// Lookup tables from a byte to its normalised value, one a channel.
    #[cfg(feature = "data")]
    pub(super) fn tables(&self) -> Vec<[f32; 256]> {
        let table = |(mean, std): (&f64, &f64)| {
            std::array::from_fn(|byte| ((byte as f64 / 255.0 - mean) / std) as f32)
        };
        self.mean.iter().zip(&self.std).map(table).collect()
    }

    /// Returns a normalised batch, on the device of `images`.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`, u8; result: `[B, C, H, W]`, f32.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate) for the channels of `images`; [`Error::Torch`] if `images` has other
    /// axes or the device is out of memory.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let (_, channels, ..) = images.size4()?;
        self.validate(usize::try_from(channels).unwrap_or(0))?;
        self.on(images.device())?.apply(images)
    }

    /// Returns the normalisation with its numbers on a device, for many batches.
    pub(super) fn on(&self, device: Device) -> Result<DeviceNormalisation> {
        let per_channel = |of: &dyn Fn(f64, f64) -> f64| -> Result<Tensor> {
            let values: Vec<f32> =
                self.mean.iter().zip(&self.std).map(|(m, s)| of(*m, *s) as f32).collect();
            let shaped = Tensor::f_from_slice(&values)?.f_view([1, -1, 1, 1])?;
            to_device(&pinned(shaped, device)?, device)
        };
        Ok(DeviceNormalisation {
            scale: per_channel(&|_, std| 1.0 / (255.0 * std))?,
            shift: per_channel(&|mean, std| -mean / std)?,
        })
    }

    /// Checks that each channel has a mean in [0, 1] and a standard deviation in [1e-6, 1e6].
    ///
    /// # Errors
    /// [`Error::Invalid`] otherwise.
    pub fn validate(&self, channels: usize) -> Result<()> {
        for (name, values, range) in
            [("normalisation.mean", &self.mean, SHARE), ("normalisation.std", &self.std, STD)]
        {
            if values.len() != channels {
                let expected = format!("{channels}, one a channel of the images");
                return Err(Error::invalid(format!("values of {name}"), expected, values.len()));
            }
            values.iter().try_for_each(|&value| range.check(name, value))?;
        }
        Ok(())
    }
}

/// Normalisation of bytes on a device: byte·scale + shift.
#[derive(Debug)]
pub(super) struct DeviceNormalisation {
    /// 1 / (255·std), `[1, C, 1, 1]`, f32.
    scale: Tensor,
    /// −mean / std, `[1, C, 1, 1]`, f32.
    shift: Tensor,
}

impl DeviceNormalisation {
    /// [`Normalisation::apply`] for images on the same device.
    pub(super) fn apply(&self, images: &Tensor) -> Result<Tensor> {
        // In place: one pass over a batch that is larger than the caches.
        let values = images.f_to_kind(Kind::Float)?;
        Ok(self.shift.f_addcmul_out(&values, &values, &self.scale)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apply_to_images_of_other_channels_is_refused_with_both_numbers() -> Result<()> {
        let images = |channels| Tensor::f_zeros([1, channels, 2, 2], (Kind::Uint8, Device::Cpu));
        let grey = Normalisation { mean: vec![0.5], std: vec![0.5] };
        let mixed = Normalisation { std: vec![0.5], ..Normalisation::imagenet() };
        for (normalisation, channels, name, found) in [
            (grey, 3, "values of normalisation.mean", "1"),
            (mixed, 3, "values of normalisation.std", "1"),
            (Normalisation::imagenet(), 1, "values of normalisation.mean", "3"),
        ] {
            let refused =
                normalisation.apply(&images(channels)?).map_err(|error| error.to_string());
            let expected =
                format!("{name}: got {found}, expected {channels}, one a channel of the images");
            assert_eq!(refused, Err(expected));
        }
        assert_eq!(Normalisation::imagenet().apply(&images(3)?)?.size(), [1, 3, 2, 2]);
        Ok(())
    }
}
