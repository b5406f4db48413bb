//! Errors of latency models.

/// Fault of a latency model, or of its use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LatencyError {
    /// A latency budget without a latency model.
    #[error(
        "latency budget: got no latency model, expected one of this network; measure it with \
         LatencyModel::measure and give it to SearchBuilder::latency"
    )]
    NotMeasured,

    /// A latency model that was measured under other conditions.
    #[error(
        "latency model: {what}: got {present}, expected {measured}, with which it was measured; \
         measure a model under the present conditions"
    )]
    Differs {
        /// The condition: device, threads, precision, images, architecture, …
        what: &'static str,
        /// What it was measured with.
        measured: String,
        /// What it is to be used with.
        present: String,
    },

    /// A candidate size beyond the sizes that were measured.
    #[error(
        "latency model: candidate {size} of {dimension}: got one beyond the measured sizes, expected \
         one within them; measure a model of this search space"
    )]
    Beyond {
        /// The dimension.
        dimension: String,
        /// The candidate.
        size: String,
    },

    /// A latency that is not a positive number of milliseconds.
    #[error("measured latency of {network}: got {milliseconds} ms, expected a positive number")]
    NotPositive {
        /// The network, by its sizes.
        network: String,
        /// The measured time.
        milliseconds: f64,
    },
}
