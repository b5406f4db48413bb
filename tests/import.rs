//! Checkpoints of other libraries, and of nobody in good faith.
//!
//! The files of `tests/data/import` were written by timm, transformers and torch (`make.py` there).

mod import_cases;
mod support;
