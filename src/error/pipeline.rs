//! Errors of a run: its options, its folder, its networks.

use std::path::PathBuf;

/// A run that cannot start or resume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// Options that cannot be read: not TOML, a field that is missing, unknown or of another type.
    #[error("{origin}: {reason}")]
    Options {
        /// Place of the options: a file, a setting, a section.
        origin: String,
        /// The parser's message.
        reason: String,
    },

    /// An option that differs from that of the run.
    #[error(
        "option {name}: got {given}, expected {saved}, with which the run in {} began; give the \
         same value, or another run folder",
        folder.display()
    )]
    Changed {
        /// Name of the option.
        name: String,
        /// Value given now.
        given: String,
        /// Value in the run folder.
        saved: String,
        /// The run folder.
        folder: PathBuf,
    },

    /// Images other than those that the run began with.
    #[error(
        "{set}: got {given}, expected {saved}, with which the run in {} began; give the same images, or \
         another run folder",
        folder.display()
    )]
    OtherImages {
        /// The images, with the option that names them.
        set: &'static str,
        /// Number and checksum of the images given now.
        given: String,
        /// Number and checksum of those that the run began with.
        saved: String,
        /// The run folder.
        folder: PathBuf,
    },

    /// A run folder that a run of an earlier version began with, in which there are several networks by now.
    #[error(
        "option {option}: got the run folder {}, expected the network in it that the run in {} began with; set {option} to \
         one of {}",
        given.display(), folder.display(),
        networks.iter().map(|own| own.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    SeveralNetworks {
        /// Name of the option.
        option: &'static str,
        /// The run folder that it names.
        given: PathBuf,
        /// The networks in that folder.
        networks: Vec<PathBuf>,
        /// The run folder of the run that is resumed.
        folder: PathBuf,
    },

    /// A folder without a run.
    #[error(
        "run folder {}: got no run, expected one with {file}; start one without resuming, or give \
         another folder",
        folder.display()
    )]
    NoRun {
        /// The folder.
        folder: PathBuf,
        /// The file that a run has.
        file: &'static str,
    },

    /// An output folder that cannot be created or written; `source` is the operating system's reason.
    #[error(
        "output folder {} (--out): it cannot be created or written; give a folder that can be",
        if folder.as_os_str().is_empty() { "\"\"".into() } else { folder.display().to_string() }
    )]
    Unwritable {
        /// The output folder.
        folder: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A stage that has begun in this run folder.
    #[error(
        "run folder {}: got {}, of a stage that has begun, expected none; resume it (--resume), or \
         give another folder",
        folder.display(), file.display()
    )]
    Begun {
        /// The run folder.
        folder: PathBuf,
        /// The file of the stage.
        file: PathBuf,
    },

    /// A stage that has begun in this run folder and has made no network yet, where its network is needed.
    #[error(
        "run folder {}: got a stage {stage} that has not ended, expected its network; resume it (--resume), or give another \
         folder",
        folder.display()
    )]
    Unfinished {
        /// The run folder.
        folder: PathBuf,
        /// The stage, by its command.
        stage: &'static str,
    },

    /// No network where one is needed.
    #[error("network to {purpose}: got none, expected {expected}")]
    NoNetwork {
        /// What the network is for.
        purpose: &'static str,
        /// Where one is looked for.
        expected: String,
    },

    /// Fine-tuning in a run folder without a subnet.
    #[error(
        "there is no subnet in {}: got none, expected that of a search; run search first, or give a \
         subnet by weights",
        folder.display()
    )]
    NoSubnet {
        /// The run folder.
        folder: PathBuf,
    },

    /// Learning rate of a stage that diverged; `source` says at which step, and what was not finite
    /// first.
    #[error("{option}: got {rate}, with which training diverged, expected a lower learning rate")]
    Diverged {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        rate: f64,
        /// How training diverged.
        source: Box<super::Error>,
    },

    /// A checkpoint that lacks variables of the network, or has them for other classes, where the network is used as it
    /// is.
    #[error(
        "{network}: got a checkpoint without {} (or for other classes), expected a trained network: {because}",
        variables.join(", ")
    )]
    Untrained {
        /// The network.
        network: String,
        /// The variables, which were initialised afresh.
        variables: Vec<String>,
        /// Why it has to be trained, and what to do.
        because: &'static str,
    },

    /// A checkpoint that does not fit the network that is made of it; `source` is the reason.
    #[error("{network}: cannot use the checkpoint {} with its options ({options})", path.display())]
    Weights {
        /// What the network is in the run.
        network: &'static str,
        /// The checkpoint.
        path: PathBuf,
        /// Names of the options that say how it is read.
        options: &'static str,
        /// Why not.
        source: Box<super::Error>,
    },

    /// A network of a family that is not known where it is read.
    #[error("{}: family: got {family}, expected {}; {advice}", path.display(), known.join(" or "))]
    UnknownFamily {
        /// The file that names the family.
        path: PathBuf,
        /// The family.
        family: String,
        /// Families that are known.
        known: Vec<&'static str>,
        /// What to do instead.
        advice: &'static str,
    },

    /// A network for other images or classes than those of the data.
    #[error("{network}: got one for {given}, expected {expected}, as the data has")]
    Misfit {
        /// The network.
        network: String,
        /// Images or classes of the network.
        given: String,
        /// Images or classes of the data.
        expected: String,
    },
}

impl PipelineError {
    pub(crate) fn options(origin: impl Into<String>, reason: impl ToString) -> Self {
        Self::Options { origin: origin.into(), reason: reason.to_string() }
    }

    /// A field of the options `under`.
    #[cfg(feature = "pipeline")]
    pub(crate) fn field(under: &str, fault: &crate::typed::Fault) -> Self {
        Self::options(fault.name(under), fault.reason())
    }
}
