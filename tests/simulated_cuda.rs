//! The simulated CUDA device (tests/simulated_cuda): what it refuses, and how much of it a search uses.
//!
//! `make test-simulated-cuda` runs these tests. They are ignored elsewhere: a real device counts nothing.

mod simulated_cuda_cases;
mod support;
