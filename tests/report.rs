//! What a run is watched by: numbers of every dimension, pictures, the page, TensorBoard's files.

mod report_cases;
mod support;
