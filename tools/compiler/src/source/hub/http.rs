//! Requests to the hub: redirects without giving the token away, and what a refusal means.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use hf_hub::{Repo, RepoType};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::listing::Listing;
use super::name::HubName;
use super::settings::Settings;

/// Redirects in a row; the hub needs two.
const REDIRECTS: usize = 8;

/// How often in a row something is tried that gets nowhere.
pub(super) const ATTEMPTS: u32 = 5;

/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The largest listing that is read; the hub's largest repositories of models have a few MB.
const LISTING_BYTES: u64 = 64 << 20;

/// Why a request brought nothing.
pub(super) enum Failure {
    /// Nothing answers there.
    Unreachable(Error),
    /// Likely to work a little later; the server may say when.
    Passing(Error, Option<Duration>),
    /// The answer is no.
    Final(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(error) | Failure::Passing(error, _) | Failure::Final(error) => error,
        }
    }
}

/// What the hub says of a file before it is fetched.
pub(super) struct Described {
    /// Names the contents: SHA-256 of a large file, git's SHA-1 of a small one.
    pub etag: String,
    /// Bytes, if the hub says it.
    pub size: Option<u64>,
}

/// One repository, at one revision, as the hub has it.
pub(super) struct Client<'a> {
    agent: Agent,
    settings: &'a Settings,
    name: &'a HubName,
}

impl<'a> Client<'a> {
    pub(super) fn new(settings: &'a Settings, name: &'a HubName) -> Self {
        let waits = Some(settings.timeout);
        let config = Agent::config_builder()
            .user_agent(concat!("cliptext/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(waits)
            .timeout_connect(waits)
            .timeout_recv_response(waits)
            .timeout_per_read(waits)
            .timeout_per_write(waits);
        // No proxy leads to this machine itself.
        let config = if settings.is_loopback() { config.proxy(None) } else { config };
        Self { agent: config.build().into(), settings, name }
    }

    /// The repository's files and its commit.
    pub(super) fn listing(&self) -> Result<Listing, Failure> {
        let repo = self.repo(self.name.revision());
        let url = format!("{}/api/{}?blobs=true", self.settings.endpoint, repo.api_url());
        self.patiently(|| {
            let mut response = self.send(Method::Get, &url, None)?;
            self.judge(&response, None)?;
            let mut text = Vec::new();
            let read = response.body_mut().as_reader().take(LISTING_BYTES + 1).read_to_end(&mut text);
            let cut = |why| Failure::Passing(anyhow!("{url}: the list of files was cut off{why}"), None);
            read.map_err(|error| cut(format!(": {error}")))?;
            if text.len() as u64 > LISTING_BYTES {
                return Err(Failure::Final(anyhow!(
                    "{url}: the list of files has more than {} MB, which is not read",
                    LISTING_BYTES >> 20
                )));
            }
            let listing: Listing = match serde_json::from_slice(&text) {
                // A server that tells no length ends the connection, and that is all there is to see.
                Err(error) if error.is_eof() && !text.is_empty() => {
                    return Err(cut(format!(" after {} bytes", text.len())));
                }
                parsed => parsed
                    .with_context(|| format!("{url}: not the hub's answer; is HF_ENDPOINT a hub's address?"))
                    .map_err(Failure::Final)?,
            };
            if !is_plain(&listing.commit) {
                return Err(Failure::Final(anyhow!("{url}: {:?} is no commit", listing.commit)));
            }
            Ok(listing)
        })
    }

    /// What a file of a commit is called by its contents, and its size.
    pub(super) fn describe(&self, commit: &str, file: &str) -> Result<Described, Failure> {
        let url = self.url(commit, file);
        self.patiently(|| {
            let response = self.send(Method::Head, &url, None)?;
            // A redirect to the host that stores the file: its headers say all that is asked here.
            let elsewhere = response.status().is_redirection();
            if !elsewhere {
                self.judge(&response, Some(file))?;
            }
            let header = |name| text(response.headers(), name);
            let etag = header("x-linked-etag").or_else(|| header("etag")).map(etag).unwrap_or_default();
            if !is_plain(&etag) {
                return Err(Failure::Final(anyhow!(
                    "{url}: the answer has no ETag that names the file's contents"
                )));
            }
            // The length of a redirect is that of its own body.
            let length = if elsewhere { None } else { header("content-length") };
            let size = header("x-linked-size").or(length).and_then(|size| size.parse().ok());
            Ok(Described { etag, size })
        })
    }

    /// The bytes of a file from `start` on, asked for once: where they begin, and they; `None`: there are none.
    pub(super) fn bytes(&self, commit: &str, file: &str, start: u64) -> Result<Option<(u64, Body)>, Failure> {
        let url = self.url(commit, file);
        let response = self.send(Method::Get, &url, (start > 0).then_some(start))?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(None);
        }
        self.judge(&response, Some(file))?;
        let begins = if response.status() == StatusCode::PARTIAL_CONTENT {
            text(response.headers(), "content-range")
                .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok())
                .ok_or_else(|| {
                    Failure::Final(anyhow!("{url}: a part of the file came that does not say which"))
                })?
        } else {
            0
        };
        Ok(Some((begins, response.into_body())))
    }

