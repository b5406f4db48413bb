//! Tasks: their losses against sums in f64, and searches that optimise them.

mod support;
mod task_cases;
