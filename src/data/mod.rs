//! Data sets, augmentation, and training batches.
//!
//! A [`Dataset`] returns decoded images by index ([`ImageFolder`], [`TarShards`],
//! [`idx::IdxImages`]). A [`Loader`] decodes, augments and batches them in worker threads. For a small data set that fits
//! in device memory, [`ImageSet`] and [`ShuffledBatches`] do without worker threads.
//!
//! [`ImageSet`], [`ShuffledBatches`], [`Image`] and [`Normalisation`] are always compiled; all
//! other items need the Cargo feature `data`.

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
mod inspection;
#[cfg(feature = "data")]
mod loader;
#[cfg(feature = "data")]
mod mixing;
mod normalisation;
#[cfg(feature = "data")]
mod random_stream;
#[cfg(feature = "data")]
pub(crate) mod shards;
mod shuffled_batches;
#[cfg(feature = "data")]
pub mod transform;

#[cfg(feature = "data")]
pub use dataset::{Dataset, LabelledImage};
#[cfg(feature = "data")]
pub use decode::{decode, EncodedImage, DEFAULT_MAX_PIXELS};
pub use image::Image;
#[cfg(feature = "data")]
pub use image_folder::ImageFolder;
#[cfg(feature = "pipeline")]
pub(crate) use image_folder::{has_image_extension, other_class};
pub use image_set::ImageSet;
#[cfg(feature = "pipeline")]
pub(crate) use inspection::packed_shard;
#[cfg(feature = "data")]
pub use inspection::{
    inspect_images, ClassCount, ImageFault, ImageInspection, ImageSource, InspectedSet, SizeCount,
};
#[cfg(feature = "data")]
pub use loader::{Loader, LoaderOptions, OnCorrupt, Order, DEFAULT_CORRUPT_IMAGES};
#[cfg(feature = "data")]
pub use mixing::{Mix, Mixing};
pub use normalisation::Normalisation;
#[cfg(feature = "data")]
pub use random_stream::RandomStream;
#[cfg(feature = "data")]
pub use shards::TarShards;
pub use shuffled_batches::{Augmentation, ShuffledBatches};

/// Largest compression ratio of deflate: at least two bits for a run of at most 258 bytes.
#[cfg(feature = "data")]
const MAX_BYTES_PER_PACKED_BYTE: u64 = 1032;

/// The code of docs/data.md, compiled.
#[cfg(all(doctest, feature = "data"))]
#[doc = include_str!("../../docs/data.md")]
struct DataDocument;
