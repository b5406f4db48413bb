//! Artifacts: saving and loading, exports, and the folders that are refused.

mod artifact_cases;
mod support;
