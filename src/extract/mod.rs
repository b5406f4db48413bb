//! How the subnet is cut out for real: a plain small network, verified, on disk.

mod artifact;
mod into;
mod subnet;
mod verify;

pub use artifact::Provenance;
pub use into::{extract_into, ExtractInto};
pub use subnet::{FoldingExtractor, Subnet, SubnetExtractor};
pub use verify::{verify, Verification};
