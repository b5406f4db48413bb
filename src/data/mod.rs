//! Images in.

pub mod idx;
