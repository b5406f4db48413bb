//! Buffer of the images of a batch.

use crate::data::{Image, Normalisation};
use crate::transfer::pinned;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Images of a batch under construction.
pub(super) enum BatchBuffer {
    /// For the CPU: normalised values, written while the image is in the processor's cache.
    Values(Values),
    /// For other devices: bytes, a quarter of the transfer of f32 values.
    Bytes {
        /// `B × C × S × S` values.
        bytes: Vec<u8>,
        /// `[B, C, S, S]`.
        shape: [i64; 4],
    },
}

/// Images of a complete batch, `[B, C, S, S]` on the CPU.
pub(super) enum Pixels {
    /// Normalised, f32.
    Normalised(Tensor),
    /// Bytes, u8, for another device; in pinned memory if that is CUDA.
    Bytes(Tensor),
}

impl BatchBuffer {
    /// Returns an empty buffer for `count` images of `size` × `size` pixels.
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
                let mut bytes = Vec::new();
                let sides = count.checked_mul(channels * size * size);
                let reserved = sides.is_some_and(|all| bytes.try_reserve_exact(all).is_ok());
                if !reserved {
                    let expected = format!("small enough for memory at {size} × {size} pixels");
                    return Err(Error::invalid("batch size", expected, count));
                }
                Ok(Self::Bytes { bytes, shape })
            }
        }
    }

    /// Appends an image.
    ///
    /// # Panics
    /// If the buffer has too little room left for the image.
    pub fn push(&mut self, image: &Image) {
        match self {
            Self::Values(values) => values.push(image),
            Self::Bytes { bytes, .. } => image.append_planes(bytes),
        }
    }

    /// Returns the images of a full buffer.
    pub fn finish(self, device: Device) -> Result<Pixels> {
        match self {
            Self::Values(values) => Ok(Pixels::Normalised(values.batch)),
            Self::Bytes { bytes, shape } => {
                let tensor = Tensor::f_from_data_size(&bytes, &shape, Kind::Uint8)?;
                Ok(Pixels::Bytes(pinned(tensor, device)?))
            }
        }
    }
}

/// Tensor of normalised images, filled image by image.
pub(super) struct Values {
    /// `[B, C, S, S]`, f32, contiguous, on the CPU.
    batch: Tensor,
    /// Number of elements written.
    filled: usize,
    /// Lookup tables from byte to normalised value, one a channel.
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
        assert!(
            first + count <= all,
            "batch buffer: got {} elements, expected at most {all}",
            first + count
        );
        // SAFETY: the tensor is f32, contiguous and on the CPU (see `new`), `self` holds the only
        // handle to it, and the assertion above keeps the slice inside it.
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

    #[test]
    fn batch_normalised_from_bytes_equals_batch_of_values() -> Result<()> {
        for (channels, mean, std) in
            [(1, vec![0.3], vec![0.2]), (3, vec![0.1, 0.5, 0.9], vec![0.2; 3])]
        {
            let normalisation = Normalisation { mean, std };
            let pixels =
                |seed: usize| (0..25 * channels).map(move |at| (at * (31 + seed) % 256) as u8);
            let mut values = BatchBuffer::new(2, 5, &normalisation, Device::Cpu)?;
            let mut bytes = BatchBuffer::new(2, 5, &normalisation, Device::Mps)?;
            for seed in 0..2 {
                let image = Image::new(5, 5, channels, pixels(seed).collect())?;
                values.push(&image);
                bytes.push(&image);
            }
            let (Pixels::Normalised(values), Pixels::Bytes(bytes)) =
                (values.finish(Device::Cpu)?, bytes.finish(Device::Mps)?)
            else {
                panic!("expected values for the CPU and bytes for other devices");
            };
            let normalised = normalisation.on(Device::Cpu)?.apply(&bytes)?;
            assert_eq!(values.size(), normalised.size());
            assert!(values.f_allclose(&normalised, 1e-5, 1e-6, false)?);
        }
        Ok(())
    }
}
