//! What is fetched, what is read from the cache, and in which order.

use super::server::{Repository, Server};
use super::{plain, repository, root, server, COMMIT, NAME};
use crate::support::TestResult;
use once_for_both::error::HubError;
use once_for_both::import::{self, Container, ImportOptions};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use std::fs;
use tch::Tensor;

#[test]
fn weights_and_configuration_are_fetched_once_and_then_read_from_the_cache() -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let hub = server.hub(cache.path());
    let files = hub.fetch(NAME)?;
    assert_eq!(fs::read(&files.weights)?, plain()?);
    assert_eq!(files.commit, COMMIT);
    let config = files.config.clone().ok_or("no config.json")?;
    assert_eq!(config, files.weights.with_file_name("config.json"));
    assert!(server.requests().len() >= 3);
    // As huggingface_hub in Python has it.
    let own = cache.path().join("models--timm--tiny");
    assert_eq!(fs::read_to_string(own.join("refs/main"))?, COMMIT);
    assert_eq!(files.weights, own.join("snapshots").join(COMMIT).join("model.safetensors"));

    let found = import::inspect_file(&files.weights, &ImportOptions::default(), None)?;
    let heads = found.report.assumed.iter().find(|own| own.property == "heads");
    assert_eq!(heads.and_then(|own| own.source.as_deref()), Some("config.json"));

    assert_eq!(hub.fetch(NAME)?, files);
    assert_eq!(hub.clone().offline(true).fetch(&format!("hub:{NAME}"))?, files);
    assert_eq!(hub.offline(true).fetch(&format!("{NAME}@{COMMIT}"))?, files);
    assert_eq!(server.requests(), Vec::<String>::new());
    Ok(())
}

#[test]
fn offline_without_the_weights_in_the_cache_is_refused_without_a_request() -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let refused = server.hub(cache.path()).offline(true).fetch(NAME);
    let Err(Error::Hub { name, source }) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(
        name == NAME && matches!(&*source, HubError::Offline { cache: own } if own == cache.path())
    );
    assert!(server.requests().is_empty());
    Ok(())
}

/// A branch with a slash, a tag with dots, a commit.
#[test]
fn revision_of_any_kind_has_files_of_its_own_commit() -> TestResult {
    let (mut own, cache) = (repository()?, tempfile::tempdir()?);
    for (revision, commit) in [("refs/pr/1", "aa11"), ("v1.0-rc.1", "bb22")] {
        own.revisions.insert(revision.into(), commit.into());
    }
    let server = Server::start(own)?;
    let hub = server.hub(cache.path());
    for (revision, commit) in [("refs/pr/1", "aa11"), ("v1.0-rc.1", "bb22"), (COMMIT, COMMIT)] {
        let files = hub.fetch(&format!("{NAME}@{revision}"))?;
        assert_eq!(files.commit, commit, "{revision}");
        server.requests();
        assert_eq!(hub.clone().offline(true).fetch(&format!("{NAME}@{revision}"))?, files);
    }
    Ok(())
}

#[test]
fn safetensors_are_preferred_and_a_file_of_torch_is_taken_where_there_are_none() -> TestResult {
    let torch = fs::read(root().join("deit_training.pth"))?;
    let mut own = repository()?;
    own.files.insert("pytorch_model.bin".into(), torch.clone());
    let (server, cache) = (Server::start(own)?, tempfile::tempdir()?);
    assert!(server.hub(cache.path()).fetch(NAME)?.weights.ends_with("model.safetensors"));
    assert!(!server.requests().iter().any(|path| path.ends_with(".bin")));

    let alone = Repository::new(&[("pytorch_model.bin", torch.clone())]);
    let (server, cache) = (Server::start(alone)?, tempfile::tempdir()?);
    let files = server.hub(cache.path()).fetch(NAME)?;
    assert_eq!(fs::read(&files.weights)?, torch);
    assert_eq!(files.config, None);
    assert!(!import::read(&files.weights)?.is_empty());
    Ok(())
}

