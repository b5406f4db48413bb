//! The images of a batch, one after the other.

use crate::data::{Image, Normalisation};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Images that become one tensor.
pub(super) enum Collected {
    /// For the CPU: normalised while they are in the worker's cache.
    Values(Values),
    /// For other devices: bytes, a quarter of what normalised images take to send.
    Bytes {
        /// Channels first, image after image.
        bytes: Vec<u8>,
        /// `[B, C, S, S]`.
        shape: [i64; 4],
    },
}

/// A finished batch, `[B, C, S, S]` on the CPU.
pub(super) enum Pixels {
    /// f32, for the CPU.
    Normalised(Tensor),
    /// u8, for another device; pinned if that is CUDA.
    Bytes(Tensor),
}

impl Collected {
    /// Room for `count` images of `size` × `size` pixels.
    pub fn new(
        count: usize,
        size: usize,
        normalisation: &Normalisation,
        device: Device,
    ) -> Result<Self> {
        let channels = normalisation.mean.len();
        let shape = [count, channels, size, size].map(|length| length as i64);
        match device {
            Device::Cpu => Ok(Self::Values(Values::new(&shape, normalisation)?)),
            _ => {
                let bytes = Vec::with_capacity(count * channels * size * size);
                Ok(Self::Bytes { bytes, shape })
            }
        }
    }

    /// Adds an image.
    ///
    /// # Panics
    /// If it has another size than the batch, or is one too many.
    pub fn push(&mut self, image: &Image) {
        match self {
            Self::Values(values) => values.push(image),
            Self::Bytes { bytes, .. } => image.append_planes(bytes),
        }
    }

    /// The batch, when it is full.
    pub fn finish(self, device: Device) -> Result<Pixels> {
        match self {
            Self::Values(values) => Ok(Pixels::Normalised(values.batch)),
            Self::Bytes { bytes, shape } => {
                let tensor = Tensor::f_from_data_size(&bytes, &shape, Kind::Uint8)?;
                Ok(Pixels::Bytes(match device {
                    Device::Cuda(_) => tensor.f_pin_memory(device)?,
                    _ => tensor,
                }))
            }
        }
    }
}

/// A batch of normalised images that is filled from its beginning.
pub(super) struct Values {
    /// `[B, C, S, S]`, f32, contiguous, on the CPU.
    batch: Tensor,
    /// Numbers of the batch that are written.
    filled: usize,
    /// What a byte becomes, for every channel.
    tables: Vec<[f32; 256]>,
}

impl Values {
    fn new(shape: &[i64], normalisation: &Normalisation) -> Result<Self> {
        let batch = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
        Ok(Self { batch, filled: 0, tables: normalisation.tables() })
    }

    fn push(&mut self, image: &Image) {
        let count = image.pixels().len();
        let (first, all) = (self.filled, self.batch.numel());
        assert!(first + count <= all, "{count} numbers more than the {all} of the batch");
        // SAFETY: the tensor is f32, contiguous and on the CPU since `new`, nobody else has it
        // yet, and the assertion keeps the slice within it.
        let image_values = unsafe {
            let start = self.batch.data_ptr().cast::<f32>().add(first);
            std::slice::from_raw_parts_mut(start, count)
        };
        self.filled += count;
        image.write_planes(&self.tables, image_values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a device other than the CPU makes of a batch is what the CPU gets.
    #[test]
    fn bytes_and_values_are_the_same_batch() -> Result<()> {
        for (channels, mean, std) in
            [(1, vec![0.3], vec![0.2]), (3, vec![0.1, 0.5, 0.9], vec![0.2; 3])]
        {
            let normalisation = Normalisation { mean, std };
            let pixels =
                |seed: usize| (0..25 * channels).map(move |at| (at * (31 + seed) % 256) as u8);
            let mut values = Collected::new(2, 5, &normalisation, Device::Cpu)?;
            let mut bytes = Collected::new(2, 5, &normalisation, Device::Mps)?;
            for seed in 0..2 {
                let image = Image::new(5, 5, channels, pixels(seed).collect())?;
                values.push(&image);
                bytes.push(&image);
            }
            let (Pixels::Normalised(values), Pixels::Bytes(bytes)) =
                (values.finish(Device::Cpu)?, bytes.finish(Device::Mps)?)
            else {
                panic!("the CPU takes values, other devices bytes");
            };
            let normalised = normalisation.apply(&bytes)?;
            assert_eq!(values.size(), normalised.size());
            assert!(values.f_allclose(&normalised, 1e-5, 1e-6, false)?);
        }
        Ok(())
    }
}
