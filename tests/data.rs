//! Data sets, decoding, transforms, mixing and the loader.

mod support;

#[path = "data/archives.rs"]
mod archives;
#[path = "data/decoding.rs"]
mod decoding;
#[path = "data/files.rs"]
mod files;
#[path = "data/fingerprints.rs"]
mod fingerprints;
#[path = "data/folder.rs"]
mod folder;
#[path = "data/idx.rs"]
mod idx;
#[path = "data/inspection.rs"]
mod inspection;
#[path = "data/loading.rs"]
mod loading;
#[path = "data/memory.rs"]
mod memory;
#[path = "data/mixing.rs"]
mod mixing;
#[path = "data/mutations.rs"]
mod mutations;
#[path = "data/oddities.rs"]
mod oddities;
#[path = "data/open_files.rs"]
mod open_files;
#[path = "data/operations.rs"]
mod operations;
#[path = "data/sets.rs"]
mod sets;
#[path = "data/shard_faults.rs"]
mod shard_faults;
#[path = "data/shards.rs"]
mod shards;
#[path = "data/sharing.rs"]
mod sharing;
#[path = "data/strictness.rs"]
mod strictness;
#[path = "data/transforms.rs"]
mod transforms;
#[path = "data/upper_part.rs"]
mod upper_part;
