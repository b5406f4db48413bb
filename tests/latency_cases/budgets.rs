//! Latency budgets: shares, milliseconds, and what they are refused for.

use crate::assert_refused;
use crate::device::{quiet, vit, SyntheticDevice};
use crate::support::TestResult;
use once_for_both::cost::{CostLimit, Metric};
use once_for_both::error::LatencyError;
use once_for_both::prelude::*;
use once_for_both::Error;
use std::sync::Arc;

#[test]
fn latency_budget_resolves_to_milliseconds() -> TestResult {
    let latency = quiet()?;
    let model = latency.cost_model(&vit())?;
    let dense = model.dense_cost(Metric::Latency)?;
    assert_eq!(Budget::latency_share(0.6).resolve(&model)?, CostLimit::latency(0.6 * dense));
    assert_eq!(Budget::latency(7.25).resolve(&model)?, CostLimit::latency(7.25));
    assert_refused!(Budget::latency_share(1.5).resolve(&model), Error::Invalid { .. });
    let unmeasured = Budget::latency_share(0.5).resolve(&vit().cost_model());
    assert_refused!(unmeasured, Error::Latency(LatencyError::NotMeasured));
    Ok(())
}

#[test]
fn search_with_a_latency_budget_without_model_is_refused() {
    let search = Search::of(vit()).budget(Budget::latency(3.0)).steps(6, 4);
    assert_refused!(search.build(), Error::Latency(LatencyError::NotMeasured));
}

#[test]
fn search_with_a_latency_budget_out_of_reach_is_refused_with_the_range() -> TestResult {
    let model = quiet()?;
    let search = Search::of(vit()).latency(model).budget(Budget::latency(0.1)).steps(6, 4);
    assert_refused!(search.check(), Error::Infeasible { metric: "milliseconds", budget, .. } if budget == 0.1);
    Ok(())
}

#[test]
fn search_with_a_meter_of_another_device_is_refused_with_both_names() -> TestResult {
    let model = quiet()?;
    let other = SyntheticDevice { name: "other", ..SyntheticDevice::quiet() };
    let search = Search::of(vit()).latency(model).latency_meter(Arc::new(other));
    let search = search.budget(Budget::latency_share(0.6)).steps(6, 4);
    assert_refused!(
        search.check(),
        Error::Latency(LatencyError::Differs { what: "device", ref measured, ref present })
            if measured == "synthetic" && present == "other"
    );
    Ok(())
}

#[test]
fn search_of_another_network_than_the_measured_is_refused() -> TestResult {
    let model = quiet()?;
    let other = VitConfig { classes: 7, ..vit() };
    let search = Search::of(other).latency(model).budget(Budget::latency_share(0.6)).steps(6, 4);
    assert_refused!(
        search.check(),
        Error::Latency(LatencyError::Differs { what: "architecture", .. })
    );
    Ok(())
}
