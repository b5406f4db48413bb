//! Weights by their name on the hub: from a small server on the loopback address.

mod hub_cases;
mod support;
