//! How the subnet is cut out for real: a plain small network, verified, on disk.

mod artifact;
mod subnet;
mod verify;

pub use artifact::Provenance;
pub use subnet::{FoldingExtractor, Subnet, SubnetExtractor};
pub use verify::{verify, Verification};
