//! Errors of fetching weights by their name on the hub.

use std::path::PathBuf;

/// Failure to fetch weights by their name. [`Error::Hub`](super::Error::Hub) has the name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// What is no name on the hub.
    #[error(
        "name on the hub: got {found:?}, expected OWNER/NAME or OWNER/NAME@REVISION of letters, digits, \
         '-', '_' and '.'; a path has no hub: in front"
    )]
    Name {
        /// The name given, without `hub:`.
        found: String,
    },

    /// A name on the hub, in a program built without the feature `hub`.
    #[error(
        "got a name on the hub, expected a path; build once-for-both with the feature \"hub\", or \
         download the files and give their path"
    )]
    FeatureMissing,

    /// No folder for the cache.
    #[error("HF_HOME: got none, and no home folder, expected a folder for the cache; set HF_HOME")]
    NoCache,

    /// What is no address of a hub.
    #[error(
        "HF_ENDPOINT: got {found:?}, expected an address such as https://huggingface.co; correct it"
    )]
    Endpoint {
        /// The address given.
        found: String,
    },

    /// An address whose user or password has a `/`, `?` or `#` in it. They are not shown.
    #[error(
        "HF_ENDPOINT: got an '@' after the first '/', '?' or '#' of the address that ends with {server:?}, expected user \
         and password without these; write '/' in them as %2F, '?' as %3F and '#' as %23, or '@' in a path as %40"
    )]
    Login {
        /// The address without what is before its last `@`.
        server: String,
    },

    /// A token that no request can have. It is not shown.
    #[error(
        "HF_TOKEN: got a line break or control character in it, expected a token of the hub; set it again"
    )]
    Token,

    /// Weights that are not in the cache, in offline mode.
    #[error(
        "HF_HUB_OFFLINE is set: got no weights of it in {}, expected them there; fetch them once \
         with a network and without HF_HUB_OFFLINE, or give the path of the weights",
        cache.display()
    )]
    Offline {
        /// The cache.
        cache: PathBuf,
    },

    /// A server that cannot be reached.
    #[error(
        "{endpoint} cannot be reached: expected an answer; check network and proxy (HTTPS_PROXY), \
         set HF_ENDPOINT to a mirror, set HF_HUB_OFFLINE=1 to take what is in the cache, or download the \
         files elsewhere and give their path"
    )]
    Unreachable {
        /// The address, as `HF_ENDPOINT` sets it, or the server to which it redirects.
        endpoint: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// No such repository, revision or file.
    #[error("{url}: got 404, expected a repository of this name and revision; correct the name")]
    NotFound {
        /// The address that was asked.
        url: String,
    },

    /// No access.
    #[error("{url}: got {status}, expected access; correct the name, or{}", advice(*login))]
    Denied {
        /// The address that was asked.
        url: String,
        /// Status of the answer: 401 or 403.
        status: u16,
        /// Whether user and password of `HF_ENDPOINT` were sent, in place of `HF_TOKEN`.
        login: bool,
    },

    /// An answer of failure.
    #[error("{url}: got {status}, expected 200; try again later")]
    Status {
        /// The address that was asked.
        url: String,
        /// Status of the answer.
        status: u16,
    },

    /// An answer that is not of a hub.
    #[error("{url}: got an answer that is not of a hub ({reason}); correct HF_ENDPOINT")]
    Answer {
        /// The address that was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A repository without weights that the import reads.
    #[error(
        "files of the repository: got {}, expected {expected}; give another repository",
        found.join(", ")
    )]
    NoWeights {
        /// Names of the first files, at most five.
        found: Vec<String>,
        /// Names of files with weights.
        expected: String,
    },

    /// A transfer that broke off.
    #[error("{url}: the transfer broke off; try again")]
    Transfer {
        /// The address of the file.
        url: String,
        /// The reason.
        source: std::io::Error,
    },

    /// A file of another length.
    #[error("{url}: got {actual} bytes, expected {expected}; try again")]
    Length {
        /// The address of the file.
        url: String,
        /// Length according to the hub.
        expected: u64,
        /// Length of the file.
        actual: u64,
    },

    /// The cache cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Cache {
        /// read, write, create or remove.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// An index of several files that cannot be read.
    #[error("cannot read the index {}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<super::CheckpointError>,
    },
}

/// What to do about a refused access, with or without a login in `HF_ENDPOINT`.
fn advice(login: bool) -> &'static str {
    match login {
        true => " user and password in HF_ENDPOINT, which are sent in place of HF_TOKEN",
        false => {
            ", if the repository is private or gated, set HF_TOKEN to a token of an account with access to it"
        }
    }
}
