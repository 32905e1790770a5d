//! A small server on loopback that behaves like the hub: large files are stored on a second host, that is another port, which
//! refuses whoever brings a token, as signed addresses do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Who may read a repository.
#[derive(Clone, Copy, PartialEq)]
pub enum Gate {
    Open,
    /// As if it did not exist for those without the token.
    Private(&'static str),
    /// Listed for all, read by those with the token.
    Gated(&'static str),
}

/// One repository: `main`, `v1` and [`COMMIT`] are the same.
#[derive(Clone)]
pub struct Repository {
    pub name: &'static str,
    pub gate: Gate,
    /// Contents by path; those that end in `.safetensors` or hold `.onnx` are large.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What `sha` in the listing is.
    pub commit: &'static str,
}

impl Repository {
    pub fn new(name: &'static str, files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        Self { name, gate: Gate::Open, files, commit: COMMIT }
    }
}

/// What goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// This status instead, with these headers.
    Status(u16, &'static str),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes of the body.
    Stall(usize),
    /// Ranges are not known: all of it comes.
    NoRanges,
    /// The body ends after so many bytes, and the server says that this is all.
    Short(usize),
    /// Other bytes than the right ones.
    Garbled,
    /// This header's value is another one.
    Header(&'static str, &'static str),
}

/// A fault for the next `times` requests with that method whose path holds `path`.
struct Planned {
    method: &'static str,
    path: &'static str,
    times: usize,
    fault: Fault,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Whether it came to the host that stores files.
    pub storage: bool,
    pub method: String,
    pub path: String,
    /// The first byte asked for, if a range was.
    pub range: Option<usize>,
    pub token: Option<String>,
}

struct State {
    repositories: Vec<Repository>,
    /// Old and new names.
    renamed: Vec<(&'static str, &'static str)>,
    faults: Vec<Planned>,
    log: Vec<Request>,
}

/// The hub and its storage.
pub struct Hub {
    state: Arc<Mutex<State>>,
    pub address: SocketAddr,
}

impl Hub {
    pub fn start(repositories: Vec<Repository>) -> Self {
        let state = State { repositories, renamed: vec![], faults: vec![], log: vec![] };
        let state = Arc::new(Mutex::new(state));
        let storage = serve(&state, None);
        let address = serve(&state, Some(storage));
        Self { state, address }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn rename(&self, old: &'static str, new: &'static str) {
        self.state.lock().unwrap().renamed.push((old, new));
    }

    pub fn fault(&self, method: &'static str, path: &'static str, times: usize, fault: Fault) {
        self.state.lock().unwrap().faults.push(Planned { method, path, times, fault });
    }

    pub fn mend(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// The requests since the last call.
    pub fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

/// Listens; `storage` is where large files are, `None` for that host itself.
fn serve(state: &Arc<Mutex<State>>, storage: Option<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (state, connection) = (Arc::clone(&state), connection.unwrap());
            // A client that goes away ends its own connection only.
            std::thread::spawn(move || while answer(&state, &connection, storage).is_some() {});
        }
    });
    address
}

/// Answers one request; `None` ends the connection.
fn answer(state: &Mutex<State>, connection: &TcpStream, storage: Option<SocketAddr>) -> Option<()> {
    let request = read(connection, storage.is_none())?;
    let (mut reply, fault) = {
        let mut state = state.lock().unwrap();
        state.log.push(request.clone());
        let fault = state
            .faults
            .iter_mut()
            .find(|f| f.times > 0 && f.method == request.method && request.path.contains(f.path))
            .map(|planned| {
                planned.times -= 1;
                planned.fault.clone()
            });
        let mut asked = request.clone();
        if matches!(fault, Some(Fault::NoRanges)) {
            asked.range = None;
        }
        let reply = match storage {
            Some(storage) => hub(&state, &asked, storage),
            None => stored(&state, &asked),
        };
        (reply, fault)
    };
    let mut sent = reply.body.len();
    match &fault {
        Some(Fault::Status(status, headers)) => {
            reply = Reply { status: *status, headers: (*headers).to_owned(), body: vec![] };
            sent = 0;
        }
        Some(Fault::Cut(bytes) | Fault::Stall(bytes)) => sent = sent.min(*bytes),
        Some(Fault::Short(bytes)) => reply.body.truncate(*bytes),
        Some(Fault::Garbled) => reply.body.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Fault::Header(name, value)) => {
            let kept = reply.headers.lines().filter(|line| !line.starts_with(&format!("{name}:")));
            reply.headers = kept.map(|line| format!("{line}\r\n")).collect();
            reply.headers.push_str(&format!("{name}: {value}\r\n"));
        }
        Some(Fault::NoRanges) | None => {}
    }
    let length = reply.body.len();
    let mut out = connection;
    write!(out, "HTTP/1.1 {} x\r\ncontent-length: {length}\r\n{}\r\n", reply.status, reply.headers).ok()?;
    if request.method != "HEAD" {
        out.write_all(&reply.body[..sent.min(length)]).ok()?;
    }
    out.flush().ok()?;
    match fault {
        Some(Fault::Stall(_)) => {
            std::thread::sleep(Duration::from_secs(3));
            None
        }
        Some(Fault::Cut(_)) => None,
        _ => Some(()),
    }
}

fn read(connection: &TcpStream, storage: bool) -> Option<Request> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let mut request = Request {
        storage,
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        range: None,
        token: None,
    };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let start = value.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
                request.range = Some(start.expect("a range").parse().expect("a number"));
            }
            "authorization" => {
                request.token = Some(value.strip_prefix("Bearer ").expect("a token").to_owned())
            }
            _ => {}
        }
    }
    Some(request)
}

