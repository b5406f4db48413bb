//! Requests to the hub. Redirections are followed here and not by ureq, because the token may go to
//! no other server, and because the answer that redirects says what the file is.

use super::name::is_part;
use super::Hub;
use crate::error::HubError;
use base64::prelude::{Engine, BASE64_STANDARD};
use std::time::Duration;
use ureq::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, LOCATION};
use ureq::http::{HeaderValue, Response, Uri};
use ureq::{Agent, Body};

/// Redirections that are followed, one after the other.
const REDIRECTIONS: usize = 10;
/// The longest time until a connection is there.
const CONNECTING: Duration = Duration::from_secs(10);
/// The longest list of files, in bytes.
const LONGEST: u64 = 64 << 20;

/// A client of one hub.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    endpoint: Uri,
    authorization: Option<HeaderValue>,
    agent: Agent,
}

/// What the hub says of a file, all of it in one answer.
pub(super) struct About {
    pub(super) commit: String,
    pub(super) etag: String,
    length: Option<u64>,
}

/// A file of the hub, before its contents are read.
pub(super) struct Contents {
    pub(super) about: About,
    pub(super) length: u64,
    pub(super) body: Body,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub) -> Result<Self, HubError> {
        if hub.unescaped {
            return Err(HubError::Login { server: hub.endpoint.clone() });
        }
        let endpoint = hub.endpoint.parse().ok().filter(is_web);
        let endpoint =
            endpoint.ok_or_else(|| HubError::Endpoint { found: hub.endpoint.clone() })?;
        let basic = hub.login.as_ref().map(|login| {
            let colon = if login.contains(':') { "" } else { ":" };
            let plain = [unescaped(login), colon.into()].concat();
            format!("Basic {}", BASE64_STANDARD.encode(plain))
        });
        // As in Python, the login has precedence.
        let sent = basic.or_else(|| hub.token.as_ref().map(|token| format!("Bearer {token}")));
        let mut authorization =
            sent.map(HeaderValue::try_from).transpose().map_err(|_| HubError::Token)?;
        if let Some(value) = &mut authorization {
            // ureq then keeps it out of its log.
            value.set_sensitive(true);
        }
        let connecting = Some(hub.timeout.min(CONNECTING));
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            // Without it, an answer may be compressed and says no length.
            .accept_encoding("identity")
            .timeout_resolve(connecting)
            .timeout_connect(connecting)
            .timeout_per_read(Some(hub.timeout))
            .timeout_per_write(Some(hub.timeout));
        Ok(Self { hub, endpoint, authorization, agent: config.build().new_agent() })
    }

    /// Returns the address of these parts below the hub's own.
    pub(super) fn url(&self, parts: &[&str]) -> String {
        let mut url = self.hub.endpoint.clone();
        for part in parts {
            url.push('/');
            for byte in part.bytes() {
                match byte {
                    b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' => {
                        url.push(char::from(byte));
                    }
                    other => url.push_str(&format!("%{other:02X}")),
                }
            }
        }
        url
    }

    /// Returns the text at an address.
    pub(super) fn text(&self, url: &str) -> Result<Vec<u8>, HubError> {
        let body = self.get(url)?.1.into_body();
        body.into_with_config().limit(LONGEST).read_to_vec().map_err(|error| match error {
            error @ ureq::Error::BodyExceedsLimit(_) => wrong(url, error.to_string()),
            error => HubError::Transfer { url: url.into(), source: error.into_io() },
        })
    }

    /// Returns a file, its contents not yet read.
    pub(super) fn file(&self, url: &str) -> Result<Contents, HubError> {
        let (about, response) = self.get(url)?;
        let about = about.ok_or_else(|| wrong(url, "no X-Repo-Commit or ETag".into()))?;
        let encoding = response.headers().get(CONTENT_ENCODING);
        if let Some(encoding) = encoding.filter(|own| *own != "identity") {
            return Err(wrong(url, format!("Content-Encoding {encoding:?}")));
        }
        let length = about.length.or_else(|| number(header(&response, CONTENT_LENGTH.as_str())));
        let length = length.ok_or_else(|| wrong(url, "no Content-Length".into()))?;
        Ok(Contents { about, length, body: response.into_body() })
    }

    /// Asks for an address and follows redirections, up to an answer with contents. What a file is is
    /// said by the last answer of the hub itself; where it says nothing, by the first that does.
    fn get(&self, url: &str) -> Result<(Option<About>, Response<Body>), HubError> {
        let mut at: Uri = url.parse().map_err(|error| wrong(url, format!("{error}")))?;
        let mut about = None;
        for _ in 0..=REDIRECTIONS {
            let own = is_same_server(&at, &self.endpoint);
            let response = self.ask(url, &at, own)?;
            let status = response.status();
            if status != 200 && !status.is_redirection() {
                return Err(failed(url, status.as_u16(), self.hub.login.is_some()));
            }
            if own || about.is_none() {
                about = About::of(&response).map_err(|reason| wrong(url, reason))?.or(about);
            }
            if status == 200 {
                return Ok((about, response));
            }
            let next = header(&response, LOCATION.as_str()).and_then(|place| target(&at, place));
            at = next.ok_or_else(|| wrong(url, "a redirection without a valid Location".into()))?;
        }
        Err(wrong(url, format!("more than {REDIRECTIONS} redirections")))
    }

    /// Asks for one address, with login or token if it is on the hub's own server.
    fn ask(&self, url: &str, at: &Uri, own: bool) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(at.clone());
        if let Some(value) = self.authorization.as_ref().filter(|_| own) {
            request = request.header(AUTHORIZATION, value.clone());
        }
        request.call().map_err(|error| match error {
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                wrong(url, error.to_string())
            }
            source => {
                // Without the path, which may have a signature in it.
                let other = || format!("{}://{}", at.scheme_str().unwrap_or_default(), host(at));
                let endpoint = if own { self.hub.endpoint.clone() } else { other() };
                HubError::Unreachable { endpoint, source: Box::new(source) }
            }
        })
    }
}

