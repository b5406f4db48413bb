//! Import of checkpoints of other libraries, and refusal of damaged and malicious files.
//!
//! `tests/data/import/make.py` wrote the files in its folder with timm, transformers and torch.

mod import_cases;
mod support;
