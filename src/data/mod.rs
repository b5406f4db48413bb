//! Images in: data sets, augmentation, and the batches of a run.
//!
//! A [`Dataset`] gives decoded images by index ([`ImageFolder`], [`idx::IdxImages`]); a
//! [`Loader`] makes batches of them in worker threads. Small sets that fit on the device need
//! neither: [`ImageSet`] and [`Batches`].

mod dataset;
mod decode;
pub mod idx;
mod image;
mod image_folder;
mod image_set;
mod loader;
mod mixing;
mod normalisation;
mod random_stream;
mod shuffled_batches;
pub mod transform;

pub use dataset::{Dataset, LabelledImage};
pub use decode::{decode, EncodedImage};
pub use image::Image;
pub use image_folder::ImageFolder;
pub use image_set::ImageSet;
pub use loader::{Loader, LoaderOptions, OnCorrupt, Order};
pub use mixing::{Mix, Mixing};
pub use normalisation::Normalisation;
pub use random_stream::RandomStream;
pub use shuffled_batches::{Augmentation, ShuffledBatches};