    /// Tries again what fails in passing.
    fn patiently<T>(&self, work: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut tried = 0;
        loop {
            tried += 1;
            match work() {
                Err(Failure::Passing(_, asked)) if tried < ATTEMPTS => self.pause(tried, asked),
                other => return other,
            }
        }
    }

    /// Waits before the next attempt: as long as the server asks for, else twice as long each time.
    pub(super) fn pause(&self, tried: u32, asked: Option<Duration>) {
        let usual = self.settings.pause.saturating_mul(1 << tried.saturating_sub(1).min(16));
        std::thread::sleep(asked.unwrap_or(usual).min(LONGEST_PAUSE));
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.repository().into(), RepoType::Model, encoded(revision))
    }

    fn url(&self, commit: &str, file: &str) -> String {
        let repo = self.repo(commit);
        format!("{}/{}/resolve/{}/{}", self.settings.endpoint, repo.url(), repo.url_revision(), encoded(file))
    }

    /// Sends a request and follows redirects: a question for a file's description to other addresses of the same host
    /// only, since the host that stores the file knows nothing of the repository.
    fn send(&self, method: Method, url: &str, start: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut uri: Uri = url.parse().map_err(|error| Failure::Final(anyhow!("{url}: {error}")))?;
        let home = uri.clone();
        for _ in 0..=REDIRECTS {
            let mut request = match method {
                Method::Get => self.agent.get(&uri),
                Method::Head => self.agent.head(&uri),
            };
            // Packed, a file would have neither its size nor its ranges.
            request = request.header("accept-encoding", "identity");
            if let Some(token) = self.settings.token_to_send().filter(|_| same_host(&uri, &home)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some(start) = start {
                request = request.header("range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| self.failure(&uri, error))?;
            let target = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                .then(|| text(response.headers(), "location"))
                .flatten();
            let Some(target) = target else { return Ok(response) };
            let next = resolved(&uri, target).map_err(Failure::Final)?;
            if matches!(method, Method::Head) && !same_host(&next, &home) {
                return Ok(response);
            }
            uri = next;
        }
        Err(Failure::Final(anyhow!("{url}: more than {REDIRECTS} redirects in a row")))
    }

    fn failure(&self, uri: &Uri, error: ureq::Error) -> Failure {
        use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        use ureq::{Error as E, Timeout};
        let nobody = match &error {
            E::HostNotFound | E::ConnectionFailed | E::ConnectProxyFailed(_) => true,
            E::Timeout(Timeout::Resolve | Timeout::Connect) => true,
            E::Io(error) => matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable),
            _ => false,
        };
        let lasting = matches!(
            &error,
            E::BadUri(_) | E::Http(_) | E::InvalidProxyUrl | E::Tls(_) | E::Rustls(_) | E::Pem(_)
        );
        let host = uri.authority().map_or("the hub", |authority| authority.as_str());
        let error = anyhow!("{host}: {error}");
        if nobody {
            Failure::Unreachable(error.context(format!(
                "cannot reach {}; set HTTPS_PROXY if this network needs one, or HF_HUB_OFFLINE=1 to use what is in \
                 the cache",
                self.settings.endpoint
            )))
        } else if lasting {
            Failure::Final(error)
        } else {
            Failure::Passing(error, None)
        }
    }

    /// Whether the answer is one; else what it means. `file`: what was asked for; `None`: the repository.
    fn judge(&self, response: &Response<Body>, file: Option<&str>) -> Result<(), Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let header = |name| text(response.headers(), name);
        self.refusal(status, header("x-error-code"), file).map_err(Failure::Final)?;
        let said = header("x-error-message").map_or_else(String::new, |said| format!(": {said}"));
        let error = anyhow!("{}: the hub answered {status}{said}", self.name);
        let passing = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
        Err(if passing {
            let asked = header("retry-after").and_then(|seconds| seconds.parse().ok());
            Failure::Passing(error, asked.map(Duration::from_secs))
        } else {
            Failure::Final(error)
        })
    }

    /// What a refusal means that says more than its number.
    fn refusal(&self, status: StatusCode, code: Option<&str>, file: Option<&str>) -> Result<()> {
        let (repository, revision) = (self.name.repository(), self.name.revision());
        let endpoint = &self.settings.endpoint;
        match (status.as_u16(), code) {
            (_, Some("GatedRepo")) => bail!(
                "{repository} is open to those only who accepted its conditions: do so at {endpoint}/{repository}, and \
                 set HF_TOKEN to a token of that account{}",
                match self.settings.withheld() {
                    Some(why) => format!(" ({why})"),
                    None if self.settings.token.is_some() =>
                        " (the token that was sent has no access)".into(),
                    None => String::new(),
                }
            ),
            (_, Some("RevisionNotFound")) => bail!("{repository} has no branch, tag or commit {revision}"),
            (_, Some("EntryNotFound")) => {
                bail!("{repository} has no file {} at {revision}", file.unwrap_or("here"))
            }
            (401, _) if self.settings.token_to_send().is_some() => bail!(
                "{repository}: the hub did not accept the token (from HF_TOKEN, else from the file that `hf auth login` \
                 wrote), or there is no such repository"
            ),
            (401, _) => match self.settings.withheld() {
                Some(why) => bail!("{repository}: no such repository, or a private one; {why}"),
                None => bail!(
                    "{repository}: no such repository, or a private one; if it is private, set HF_TOKEN to a token that \
                     may read it, or run `hf auth login`"
                ),
            },
            (404, _) => match file {
                Some(file) => bail!("{repository} has no file {file} at {revision}"),
                None => bail!("there is no {repository} at {endpoint}, or it has no revision {revision}"),
            },
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Head,
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// An ETag's value: `W/"x"` and `"x"` are x.
fn etag(header: &str) -> String {
    header.trim_start_matches("W/").trim_matches('"').to_owned()
}

/// Whether a word of the server may be a file's name.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 128
        && !word.starts_with('.')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn same_host(a: &Uri, b: &Uri) -> bool {
    let port =
        |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("http") { Some(80) } else { Some(443) });
    (a.scheme(), a.host(), port(a)) == (b.scheme(), b.host(), port(b))
}

/// Where a redirect from `from` leads.
fn resolved(from: &Uri, target: &str) -> Result<Uri> {
    let host = || {
        let (scheme, authority) = (from.scheme_str().unwrap_or("https"), from.authority());
        (scheme, authority.map_or("", |authority| authority.as_str()))
    };
    let whole = if target.starts_with("https://") || target.starts_with("http://") {
        target.to_owned()
    } else if let Some(elsewhere) = target.strip_prefix("//") {
        format!("{}://{elsewhere}", host().0)
    } else if target.starts_with('/') {
        format!("{}://{}{target}", host().0, host().1)
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{}://{}{folder}/{target}", host().0, host().1)
    };
    let uri: Uri =
        whole.parse().with_context(|| format!("{from}: redirected to {target:?}, which is no address"))?;
    if from.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
        bail!("{from}: redirected from https to {whole}");
    }
    Ok(uri)
}

/// A path as part of an address; `/` stays.
fn encoded(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{encoded, etag, is_plain, resolved, same_host};

    #[test]
    fn redirects_lead_where_the_standard_says() {
        let from = "http://hub.example:81/a/b/resolve/main/x?y=1".parse().unwrap();
        for (target, expected) in [
            ("/c?d", "http://hub.example:81/c?d"),
            ("z", "http://hub.example:81/a/b/resolve/main/z"),
            ("//cdn.example/c", "http://cdn.example/c"),
            ("https://cdn.example/c?sig=%2F", "https://cdn.example/c?sig=%2F"),
        ] {
            assert_eq!(resolved(&from, target).unwrap().to_string(), expected);
        }
        assert!(resolved(&from, "http://a b/").is_err());
        let safe = "https://hub.example/a".parse().unwrap();
        assert!(resolved(&safe, "http://hub.example/b").unwrap_err().to_string().contains("https to"));
    }

    #[test]
    fn a_host_is_its_scheme_name_and_port() {
        let same = |a: &str, b: &str| same_host(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a/x", "https://a:443/y") && same("http://a:80/", "http://a/"));
        assert!(!same("https://a/", "https://b/") && !same("http://a:1/", "http://a:2/"));
        assert!(!same("https://a/", "http://a/") && !same("https://a.b/", "https://b/"));
    }

    #[test]
    fn words_of_the_server_are_names_or_refused() {
        assert_eq!(etag("W/\"abc\""), "abc");
        assert!(is_plain(&etag("\"0a1b\"")) && is_plain("0a-1_b.c"));
        for word in ["", "..", "../x", "a/b", "a\\b", ".part", "a b"] {
            assert!(!is_plain(word), "{word}");
        }
        assert_eq!(encoded("a b/ü@1.x"), "a%20b/%C3%BC%401.x");
    }
}
