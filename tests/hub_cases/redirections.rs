//! Servers to which the hub redirects, which get no token; what the one answer says of a file; and
//! servers that say nothing.

use super::server::{Answer, Change, Request, Server};
use super::{plain, repository, server, COMMIT, NAME};
use crate::support::TestResult;
use once_for_both::error::HubError;
use once_for_both::import::hub::Hub;
use once_for_both::Error;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// Redirects to an address, and says of the file what the hub says.
fn to(location: String) -> Change {
    Arc::new(move |answer| {
        let size = answer.body.len();
        let etag = answer.headers.iter().find(|(name, _)| name == "ETag");
        let etag = etag.map(|(_, value)| value.clone()).unwrap_or_default();
        let mut other = Answer::new(302, "elsewhere").header("ETag", "\"of-the-redirection\"");
        other.headers.extend(answer.headers.into_iter().filter(|(name, _)| name != "ETag"));
        let other = other.header("X-Linked-Etag", etag).header("X-Linked-Size", size);
        other.header("Location", &location)
    })
}

/// The first answers are right, the others changed.
fn after(count: usize, change: fn(Answer) -> Answer) -> Change {
    let answers = AtomicUsize::new(0);
    Arc::new(move |answer| match answers.fetch_add(1, Ordering::Relaxed) < count {
        true => answer,
        false => change(answer),
    })
}

fn tokens(requests: &[Request]) -> Vec<Option<&str>> {
    requests.iter().map(|own| own.headers.get("authorization").map(String::as_str)).collect()
}

fn names(folder: &Path) -> TestResult<Vec<String>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string()));
    let names: Result<Vec<_>, std::io::Error> = entries.collect();
    let mut names: Vec<String> = names?.into_iter().flatten().collect();
    names.sort();
    Ok(names)
}

fn refusal(hub: &Hub) -> TestResult<HubError> {
    match hub.fetch(NAME) {
        Err(Error::Hub { source, .. }) => Ok(*source),
        other => Err(format!("{other:?}").into()),
    }
}

/// The hub asks for a token, and its weights are on another server, which says of them what is wrong.
#[test]
fn token_is_not_sent_to_another_server_and_its_word_does_not_count() -> TestResult {
    let (mut own, storage, cache) = (repository()?, server()?, tempfile::tempdir()?);
    own.token = Some("secret".into());
    let place = format!("{}/{NAME}/resolve/{COMMIT}/model.safetensors?sign=x", storage.endpoint);
    own.change = Some(("model.safetensors", to(place)));
    let wrong: Change = Arc::new(|answer| answer.header("X-Repo-Commit", "../../x"));
    storage.change(|own| own.change = Some(("", wrong)));
    let hub = Server::start(own)?;
    let files = hub.hub(cache.path()).token("secret").fetch(NAME)?;
    assert_eq!(fs::read(&files.weights)?, plain()?);
    let (stored, asked) = (storage.received(), hub.received());
    assert_eq!(tokens(&stored), [None], "{stored:?}");
    // The revision, config.json, the weights.
    assert_eq!(tokens(&asked), [Some("Bearer secret"); 3], "{asked:?}");
    for request in stored.iter().chain(&asked) {
        let encoding = request.headers.get("accept-encoding").map(String::as_str);
        assert_eq!(encoding, Some("identity"), "{request:?}");
    }
    let etag = format!("{:08x}", crc32fast::hash(&plain()?));
    assert_eq!(fs::canonicalize(&files.weights)?.file_name(), Some(etag.as_ref()));
    assert_eq!(names(cache.path())?, [".locks", "models--timm--tiny"]);
    Ok(())
}

/// By a path and by an address.
#[test]
fn token_is_sent_again_to_the_hub_itself() -> TestResult {
    for is_path in [true, false] {
        let (mut own, cache) = (repository()?, tempfile::tempdir()?);
        own.token = Some("secret".into());
        let hub = Server::start(own)?;
        let place = format!("/{NAME}/resolve/{COMMIT}/model.safetensors?again");
        let redirect = to(if is_path { place } else { format!("{}{place}", hub.endpoint) });
        let answers = AtomicUsize::new(0);
        let first: Change = Arc::new(move |answer| {
            let is_first = answers.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first {
                redirect(answer)
            } else {
                answer
            }
        });
        hub.change(|own| own.change = Some(("model.safetensors", first)));
        let files = hub.hub(cache.path()).token("secret").fetch(NAME)?;
        assert_eq!(fs::read(&files.weights)?, plain()?);
        assert_eq!(tokens(&hub.received()), [Some("Bearer secret"); 4], "path: {is_path}");
    }
    Ok(())
}