impl About {
    /// Returns what an answer says; `None` if it has no commit or no etag.
    fn of(response: &Response<Body>) -> Result<Option<Self>, String> {
        // Of a file on another server the etag and length there, not those of the redirection.
        let etag = header(response, "x-linked-etag").or_else(|| header(response, ETAG.as_str()));
        let (Some(commit), Some(etag)) = (header(response, "x-repo-commit"), etag) else {
            return Ok(None);
        };
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        if let Some(own) = [commit, etag].into_iter().find(|own| !is_part(own)) {
            return Err(format!("commit or etag {own:?}"));
        }
        let own = header(response, CONTENT_LENGTH.as_str()).filter(|_| response.status() == 200);
        let length = number(header(response, "x-linked-size").or(own));
        Ok(Some(Self { commit: commit.into(), etag: etag.into(), length }))
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.trim().parse().ok()
}

/// Returns where a redirection from `at` leads: to an address, or to a path on the same server; never from
/// https to http.
fn target(at: &Uri, location: &str) -> Option<Uri> {
    let next: Uri = location.parse().ok()?;
    if location.starts_with('/') {
        let mut parts = at.clone().into_parts();
        parts.path_and_query = next.into_parts().path_and_query;
        return Uri::from_parts(parts).ok();
    }
    let is_safe = |next: &Uri| at.scheme() == next.scheme() || at.scheme_str() == Some("http");
    Some(next).filter(is_web).filter(is_safe)
}

/// Returns the bytes of a part of an address in which `%40` stands for `@`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, used) = match number.filter(|_| first == b'%') {
            Some(number) => (number, 2),
            None => (first, 0),
        };
        bytes.push(byte);
        rest = &after[used..];
    }
    bytes
}

fn is_web(address: &Uri) -> bool {
    ["http", "https"].contains(&address.scheme_str().unwrap_or_default())
        && address.host().is_some()
}

/// Whether scheme, host and port are the same.
fn is_same_server(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && host(one) == host(other)
}

/// Returns host and port.
fn host(address: &Uri) -> String {
    let usual = if address.scheme_str() == Some("https") { 443 } else { 80 };
    let host = address.host().unwrap_or_default().to_ascii_lowercase();
    format!("{host}:{}", address.port_u16().unwrap_or(usual))
}

fn wrong(url: &str, reason: String) -> HubError {
    HubError::Answer { url: url.into(), reason }
}

/// The error of an answer of failure, to a request with or without a login.
fn failed(url: &str, status: u16, login: bool) -> HubError {
    let url = url.to_owned();
    match status {
        404 => HubError::NotFound { url },
        401 | 403 => HubError::Denied { url, status, login },
        status => HubError::Status { url, status },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Result<Uri, String> {
        text.parse().map_err(|error| format!("{text}: {error}"))
    }

    #[test]
    fn server_is_the_same_by_scheme_host_and_port() -> Result<(), String> {
        let hub = uri("https://hub.co/mirror")?;
        for (other, expected) in [
            ("https://hub.co/x", true),
            ("https://HUB.co:443", true),
            ("http://hub.co/x", false),
            ("http://hub.co:443", false),
            ("https://hub.co:8443", false),
            ("https://hub.co.evil.com", false),
            ("https://hub.co@evil.com", false),
            ("https://hub.co:443@evil.com/", false),
            ("https://cdn.hub.co", false),
        ] {
            assert_eq!(is_same_server(&uri(other)?, &hub), expected, "{other}");
        }
        Ok(())
    }

    #[test]
    fn redirection_leads_to_an_address_or_a_path_and_not_away_from_https() -> Result<(), String> {
        let from = ["https://hub.co:8443/a/b?c", "http://hub.co/a"];
        for (location, from_https, from_http) in [
            ("/x?y=1", Some("https://hub.co:8443/x?y=1"), Some("http://hub.co/x?y=1")),
            ("https://cdn.co/x", Some("https://cdn.co/x"), Some("https://cdn.co/x")),
            ("http://cdn.co/x", None, Some("http://cdn.co/x")),
            ("file:///etc/passwd", None, None),
            ("evil.com", None, None),
            ("", None, None),
        ] {
            for (from, expected) in from.iter().zip([from_https, from_http]) {
                let found = target(&uri(from)?, location).map(|own| own.to_string());
                assert_eq!(found.as_deref(), expected, "{from} {location}");
            }
        }
        Ok(())
    }
}