/// A repository whose tensors are in two files.
fn sharded() -> TestResult<Repository> {
    let folder = tempfile::tempdir()?;
    let path = root().join("timm_plain.safetensors");
    let mut tensors = Tensor::read_safetensors(path)?;
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let (first, second) = tensors.split_at(7);
    let mut map = serde_json::Map::new();
    let mut files = Vec::new();
    for (name, part) in [("one.safetensors", first), ("two.safetensors", second)] {
        let path = folder.path().join(name);
        let named: Vec<(&str, &Tensor)> = part.iter().map(|(n, t)| (n.as_str(), t)).collect();
        Tensor::write_safetensors(&named, &path)?;
        map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), name.into())));
        files.push((name, fs::read(path)?));
    }
    let index = serde_json::json!({ "weight_map": map });
    files.push(("model.safetensors.index.json", index.to_string().into_bytes()));
    files.push(("config.json", b"{}".to_vec()));
    Ok(Repository::new(&files))
}

#[test]
fn sharded_weights_are_fetched_and_read_as_the_whole_file_is() -> TestResult {
    let (server, cache) = (Server::start(sharded()?)?, tempfile::tempdir()?);
    let hub = server.hub(cache.path());
    let files = hub.fetch(NAME)?;
    let read = import::open(&files.weights, &ImportOptions::default())?;
    assert_eq!(read.source.container, Container::Shards);
    let whole: Weights = import::read(&root().join("timm_plain.safetensors"))?;
    assert_eq!(read.weights.len(), whole.len());
    for (name, tensor) in &whole {
        assert!(read.weights[name].equal(tensor), "{name}");
    }
    assert_eq!(hub.offline(true).fetch(NAME)?, files);
    Ok(())
}

#[test]
fn sharded_weights_with_a_missing_file_are_refused_and_incomplete_in_the_cache() -> TestResult {
    let (mut own, cache) = (sharded()?, tempfile::tempdir()?);
    let lost = own.files.remove("two.safetensors").ok_or("no such shard")?;
    let server = Server::start(own)?;
    let hub = server.hub(cache.path());
    let refused = hub.fetch(NAME);
    assert!(matches!(
        &refused,
        Err(Error::Hub { source, .. })
            if matches!(&**source, HubError::NotFound { url } if url.ends_with("two.safetensors"))
    ));
    assert!(hub.clone().offline(true).fetch(NAME).is_err(), "one shard is not the weights");
    server.change(|own| drop(own.files.insert("two.safetensors".into(), lost)));
    server.requests();
    hub.fetch(NAME)?;
    assert!(!server.requests().iter().any(|path| path.ends_with("one.safetensors")));
    Ok(())
}

/// timm fetches the weights alone.
#[test]
fn cache_without_the_configuration_is_completed_where_there_is_a_network() -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let hub = server.hub(cache.path());
    let files = hub.fetch(NAME)?;
    let config = files.config.clone().ok_or("no config.json")?;
    fs::remove_file(&config)?;
    let offline = hub.clone().offline(true).fetch(NAME)?;
    assert_eq!((offline.weights, offline.config), (files.weights.clone(), None));
    server.requests();
    assert_eq!(hub.fetch(NAME)?, files);
    let requests = server.requests();
    assert!(requests.iter().any(|path| path.ends_with("config.json")), "{requests:?}");
    assert!(!requests.iter().any(|path| path.ends_with("safetensors")), "{requests:?}");
    Ok(())
}

#[test]
fn processes_that_fetch_the_same_weights_wait_for_one_another() -> TestResult {
    let (server, cache) = (server()?, tempfile::tempdir()?);
    let hub = server.hub(cache.path());
    let all: Vec<_> = std::thread::scope(|scope| {
        let fetch = || scope.spawn(|| hub.fetch(NAME));
        let running = [fetch(), fetch(), fetch()];
        running.into_iter().map(|own| own.join().map_err(|_| "a thread panicked")).collect()
    });
    for files in all {
        assert_eq!(fs::read(files??.weights)?, plain()?);
    }
    let weights = |path: &&String| path.ends_with("model.safetensors");
    assert_eq!(server.requests().iter().filter(weights).count(), 1);
    Ok(())
}
