//! Latency of the dense network and of subnets.

use crate::network::Plan;
use crate::options::Options;
use crate::report::{number, Section, Table};
use crate::task::Task;
use crate::AnyError;
use once_for_both::latency::compare_latency;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::subnet::Subnet;
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{nn, Device};

/// Latency of one network at one batch size.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// MACs as a share of the dense network's.
    macs: f64,
    batch: i64,
    median_ms: f64,
    min_ms: f64,
}

/// Measures all networks alternately, at every batch size.
pub fn measure(
    options: &Options,
    precision: Precision,
    device: Device,
) -> std::result::Result<Vec<Row>, AnyError> {
    let plan = Plan::of(options);
    let mut networks = vec![(1.0, random(plan.dense.clone(), precision, device)?)];
    for share in &plan.shares {
        let (subnet, macs) = plan.subnet(*share)?;
        networks.push((macs, random(subnet, precision, device)?));
    }
    let mut rows = Vec::new();
    for batch in plan.latency_batches {
        let images = plan.images(batch, device)?;
        let calls: Vec<_> = networks
            .iter()
            .map(|(_, network)| || tch::no_grad(|| network.predict(&images)).map(drop))
            .collect();
        let calls: Vec<&dyn Fn() -> Result<()>> = calls.iter().map(|call| call as _).collect();
        let times = compare_latency(&calls, 10 * plan.rounds, device)?;
        rows.extend(networks.iter().zip(times).map(|((macs, _), time)| Row {
            macs: *macs,
            batch,
            median_ms: time.median_ms,
            min_ms: time.min_ms,
        }));
    }
    Ok(rows)
}

/// Builds a network with random weights.
fn random(network: VitConfig, precision: Precision, device: Device) -> Result<Subnet<VitConfig>> {
    let store = nn::VarStore::new(device);
    network.build(&store.root())?;
    let weights = store.variables().into_iter().collect();
    Subnet::with_precision(network, &weights, device, precision)
}

/// Measures in every precision.
pub fn section(options: &Options) -> Section {
    let mut section = Section::default();
    section.text(
        "Forward pass of the dense network and of subnets (all heads kept, the other dimensions at the largest \
         candidates below one share), called alternately, the device synchronised around each call.",
    );
    let mut table = Table::new(&[
        "MACs, share",
        "precision",
        "batch",
        "median, ms",
        "least, ms",
        "dense / this, median",
    ]);
    for precision in Plan::of(options).precisions {
        let rows = Task::Latency { precision }.run::<Vec<Row>>(options);
        let Some((rows, _)) = section.measured(precision.name(), rows) else { continue };
        for row in &rows {
            let same = |dense: &&Row| dense.batch == row.batch;
            let dense = rows.iter().find(same).map_or(f64::NAN, |dense| dense.median_ms);
            table.row([
                format!("{:.3}", row.macs),
                precision.name().into(),
                row.batch.to_string(),
                number(row.median_ms),
                number(row.min_ms),
                format!("{:.2}", dense / row.median_ms),
            ]);
        }
    }
    section.table(table);
    section
}
