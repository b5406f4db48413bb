//! The hub, its cache on this machine, and what is fetched from it.

use super::{client, refused, HubName};
use crate::error::HubError;
use crate::Result;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const ENDPOINT: &str = "https://huggingface.co";
const TIMEOUT: Duration = Duration::from_secs(60);

/// Files of weights from the hub, in its cache on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubFiles {
    /// The weights: a safetensors file, a file of `torch.save`, or the index of several files. A
    /// reader of `config.json` beside it finds the one below.
    pub weights: PathBuf,
    /// `config.json`, or `open_clip_config.json`; `None` if the repository has none, or it is not in
    /// the cache and the hub is offline or cannot be reached.
    pub config: Option<PathBuf>,
    /// The commit that they are of.
    pub commit: String,
}

/// Fetches the files of `OWNER/NAME` or `OWNER/NAME@REVISION`: [`Hub::from_env`], then [`Hub::fetch`].
///
/// # Errors
/// Those of [`Hub::from_env`] and [`Hub::fetch`].
pub fn fetch(name: &str) -> Result<HubFiles> {
    Hub::from_env()?.fetch(name)
}

/// The hub or a mirror of it, and the cache on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Hub {
    /// Without user and password, which are in `login`.
    pub(super) endpoint: String,
    pub(super) login: Option<String>,
    /// Whether user or password have a character that ends the server of an address, and so are not known; they are not
    /// in `endpoint` then.
    pub(super) unescaped: bool,
    pub(super) cache: PathBuf,
    pub(super) token: Option<String>,
    pub(super) offline: bool,
    pub(super) progress: bool,
    pub(super) timeout: Duration,
}

/// Without login and token.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [login, token] = [&self.login, &self.token].map(|own| own.as_ref().map(|_| "set"));
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("login", &login)
            .field("cache", &self.cache)
            .field("token", &token)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// Returns huggingface.co with this folder as its cache, without a token.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: ENDPOINT.into(),
            login: None,
            unescaped: false,
            cache: cache.into(),
            token: None,
            offline: false,
            progress: false,
            timeout: TIMEOUT,
        }
    }

    /// Returns the hub that the [environment](super) says.
    ///
    /// # Errors
    /// [`HubError::NoCache`] if neither the environment nor a home folder says where the cache is.
    pub fn from_env() -> Result<Self> {
        let hub = Self::from_variables(|name| std::env::var_os(name), std::env::home_dir());
        hub.map_err(|source| refused("weights from the hub", source))
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        user: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        // As Python has it, an empty variable is none.
        let is_set = |value: &OsString| !value.to_string_lossy().trim().is_empty();
        let variable = |name| variable(name).filter(is_set);
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        let folder = |name| {
            let value = PathBuf::from(variable(name)?);
            match (value.strip_prefix("~"), &user) {
                (Ok(rest), Some(user)) => Some(user.join(rest)),
                // The path of weights is kept in the options of a run, which may go on elsewhere.
                _ => std::path::absolute(value).ok(),
            }
        };
        let caches = || folder("XDG_CACHE_HOME").or_else(|| Some(user.as_ref()?.join(".cache")));
        let home = folder("HF_HOME").or_else(|| Some(caches()?.join("huggingface")));
        let cache = folder("HF_HUB_CACHE").or_else(|| Some(home.as_ref()?.join("hub")));
        let stored = || std::fs::read_to_string(home.as_ref()?.join("token")).ok();
        let mut hub = Self::new(cache.ok_or(HubError::NoCache)?);
        if let Some(endpoint) = text("HF_ENDPOINT") {
            hub = hub.endpoint(endpoint);
        }
        let is_on = |value: String| {
            ["1", "on", "yes", "true"].contains(&value.trim().to_lowercase().as_str())
        };
        hub.offline = text("HF_HUB_OFFLINE").is_some_and(is_on);
        let token = text("HF_TOKEN").or_else(stored).map(|token| token.trim().to_owned());
        hub.token = token.filter(|token| !token.is_empty());
        Ok(hub)
    }

    /// Sets the address of a mirror. User and password in it, as in `https://USER:PASSWORD@HOST`, are sent to it in place
    /// of the token, and are in no message. In them `%2F` stands for `/`, `%3F` for `?` and `%23` for `#`, which are
    /// refused ([`HubError::Login`]).
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        let endpoint = endpoint.into();
        let endpoint = endpoint.trim().trim_end_matches('/');
        let unescaped = without_unescaped_login(endpoint);
        self.unescaped = unescaped.is_some();
        let known = || without_login(endpoint);
        (self.endpoint, self.login) = unescaped.map_or_else(known, |server| (server, None));
        self
    }

    /// Sets the token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets whether the cache alone is read. Default: no.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Sets whether a bar on a terminal shows the progress of a transfer. Default: no.
    pub fn progress(mut self, progress: bool) -> Self {
        self.progress = progress;
        self
    }

    /// Sets how long a server may send nothing before a transfer is given up; a connection has 10 seconds
    /// at most. Default: 60 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the weights of `OWNER/NAME` or `OWNER/NAME@REVISION`, with the configuration beside them:
    /// from the cache, or else from the hub.
    ///
    /// Of several files with weights, safetensors are preferred. Processes that fetch the same
    /// repository wait for one another. The token goes to the endpoint alone, not to the servers to which
    /// it redirects.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::Error::Hub) with a [`HubError`].
    pub fn fetch(&self, name: &str) -> Result<HubFiles> {
        let files = name.parse().and_then(|name: HubName| client::files(self, &name));
        files.map_err(|source| refused(name, source))
    }
}

