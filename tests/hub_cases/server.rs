//! A server that answers as the hub does, on the loopback address.

use super::{COMMIT, NAME};
use crate::support::TestResult;
use once_for_both::import::hub::Hub;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A request: its path, and its headers by their names in small letters.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

/// An answer. `promised` is the length in its header.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub promised: usize,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), promised: body.len(), body }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self.headers.push((name.into(), value.to_string()));
        self
    }
}

/// Makes another answer of a right one.
pub type Change = Arc<dyn Fn(Answer) -> Answer + Send + Sync>;

/// The files of a repository, and the commits of its revisions.
#[derive(Clone)]
pub struct Repository {
    pub files: BTreeMap<String, Vec<u8>>,
    pub revisions: BTreeMap<String, String>,
    /// The token that it asks for.
    pub token: Option<String>,
    /// Changes answers to paths that contain a text.
    pub change: Option<(&'static str, Change)>,
}

impl Repository {
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).into(), bytes.clone())).collect();
        let revisions = BTreeMap::from([("main".into(), COMMIT.into())]);
        Self { files, revisions, token: None, change: None }
    }

    fn answer(&self, request: &Request) -> Answer {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if bearer.is_some() && request.headers.get("authorization") != bearer.as_ref() {
            return Answer::new(401, "no access");
        }
        let about = format!("/api/models/{NAME}/revision/");
        let answer = match request.path.strip_prefix(&about) {
            Some(revision) => self.about(&revision.replace("%2F", "/")),
            None => self.file(request),
        };
        match &self.change {
            Some((part, change)) if request.path.contains(part) => change(answer),
            _ => answer,
        }
    }

    fn about(&self, revision: &str) -> Answer {
        let commits = || self.revisions.values().find(|commit| *commit == revision);
        let Some(commit) = self.revisions.get(revision).or_else(commits) else {
            return Answer::new(404, "no such revision");
        };
        let names = self.files.keys().map(|name| serde_json::json!({ "rfilename": name }));
        let siblings: Vec<_> = names.collect();
        let about = serde_json::json!({ "sha": commit, "siblings": siblings });
        Answer::new(200, about.to_string())
    }

    fn file(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        let path = path.strip_prefix(&format!("/{NAME}/resolve/"));
        let parts = path.and_then(|path| path.split_once('/'));
        let found = parts.and_then(|(commit, name)| Some((commit, self.files.get(name)?)));
        let Some((commit, bytes)) = found else { return Answer::new(404, "no such file") };
        Answer::new(200, bytes.as_slice())
            .header("ETag", format!("\"{:08x}\"", crc32fast::hash(bytes)))
            .header("X-Repo-Commit", commit)
    }
}

/// A running server; its thread ends with the process.
pub struct Server {
    pub endpoint: String,
    repository: Arc<Mutex<Repository>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(repository: Repository) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let server = Self {
            endpoint,
            repository: Arc::new(Mutex::new(repository)),
            requests: Arc::default(),
        };
        let (repository, requests) = (Arc::clone(&server.repository), Arc::clone(&server.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is no fault of the server.
                let _ = serve(&stream, &repository, &requests);
            }
        });
        Ok(server)
    }

    /// The hub at this server, with its cache in a folder.
    pub fn hub(&self, cache: &Path) -> Hub {
        Hub::new(cache).endpoint(&self.endpoint)
    }

    /// Changes the repository.
    pub fn change(&self, change: impl FnOnce(&mut Repository)) {
        change(&mut locked(&self.repository));
    }

    /// Returns the paths of the requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        self.received().into_iter().map(|own| own.path).collect()
    }

    /// Returns the requests since the last call.
    pub fn received(&self) -> Vec<Request> {
        std::mem::take(&mut *locked(&self.requests))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(
    stream: &TcpStream,
    repository: &Mutex<Repository>,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let request = Request { path, headers };
    locked(requests).push(request.clone());
    let answer = locked(repository).answer(&request);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {} Answer\r\nConnection: close\r\n", answer.status)?;
    write!(stream, "Content-Length: {}\r\n", answer.promised)?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&answer.body)
}
