//! Weighted k-nearest neighbours and the linear probe against plain counts, and inputs that are refused.

mod evaluate_cases;
mod support;
