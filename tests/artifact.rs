//! A subnet on disk: what is written is what is loaded, here and elsewhere, and what is not whole
//! and consistent is refused.

mod artifact_cases;
mod support;
