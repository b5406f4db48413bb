//! What is logged: weights without their configuration, and waiting for another process.

use super::server::{Answer, Change};
use super::{plain, server, NAME};
use crate::support::TestResult;
use fs4::FileExt;
use once_for_both::error::HubError;
use once_for_both::Error;
use std::error::Error as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::mpsc::{channel, Sender};
use std::sync::Arc;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Sends messages from `info` on.
struct Messages(Sender<String>);

impl Subscriber for Messages {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        let _ = self.0.send(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The level, and all fields.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

/// What timm has fetched, or of a repository that has no configuration.
#[test]
fn weights_without_configuration_are_taken_with_a_warning_where_there_is_no_network() -> TestResult
{
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let files = server.hub(cache.path()).fetch(NAME)?;
    fs::remove_file(files.config.ok_or("no config.json")?)?;
    let closed = format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?);
    let hub = server.hub(cache.path()).endpoint(&closed);
    let (sender, messages) = channel();
    let found = tracing::subscriber::with_default(Messages(sender), || hub.fetch(NAME))?;
    assert_eq!((fs::read(found.weights)?, found.config), (plain()?, None));
    let messages: Vec<String> = messages.try_iter().collect();
    let expected = ["WARN", &closed, "without config.json", "model.safetensors"];
    assert!(
        messages.iter().any(|own| expected.iter().all(|part| own.contains(part))),
        "{messages:?}"
    );
    // Without a request.
    let (sender, messages) = channel();
    let offline = server.hub(cache.path()).offline(true);
    tracing::subscriber::with_default(Messages(sender), || offline.fetch(NAME))?;
    let messages: Vec<String> = messages.try_iter().collect();
    let expected = ["WARN", "HF_HUB_OFFLINE", "without config.json"];
    assert!(
        messages.iter().any(|own| expected.iter().all(|part| own.contains(part))),
        "{messages:?}"
    );
    // A cache that cannot be written to.
    fs::remove_dir_all(cache.path().join(".locks"))?;
    fs::write(cache.path().join(".locks"), "no folder")?;
    assert!(server.hub(cache.path()).fetch(NAME).is_ok());
    Ok(())
}

/// A hub that is overloaded, a gateway without it, a transfer that breaks off.
#[test]
fn weights_without_configuration_are_taken_with_a_warning_where_the_hub_gives_nothing_now(
) -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let files = server.hub(cache.path()).fetch(NAME)?;
    fs::remove_file(files.config.ok_or("no config.json")?)?;
    fs::remove_dir_all(cache.path().join("models--timm--tiny/blobs"))?;
    fs::remove_file(&files.weights)?;
    fs::write(&files.weights, plain()?)?;
    let fetch = |part, change: Change| {
        server.change(|own| own.change = Some((part, change)));
        let (sender, messages) = channel();
        let found = tracing::subscriber::with_default(Messages(sender), || {
            server.hub(cache.path()).fetch(NAME)
        });
        (found, messages.try_iter().collect::<Vec<_>>())
    };
    for status in [429, 500, 502, 503] {
        let (found, messages) = fetch("/api/", Arc::new(move |_| Answer::new(status, "not now")));
        assert_eq!((fs::read(found?.weights)?, status), (plain()?, status));
        let expected = ["WARN".into(), format!("got {status}"), "without config.json".into()];
        let is_expected = |own: &&String| expected.iter().all(|part| own.contains(part));
        assert_eq!(messages.iter().filter(is_expected).count(), 1, "{messages:?}");
    }
    let half = |answer: Answer| Answer { body: answer.body[..9].to_vec(), ..answer };
    let (found, messages) = fetch("config.json", Arc::new(half));
    assert_eq!(found?.config, None);
    assert!(messages.iter().any(|own| own.contains("WARN")), "{messages:?}");
    // Nothing that a later try would change; a token that has expired is the user's to renew.
    let damaged = |answer: Answer| answer.header("ETag", "\"../x\"");
    let cases: [(_, Change); 4] = [
        ("/api/", Arc::new(|_| Answer::new(401, "expired"))),
        ("/api/", Arc::new(|_| Answer::new(404, "no such repository"))),
        ("/api/", Arc::new(|_| Answer::new(200, "<html>"))),
        ("config.json", Arc::new(damaged)),
    ];
    for (part, change) in cases {
        let (found, _) = fetch(part, change);
        assert!(found.is_err(), "{part}: {found:?}");
    }
    Ok(())
}

/// A mirror behind a login, `HF_ENDPOINT=https://USER:PASSWORD@HOST`.
#[test]
fn password_in_the_address_is_sent_and_is_in_no_message() -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let with_login = |address: &str| address.replace("http://", "http://me:s%65cret@");
    let hub = server.hub(cache.path()).endpoint(with_login(&server.endpoint));
    hub.clone().token("of the hub").fetch(NAME)?;
    for request in server.received() {
        // me:secret
        let sent = request.headers.get("authorization");
        assert_eq!(sent.map(String::as_str), Some("Basic bWU6c2VjcmV0"), "{request:?}");
    }
    let missing = hub.fetch("timm/other");
    let closed = format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?);
    let unreachable = hub.clone().endpoint(with_login(&closed)).fetch("timm/other");
    for (refused, address) in [(missing, &server.endpoint), (unreachable, &closed)] {
        let error = refused.err().ok_or("fetched")?;
        let mut text = format!("{error:?} {error}");
        let mut cause = error.source();
        while let Some(own) = cause {
            text = format!("{text} {own}");
            cause = own.source();
        }
        assert!(text.contains(address), "{text}");
        assert!(!text.contains("cret"), "{text}");
    }
    let shown = format!("{hub:?}");
    assert!(shown.contains(&server.endpoint) && !shown.contains("cret"), "{shown}");
    // A wrong password: HF_TOKEN, which is not sent beside it, is no way out.
    server.change(|own| own.token = Some("another".into()));
    let other = tempfile::tempdir()?;
    let denied = server.hub(other.path()).endpoint(with_login(&server.endpoint)).fetch(NAME);
    let Err(Error::Hub { source, .. }) = denied else { return Err("fetched".into()) };
    assert!(matches!(*source, HubError::Denied { login: true, .. }), "{source:?}");
    let advice = "correct the name, or user and password in HF_ENDPOINT";
    assert!(source.to_string().contains(advice), "{source}");
    Ok(())
}

#[test]
fn waiting_for_another_process_is_logged() -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let folder = cache.path().join(".locks/models--timm--tiny");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("once-for-both.lock"))?;
    FileExt::lock(&lock)?;
    let hub = server.hub(cache.path());
    let (sender, messages) = channel();
    let running = std::thread::spawn(move || {
        tracing::subscriber::with_default(Messages(sender), || hub.fetch(NAME))
    });
    let message = messages.recv_timeout(Duration::from_secs(30));
    assert!(server.requests().is_empty());
    drop(lock);
    let files = running.join().map_err(|_| "the thread panicked")??;
    assert_eq!(fs::read(files.weights)?, plain()?);
    let message = message?;
    assert!(
        message.starts_with("INFO") && message.contains("waits for another process"),
        "{message}"
    );
    Ok(())
}
