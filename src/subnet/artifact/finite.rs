//! Numbers that an artifact cannot store: JSON has neither NaN nor infinities.

use super::{LatencyComparison, Provenance};
use crate::range::Range;
use crate::subnet::Verification;
use crate::Result;

const FINITE: Range<f64> = Range::closed(f64::MIN, f64::MAX);

/// Refuses a number of `verification.json` or `config.json` that is not finite, by its field.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) naming the field.
pub(super) fn check(
    verification: &Verification,
    provenance: &Provenance,
    latency: &[LatencyComparison],
    costs: [(&str, f64); 2],
) -> Result<()> {
    let Verification { random_images, real_images, logit_scale, tolerance } = *verification;
    let verified = [
        ("random_images", random_images),
        ("real_images", real_images),
        ("logit_scale", logit_scale),
        ("tolerance", tolerance),
    ];
    let dense = [("dense_macs", provenance.dense_macs), ("dense_params", provenance.dense_params)];
    check_fields("subnet", &costs)?;
    check_fields("verification", &verified)?;
    check_fields("provenance", &dense)?;
    for (at, own) in provenance.limits.iter().enumerate() {
        check_fields(&format!("provenance.limits.{at}"), &[("limit", own.limit)])?;
    }
    for (at, own) in latency.iter().enumerate() {
        let times = [("dense_ms", own.dense_ms), ("subnet_ms", own.subnet_ms)];
        check_fields(&format!("latency.{at}"), &times)?;
    }
    Ok(())
}

fn check_fields(of: &str, fields: &[(&str, f64)]) -> Result<()> {
    fields.iter().try_for_each(|(name, value)| FINITE.check(format!("{of}.{name}"), *value))
}
