//! The results of a run as a table of text.

use super::Summary;
use crate::cost::Metric;
use std::fmt::{Display, Formatter, Result};

/// Bytes of a MiB.
const MIB: f64 = 1024.0 * 1024.0;

/// Cost, accuracy, latency and memory of both networks, sizes, budgets and verification.
impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.networks(f)?;
        let width = self.sizes.iter().map(|own| own.dimension.len()).max().unwrap_or(0).max(24);
        writeln!(f, "\n{:width$}  kept of dense", "dimension")?;
        for own in &self.sizes {
            let kept = own.subnet.to_string();
            writeln!(f, "{:width$} {kept:>7} of {}", own.dimension, own.dense)?;
        }
        for budget in &self.budgets {
            let (unit, scale, reached) = match budget.metric {
                Metric::Macs => ("MMACs", 1e6, self.subnet.macs),
                Metric::Params => ("M parameters", 1e6, self.subnet.params),
                Metric::Latency => continue,
            };
            let (limit, reached) = (budget.limit / scale, reached / scale);
            writeln!(f, "\nbudget {limit:.2} {unit}, subnet {reached:.2}")?;
        }
        if let Some(own) = &self.latency {
            writeln!(f, "\n{own}")?;
        }
        let verification = &self.verification;
        writeln!(
            f,
            "logits of subnet and masked network differ by at most {:.1e} (allowed {:.1e})",
            verification.max_abs_logit_difference,
            verification.tolerance * verification.logit_scale,
        )?;
        match self.search.waiting_for_data {
            Some(share) => writeln!(f, "waiting for batches: {:.1}% of the search", 100.0 * share),
            None => Ok(()),
        }
    }
}

impl Summary {
    fn networks(&self, f: &mut Formatter<'_>) -> Result {
        let (dense, subnet) = (&self.dense, &self.subnet);
        writeln!(f, "\n                    dense      subnet")?;
        for (name, dense, subnet, digits) in [
            ("MMACs", dense.macs, subnet.macs, 2),
            ("parameters, M", dense.params, subnet.params, 3),
        ] {
            let share = 100.0 * subnet / dense;
            let (dense, subnet) = (dense / 1e6, subnet / 1e6);
            writeln!(f, "{name:14} {dense:>10.digits$}  {subnet:>10.digits$}   {share:>6.1}%")?;
        }
        let (dense_top1, top1) = (100.0 * dense.top1, 100.0 * subnet.top1);
        let points = top1 - dense_top1;
        writeln!(f, "top-1, %       {dense_top1:>10.1}  {top1:>10.1}   {points:>+6.1} points")?;
        for (batch, dense) in &dense.latency_ms {
            let Some(subnet) = subnet.latency_ms.get(batch) else { continue };
            let times = dense / subnet;
            writeln!(
                f,
                "ms, batch {batch:<5}{dense:>10.2}  {subnet:>10.2}   {times:>6.2}× faster"
            )?;
        }
        for (batch, own) in &dense.memory_bytes {
            let Some(other) = subnet.memory_bytes.get(batch) else { continue };
            let [own, other] = [*own, *other].map(|bytes| bytes as f64 / MIB);
            writeln!(f, "MiB, batch {batch:<4}{own:>10.2}  {other:>10.2}   beside the weights")?;
        }
        Ok(())
    }
}
