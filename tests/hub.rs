//! Weights by their name on the hub: from a small server on the loopback address.

mod hub_cases;
#[allow(dead_code)]
mod support;
