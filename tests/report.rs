//! Reports: metrics of the dimensions, pictures of masked image modeling, HTML page, TensorBoard.

mod report_cases;
mod support;