struct Reply {
    status: u16,
    /// Lines.
    headers: String,
    body: Vec<u8>,
}

fn reply(status: u16, headers: &str) -> Reply {
    Reply { status, headers: headers.to_owned(), body: b"{\"error\":\"...\"}".to_vec() }
}

fn hub(state: &State, request: &Request, storage: SocketAddr) -> Reply {
    for (old, new) in &state.renamed {
        if request.path.contains(&format!("/{old}/")) {
            return reply(307, &format!("location: {}\r\n", request.path.replace(old, new)));
        }
    }
    let path = request.path.as_str();
    let found = state.repositories.iter().find(|repo| path.contains(&format!("/{}/", repo.name)));
    let Some(repo) = found else {
        // The real hub asks strangers who they are.
        let status = if request.token.is_none() { 401 } else { 404 };
        return reply(status, "x-error-code: RepoNotFound\r\n");
    };
    match repo.gate {
        Gate::Private(token) if request.token.as_deref() != Some(token) => {
            return reply(401, "x-error-code: RepoNotFound\r\n");
        }
        Gate::Gated(token) if request.token.as_deref() != Some(token) && !path.starts_with("/api/models") => {
            let status = if request.token.is_none() { 401 } else { 403 };
            return reply(status, "x-error-code: GatedRepo\r\n");
        }
        _ => {}
    }
    let known = |revision: &str| ["main", "v1", "refs%2Fpr%2F3", COMMIT].contains(&revision);
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{}/revision/", repo.name)) {
        let revision = revision.strip_suffix("?blobs=true").expect("hashes are asked for");
        if !known(revision) {
            return reply(404, "x-error-code: RevisionNotFound\r\n");
        }
        // Asked for by `?blobs=true`.
        let siblings: Vec<_> = repo
            .files
            .iter()
            .map(|(file, bytes)| match is_large(file) {
                true => {
                    serde_json::json!({"rfilename": file, "blobId": git_hash(b"pointer"), "size": bytes.len(),
                    "lfs": {"sha256": hex(bytes), "size": bytes.len(), "pointerSize": 7}})
                }
                false => {
                    serde_json::json!({"rfilename": file, "blobId": git_hash(bytes), "size": bytes.len()})
                }
            })
            .collect();
        let body = serde_json::json!({"id": repo.name, "sha": repo.commit, "siblings": siblings});
        return Reply { status: 200, headers: String::new(), body: body.to_string().into_bytes() };
    }
    // Small files are answered from a second address of the same host.
    let cached = format!("/api/resolve-cache/models/{}/", repo.name);
    let direct = format!("/{}/resolve/", repo.name);
    let (rest, redirects) = match (path.strip_prefix(&cached), path.strip_prefix(&direct)) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return reply(404, ""),
    };
    let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
    if !known(revision) {
        return reply(404, "x-error-code: RevisionNotFound\r\n");
    }
    let Some(bytes) = repo.files.get(file) else {
        return reply(404, "x-error-code: EntryNotFound\r\n");
    };
    let commit = format!("x-repo-commit: {COMMIT}\r\n");
    if is_large(file) {
        let location = format!("location: http://{storage}/{}/{file}?signed=yes\r\n", repo.name);
        let linked = format!(
            "x-linked-etag: \"{}\"\r\nx-linked-size: {}\r\netag: \"other\"\r\n",
            hex(bytes),
            bytes.len()
        );
        return reply(302, &format!("{location}{linked}{commit}"));
    }
    if redirects {
        return reply(307, &format!("location: {cached}{revision}/{file}\r\n{commit}"));
    }
    let etag = format!("etag: W/\"{}\"\r\n", git_hash(bytes));
    ranged(bytes, request, &format!("{etag}{commit}"))
}

fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors") || file.contains(".onnx")
}

fn stored(state: &State, request: &Request) -> Reply {
    if request.token.is_some() {
        return reply(400, "");
    }
    let path = request.path.trim_start_matches('/').trim_end_matches("?signed=yes");
    let file = state
        .repositories
        .iter()
        .find_map(|repo| repo.files.get(path.strip_prefix(repo.name)?.strip_prefix('/')?));
    file.map_or_else(|| reply(404, ""), |bytes| ranged(bytes, request, "etag: \"of the storage\"\r\n"))
}

fn ranged(bytes: &[u8], request: &Request, headers: &str) -> Reply {
    let (all, headers) = (bytes.len(), headers.to_owned());
    match request.range {
        None => Reply { status: 200, headers, body: bytes.to_vec() },
        Some(start) if start >= all => Reply { status: 416, headers, body: vec![] },
        Some(start) => {
            let range = format!("content-range: bytes {start}-{}/{all}\r\n", all - 1);
            Reply { status: 206, headers: headers + &range, body: bytes[start..].to_vec() }
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As git names contents.
fn git_hash(bytes: &[u8]) -> String {
    let hash = Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
