//! Numbers computed by the method's public reference modules and by timm, held against ours.
//!
//! Every case of the JSON files in `tests/golden` (or in the folder `OFB_GOLDEN_DIR`) is run, on
//! `OFB_TEST_DEVICE`. On a GPU set `NVIDIA_TF32_OVERRIDE=0`: the numbers are those of full f32.

mod golden_cases;
mod support;