/// Returns scheme, server and path of an address.
fn parts(address: &str) -> (&str, &str, &str) {
    let start = address.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = address.split_at(start);
    let (server, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (scheme, server, path)
}

/// Returns an address without what may be user and password with one of `/?#` in them; `None` for an address without
/// these: what is before the first of `/?#` has a login, or is a server, and not a user with a part of the password.
fn without_unescaped_login(address: &str) -> Option<String> {
    let (scheme, server, path) = parts(address);
    let (_, host) = path.rsplit_once('@')?;
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|own| own.is_ascii_digit());
    let is_server = match server.rsplit_once(':') {
        _ if server.contains('@') || server.starts_with('[') => true,
        Some((_, port)) => is_port(port),
        None => server.contains('.') || server == "localhost",
    };
    (!is_server).then(|| format!("{scheme}{host}"))
}

/// Returns an address without user and password, and these.
fn without_login(address: &str) -> (String, Option<String>) {
    let (scheme, server, path) = parts(address);
    match server.rsplit_once('@') {
        Some((login, server)) => (format!("{scheme}{server}{path}"), Some(login.into())),
        None => (address.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_of_an_address_are_taken_off_it() {
        for (address, endpoint, login) in [
            ("https://me:a@b@hub.co:8443/x/", "https://hub.co:8443/x", Some("me:a@b")),
            ("https://me@hub.co", "https://hub.co", Some("me")),
            ("https://hub.co/a@b", "https://hub.co/a@b", None),
            ("me:se%2Fcret@hub.co", "hub.co", Some("me:se%2Fcret")),
        ] {
            let hub = Hub::new("/cache").endpoint(address);
            assert_eq!((&*hub.endpoint, hub.login.as_deref()), (endpoint, login), "{address}");
        }
    }

    #[test]
    fn password_with_the_end_of_a_server_in_it_is_refused_and_not_shown() {
        for address in [
            "https://me:pa/ss@hub.co/x",
            "https://me:pa?ss@hub.co/x",
            "https://me:pa#1@ss@hub.co/x",
            "https://me:/pass@hub.co/x",
            "https://pa/ss@hub.co/x",
            "me:pa/ss@hub.co/x",
        ] {
            let hub = Hub::new("/cache").endpoint(address);
            let refused = hub.fetch("owner/name").map_err(|error| format!("{error:?} {error}"));
            let text = format!("{hub:?} {refused:?}");
            assert!(!text.contains("pa/") && !text.contains("ss@"), "{text}");
            assert!(text.contains("hub.co/x") && text.contains("Login {"), "{text}");
        }
        for address in ["https://hub.co:80/a@b", "http://localhost/a@b", "http://[::1]/a@b"] {
            let hub = Hub::new("/cache").endpoint(address);
            assert_eq!((&*hub.endpoint, hub.unescaped), (address, false));
        }
    }

    #[cfg(unix)]
    #[test]
    fn cache_whose_path_is_not_in_utf_8_is_taken() -> Result<(), HubError> {
        use std::os::unix::ffi::OsStringExt;
        let folder = OsString::from_vec(b"/data/caf\xe9".into());
        let own = |name: &str| (name == "HF_HUB_CACHE").then(|| folder.clone());
        assert_eq!(Hub::from_variables(own, None)?.cache, PathBuf::from(&folder));
        Ok(())
    }

    fn hub(variables: &[(&str, &str)], user: Option<&str>) -> Result<Hub, HubError> {
        let find = |name: &str| variables.iter().find(|(own, _)| *own == name);
        Hub::from_variables(|name| find(name).map(|own| own.1.into()), user.map(PathBuf::from))
    }

    #[test]
    fn cache_is_where_the_first_of_the_variables_says() -> Result<(), HubError> {
        let home = ("HF_HOME", "/hf");
        let caches = ("XDG_CACHE_HOME", "/caches");
        for (variables, expected) in [
            (&[("HF_HUB_CACHE", "/own"), home, caches][..], "/own"),
            (&[("HF_HUB_CACHE", " "), home, caches], "/hf/hub"),
            (&[caches], "/caches/huggingface/hub"),
            (&[("HF_HOME", "~/own")], "/me/own/hub"),
            (&[], "/me/.cache/huggingface/hub"),
        ] {
            assert_eq!(hub(variables, Some("/me"))?.cache, PathBuf::from(expected));
        }
        assert!(matches!(hub(&[], None), Err(HubError::NoCache)));
        assert!(hub(&[("HF_HOME", "relative")], None)?.cache.is_absolute());
        assert_eq!(hub(&[home], None)?.cache, PathBuf::from("/hf/hub"));
        Ok(())
    }

    #[test]
    fn offline_endpoint_and_token_are_read_and_the_token_is_not_shown() -> Result<(), HubError> {
        let own =
            hub(&[("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", " secret\n")], Some("/me"))?;
        assert_eq!(
            (own.endpoint.as_str(), own.token.as_deref()),
            ("http://mirror", Some("secret"))
        );
        assert!(!format!("{own:?}").contains("secret"));
        for (value, offline) in
            [("1", true), ("TRUE", true), ("on", true), ("0", false), ("", false)]
        {
            assert_eq!(hub(&[("HF_HUB_OFFLINE", value)], Some("/me"))?.offline, offline, "{value}");
        }
        let plain = hub(&[], Some("/me"))?;
        assert_eq!((plain.endpoint.as_str(), plain.token), (ENDPOINT, None));
        Ok(())
    }
}
