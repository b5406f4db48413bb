//! Answers that are refused, each by its own error, and leave nothing in the cache that is not whole.

use super::server::{Answer, Repository, Server};
use super::{plain, repository, server, COMMIT, NAME};
use crate::support::TestResult;
use once_for_both::error::HubError;
use once_for_both::import::hub::Hub;
use once_for_both::Error;
use std::net::TcpListener;
use std::sync::Arc;

/// Returns why the files cannot be fetched.
fn refusal(hub: &Hub, name: &str) -> TestResult<HubError> {
    match hub.fetch(name) {
        Err(Error::Hub { name: own, source }) if own == name => Ok(*source),
        other => Err(format!("{other:?}").into()),
    }
}

#[test]
fn hub_that_cannot_be_reached_is_named_with_what_to_do() -> TestResult {
    let cache = tempfile::tempdir()?;
    // A port at which nobody listens any more.
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = format!("http://{closed}");
    let error = refusal(&Hub::new(cache.path()).endpoint(&endpoint), NAME)?;
    assert!(matches!(&error, HubError::Unreachable { endpoint: own, .. } if *own == endpoint));
    let text = error.to_string();
    assert!(text.starts_with(&endpoint) && text.contains("HF_ENDPOINT"), "{text}");
    Ok(())
}

#[test]
fn repository_or_revision_that_is_not_there_is_refused_with_its_address() -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let hub = server.hub(cache.path());
    for name in ["timm/other", "timm/tiny@v2"] {
        let error = refusal(&hub, name)?;
        let repository = name.split('@').next().unwrap_or_default();
        assert!(
            matches!(&error, HubError::NotFound { url } if url.contains(repository)),
            "{name}: {error}"
        );
    }
    Ok(())
}

#[test]
fn private_repository_is_refused_without_its_token_and_fetched_with_it() -> TestResult {
    let (mut own, cache) = (repository()?, tempfile::tempdir()?);
    own.token = Some("secret".into());
    let server = Server::start(own)?;
    let hub = server.hub(cache.path());
    for hub in [hub.clone(), hub.clone().token("other")] {
        let error = refusal(&hub, NAME)?;
        assert!(matches!(error, HubError::Denied { status: 401, .. }), "{error}");
        assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    }
    assert_eq!(std::fs::read(hub.token("secret").fetch(NAME)?.weights)?, plain()?);
    Ok(())
}