/// A hub whose first answer about a file is right: there is no second question.
#[test]
fn answer_that_changes_afterwards_leads_nowhere() -> TestResult {
    for change in [
        (|answer| answer.header("X-Repo-Commit", "../../../x")) as fn(Answer) -> Answer,
        |answer| answer.header("ETag", "\"../../x\""),
        |answer| answer.header("X-Repo-Commit", "bb22"),
    ] {
        let (mut own, folder) = (repository()?, tempfile::tempdir()?);
        own.change = Some(("model.safetensors", after(1, change)));
        let (hub, cache) = (Server::start(own)?, folder.path().join("cache"));
        let files = hub.hub(&cache).fetch(NAME)?;
        assert_eq!((fs::read(&files.weights)?, files.commit.as_str()), (plain()?, COMMIT));
        assert_eq!(names(folder.path())?, ["cache"]);
        assert_eq!(names(&cache)?, [".locks", "models--timm--tiny"]);
        assert_eq!(names(&cache.join("models--timm--tiny/snapshots"))?, [COMMIT]);
    }
    Ok(())
}

#[test]
fn weak_etag_is_the_name_of_the_contents() -> TestResult {
    let (mut own, cache) = (repository()?, tempfile::tempdir()?);
    let weak: Change = Arc::new(|answer| answer.header("ETag", "W/\"abc\""));
    own.change = Some(("model.safetensors", weak));
    let files = Server::start(own)?.hub(cache.path()).fetch(NAME)?;
    assert_eq!(fs::canonicalize(&files.weights)?.file_name(), Some("abc".as_ref()));
    Ok(())
}

/// Starts a server that sends this and then nothing; its thread ends with the process.
fn silent(start: &'static str) -> TestResult<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(start.as_bytes());
            open.push(stream);
        }
    });
    Ok(endpoint)
}

#[test]
fn silent_server_is_given_up() -> TestResult {
    let cache = tempfile::tempdir()?;
    let timeout = Duration::from_millis(50);
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf";
    for start in ["", "HTTP/1.1 200", half] {
        let endpoint = silent(start)?;
        let error = refusal(&Hub::new(cache.path()).endpoint(&endpoint).timeout(timeout))?;
        let is_expected = match &error {
            HubError::Unreachable { endpoint: own, .. } => start != half && *own == endpoint,
            HubError::Transfer { .. } => start == half,
            _ => false,
        };
        assert!(is_expected, "{start:?}: {error:?}");

        // The server with the files alone.
        let mut own = repository()?;
        own.change = Some(("model.safetensors", to(format!("{endpoint}/x?sign=secret"))));
        let hub = Server::start(own)?.hub(cache.path()).timeout(timeout);
        let error = refusal(&hub)?;
        let is_expected = match &error {
            HubError::Unreachable { endpoint: own, .. } => start != half && *own == endpoint,
            HubError::Transfer { .. } => start == half,
            _ => false,
        };
        assert!(is_expected && !format!("{error:?}").contains("secret"), "{start:?}: {error:?}");
        assert!(hub.offline(true).fetch(NAME).is_err());
    }
    Ok(())
}

#[test]
fn endpoint_and_token_that_are_none_are_refused_by_their_variable() -> TestResult {
    let cache = tempfile::tempdir()?;
    for endpoint in ["", "huggingface.co", "ftp://huggingface.co", "http:", "http://a b"] {
        let error = refusal(&Hub::new(cache.path()).endpoint(endpoint))?;
        assert!(matches!(&error, HubError::Endpoint { found } if found == endpoint), "{error:?}");
    }
    let error = refusal(&server()?.hub(cache.path()).token("secret\nother"))?;
    assert!(matches!(error, HubError::Token), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"));
    Ok(())
}
