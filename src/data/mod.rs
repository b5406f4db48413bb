//! Images in: data sets, augmentation, and the batches of a run.
//!
//! A [`Dataset`] gives decoded images by index ([`FolderOfClasses`], [`idx::IdxImages`]); a
//! [`Loader`] makes batches of them in worker threads. Small sets that fit on the device need
//! neither: [`ImageSet`] and [`Batches`].

mod batches;
mod dataset;
mod decode;
mod folder;
pub mod idx;
mod image;
mod images;
mod loader;
mod mixing;
mod normalisation;
mod stream;
pub mod transform;

pub use batches::{Augmentation, Batches};
pub use dataset::{Dataset, Sample};
pub use decode::{decode, Encoded};
pub use folder::FolderOfClasses;
pub use image::Image;
pub use images::ImageSet;
pub use loader::{Corrupt, Loader, LoaderOptions, Order};
pub use mixing::{Mix, Mixing};
pub use normalisation::Normalisation;
pub use stream::Stream;
