//! Images in: data sets, augmentation, and the batches of a run.
//!
//! A [`Dataset`] gives decoded images by index ([`ImageFolder`], [`idx::IdxImages`]); a
//! [`Loader`] makes batches of them in worker threads. Small sets that fit on the device need
//! neither: [`ImageSet`] and [`ShuffledBatches`].
//!
//! [`ImageSet`], [`ShuffledBatches`], [`Image`] and [`Normalisation`] are always there; everything
//! else needs the feature `data`.

#[cfg(feature = "data")]
mod dataset;
#[cfg(feature = "data")]
mod decode;
#[cfg(feature = "data")]
pub mod idx;
mod image;
#[cfg(feature = "data")]
mod image_folder;
mod image_set;
#[cfg(feature = "data")]
mod loader;
#[cfg(feature = "data")]
mod mixing;
mod normalisation;
#[cfg(feature = "data")]
mod random_stream;
mod shuffled_batches;
#[cfg(feature = "data")]
pub mod transform;

#[cfg(feature = "data")]
pub use dataset::{Dataset, LabelledImage};
#[cfg(feature = "data")]
pub use decode::{decode, EncodedImage};
pub use image::Image;
#[cfg(feature = "data")]
pub use image_folder::ImageFolder;
pub use image_set::ImageSet;
#[cfg(feature = "data")]
pub use loader::{Loader, LoaderOptions, OnCorrupt, Order};
#[cfg(feature = "data")]
pub use mixing::{Mix, Mixing};
pub use normalisation::Normalisation;
#[cfg(feature = "data")]
pub use random_stream::RandomStream;
pub use shuffled_batches::{Augmentation, ShuffledBatches};