/// How an answer about a file is changed, and what the error then is.
type Case = (&'static str, fn(Answer) -> Answer, fn(&HubError) -> bool);

const CASES: [Case; 15] = [
    // The connection ends before the promised length.
    (
        "model.safetensors",
        |answer| Answer { body: answer.body[..answer.body.len() / 2].to_vec(), ..answer },
        |error| matches!(error, HubError::Transfer { .. } | HubError::Unreachable { .. }),
    ),
    // A whole answer that is shorter than the file.
    (
        "model.safetensors",
        |answer| {
            let half = answer.body.len().div_ceil(2);
            let answer = answer.clone().header("X-Linked-Size", answer.body.len());
            Answer { body: answer.body[..half].to_vec(), promised: half, ..answer }
        },
        |error| matches!(error, HubError::Length { actual, expected, .. } if actual < expected),
    ),
    (
        "model.safetensors",
        |_| Answer::new(503, "later"),
        |error| matches!(error, HubError::Status { status: 503, .. }),
    ),
    (
        "model.safetensors",
        |answer| answer.header("X-Repo-Commit", "../../x"),
        |error| matches!(error, HubError::Answer { reason, .. } if reason.contains("../../x")),
    ),
    (
        "model.safetensors",
        |answer| answer.header("ETag", "\"../x\""),
        |error| matches!(error, HubError::Answer { reason, .. } if reason.contains("../x")),
    ),
    (
        "model.safetensors",
        |answer| Answer { headers: Vec::new(), ..answer },
        |error| matches!(error, HubError::Answer { .. }),
    ),
    (
        "model.safetensors",
        |answer| Answer { status: 302, ..answer },
        |error| matches!(error, HubError::Answer { .. }),
    ),
    // Of another commit than was asked for.
    (
        "model.safetensors",
        |answer| answer.header("X-Repo-Commit", "bb22"),
        |error| matches!(error, HubError::Answer { reason, .. } if reason.contains("bb22")),
    ),
    (
        "model.safetensors",
        |answer| answer.header("Content-Encoding", "gzip"),
        |error| matches!(error, HubError::Answer { reason, .. } if reason.contains("gzip")),
    ),
    // Redirections to what is not there, to itself, and to another scheme.
    (
        "config.json",
        |answer| Answer { status: 302, ..answer.header("Location", "/timm/other.json") },
        |error| matches!(error, HubError::NotFound { .. }),
    ),
    (
        "safetensors",
        |answer| Answer { status: 307, ..answer.header("Location", "/model.safetensors") },
        |error| matches!(error, HubError::Answer { reason, .. } if reason.contains("more than 10")),
    ),
    (
        "safetensors",
        |answer| Answer { status: 302, ..answer.header("Location", "file:///etc/passwd") },
        |error| matches!(error, HubError::Answer { reason, .. } if reason.contains("Location")),
    ),
    (
        "safetensors",
        |answer| Answer { status: 206, ..answer },
        |error| matches!(error, HubError::Status { status: 206, .. }),
    ),
    ("/api/", |_| Answer::new(200, "<html>"), |error| matches!(error, HubError::Answer { .. })),
    (
        "/api/",
        |_| Answer::new(200, r#"{"sha": "../x", "siblings": []}"#),
        |error| matches!(error, HubError::Answer { reason, .. } if reason.contains("../x")),
    ),
];

#[test]
fn wrong_answer_is_refused_and_a_right_one_later_is_taken() -> TestResult {
    for (at, (part, change, is_expected)) in CASES.into_iter().enumerate() {
        let (mut own, cache) = (repository()?, tempfile::tempdir()?);
        own.change = Some((part, Arc::new(change)));
        let server = Server::start(own)?;
        let hub = server.hub(cache.path());
        let error = refusal(&hub, NAME)?;
        assert!(is_expected(&error), "case {at}: {error:?}");
        assert!(hub.clone().offline(true).fetch(NAME).is_err(), "case {at}");
        server.change(|own| own.change = None);
        assert_eq!(std::fs::read(hub.fetch(NAME)?.weights)?, plain()?, "case {at}");
        // Nothing beside the repository.
        for entry in std::fs::read_dir(cache.path())? {
            let name = entry?.file_name();
            assert!(name == ".locks" || name == "models--timm--tiny", "case {at}: {name:?}");
        }
    }
    Ok(())
}

#[test]
fn repository_without_weights_is_refused_with_its_files() -> TestResult {
    let own = Repository::new(&[("README.md", b"text".to_vec()), ("tf_model.h5", b"h5".to_vec())]);
    let (server, cache) = (Server::start(own)?, tempfile::tempdir()?);
    let error = refusal(&server.hub(cache.path()), NAME)?;
    let HubError::NoWeights { found, expected } = &error else { return Err(error.into()) };
    assert_eq!(*found, ["README.md", "tf_model.h5"]);
    assert!(expected.contains("model.safetensors") && expected.contains("pytorch_model.bin"));
    Ok(())
}

#[test]
fn index_that_leads_out_of_its_folder_is_refused() -> TestResult {
    let index = br#"{"weight_map": {"head.weight": "../../../own.safetensors"}}"#;
    let own = Repository::new(&[("model.safetensors.index.json", index.to_vec())]);
    let (server, cache) = (Server::start(own)?, tempfile::tempdir()?);
    let error = refusal(&server.hub(cache.path()), NAME)?;
    assert!(
        matches!(&error, HubError::Index { path, .. } if path.ends_with("model.safetensors.index.json"))
    );
    assert!(!server.requests().iter().any(|path| path.contains("own.safetensors")));
    Ok(())
}

#[test]
fn cache_that_is_a_file_is_refused_by_its_path() -> TestResult {
    let (server, folder) = (server()?, tempfile::tempdir()?);
    let cache = folder.path().join("file");
    std::fs::write(&cache, "text")?;
    let error = refusal(&server.hub(&cache), NAME)?;
    assert!(matches!(&error, HubError::Cache { path, .. } if path.starts_with(&cache)), "{error}");
    Ok(())
}

/// A transfer that was killed, of hf-hub or of this crate: it starts anew.
#[test]
fn interrupted_transfer_is_started_anew() -> TestResult {
    let weights = plain()?;
    for end in [".part", ".incomplete", ".partial"] {
        let (server, cache) = (server()?, tempfile::tempdir()?);
        let blobs = cache.path().join("models--timm--tiny/blobs");
        std::fs::create_dir_all(&blobs)?;
        let etag = format!("{:08x}", crc32fast::hash(&weights));
        std::fs::write(blobs.join(format!("{etag}{end}")), [7; 1000])?;
        // Contents of this etag that are not whole.
        std::fs::write(blobs.join(&etag), &weights[..100])?;
        let files = server.hub(cache.path()).fetch(NAME)?;
        assert_eq!(
            (std::fs::read(files.weights)?, files.commit.as_str()),
            (weights.clone(), COMMIT)
        );
    }
    Ok(())
}
