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
        /// The candidate, in channels.
        size: String,
    },

    /// A model whose predictions for the networks that were left out are too far off.
    #[error(
        "latency model: median error of its predictions: got {:.1} %, expected at most {:.1} %; the dense \
         network's latency changed by {:.1} % during the measurement: measure while no other program runs, for \
         longer, or allow a larger error",
        100.0 * error, 100.0 * limit, 100.0 * drift
    )]
    Inaccurate {
        /// Median of |predicted / measured − 1|.
        error: f64,
        /// Largest that is allowed.
        limit: f64,
        /// Largest latency of the dense network divided by the smallest, minus 1.
        drift: f64,
    },

    /// A graphics card whose name is not known: a model of it would hold for any other card.
    #[error(
        "name of CUDA device {index}: got none from nvidia-smi, expected one, which the latency model is stored \
         with; put nvidia-smi on the PATH, or a number or UUID that it knows into CUDA_VISIBLE_DEVICES"
    )]
    Unnamed {
        /// Index of the device.
        index: usize,
    },

    /// A graphics card whose number may be another one for nvidia-smi than for CUDA, on a machine with cards of several
    /// names.
    #[error(
        "name of CUDA device {index}: got one of {names}, expected the same for all, or the order of nvidia-smi; set \
         CUDA_DEVICE_ORDER=PCI_BUS_ID, or the card's UUID in CUDA_VISIBLE_DEVICES"
    )]
    CardOrder {
        /// Index of the device.
        index: usize,
        /// Names of all cards.
        names: String,
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
