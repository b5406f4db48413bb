//! Images in: data sets in memory, and the batches of a run.

mod batches;
pub mod idx;
mod images;

pub use batches::{Augmentation, Batch, Batches};
pub use images::ImageSet;
