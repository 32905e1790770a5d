//! Where the hub is, where its cache is, and who asks: from the variables that Hugging Face's own tools read.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ureq::http::Uri;

/// Variables that name a proxy.
const PROXIES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// The hub's own host, which may have subdomains.
const HOST: &str = "huggingface.co";

/// How the hub is reached.
#[derive(Clone)]
pub struct Settings {
    /// The hub's address without a slash at its end.
    pub endpoint: String,
    /// The cache's folder, in which each repository has a folder `models--OWNER--REPO`.
    pub cache: PathBuf,
    /// Who asks. Whom it may be sent to [`withheld`](Self::withheld) says; never to a host that the hub redirects to.
    pub token: Option<String>,
    /// Whether another host than the hub's own may have the token, if it is the endpoint.
    pub trusts_endpoint: bool,
    /// Whether only the cache is used.
    pub offline: bool,
    /// How long nothing may come before a request is given up.
    pub timeout: Duration,
    /// The first pause before something is tried again; each further one is twice as long.
    pub pause: Duration,
}

impl Settings {
    /// From the environment: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`, with Hugging Face's meanings;
    /// `CLIPTEXT_TRUST_ENDPOINT`.
    ///
    /// # Errors
    /// When a variable's value has no meaning.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// From variables looked up by `get`.
    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let get =
            |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| get(name));
        let on = |name: &str| {
            get(name).is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
        };
        let user = get("HOME").map(PathBuf::from);
        let path = |text: String| match (text.strip_prefix("~/"), &user) {
            (Some(rest), Some(user)) => user.join(rest),
            _ => PathBuf::from(text),
        };
        let home = get("HF_HOME").map(path).or_else(|| {
            let caches = get("XDG_CACHE_HOME").map(path).or_else(|| Some(user.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = first(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
            .map(path)
            .or_else(|| Some(home.as_ref()?.join("hub")))
            .context("no place for the hub's cache: set HF_HOME to a folder")?;
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| format!("https://{HOST}"));
        ensure!(
            endpoint.starts_with("https://") || endpoint.starts_with("http://"),
            "HF_ENDPOINT is {endpoint:?}; expected an address such as https://huggingface.co"
        );
        for name in PROXIES {
            // Not shown: it may hold a password. ureq goes without one that it can't read.
            ensure!(
                get(name).is_none_or(|proxy| ureq::Proxy::new(&proxy).is_ok()),
                "{name} is no proxy's address; expected one such as http://proxy.example:8080"
            );
        }
        let file = get("HF_TOKEN_PATH").map(path).or_else(|| Some(home?.join("token")));
        let token = match first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
            _ if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            Some(token) => Some(checked(token, "HF_TOKEN")?),
            None => file.and_then(|file| saved(&file)).transpose()?,
        };
        let timeout = match get("HF_HUB_DOWNLOAD_TIMEOUT") {
            Some(text) => {
                let seconds = text.parse().ok().filter(|seconds| (1..=86400).contains(seconds));
                seconds.with_context(|| format!("HF_HUB_DOWNLOAD_TIMEOUT is {text:?}; expected seconds"))?
            }
            None => 10,
        };
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            trusts_endpoint: on("CLIPTEXT_TRUST_ENDPOINT"),
            offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"),
            timeout: Duration::from_secs(timeout),
            pause: Duration::from_millis(500),
        })
    }
}

impl Settings {
    /// The token, where the endpoint may have it.
    pub(super) fn token_to_send(&self) -> Option<&str> {
        self.token.as_deref().filter(|_| self.withheld().is_none())
    }

    /// Why the endpoint does not get the token, and what to do; `None` where it does, or there is none.
    ///
    /// Hugging Face's own tools send it to any `HF_ENDPOINT`, a stranger's mirror and plain http included.
    pub fn withheld(&self) -> Option<String> {
        self.token.as_ref()?;
        let endpoint = &self.endpoint;
        let uri: Option<Uri> = endpoint.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or("");
        if self.is_loopback() {
            None
        } else if !endpoint.starts_with("https://") {
            Some(format!(
                "the token is not sent to {endpoint}, since http is not encrypted: set HF_ENDPOINT to its \
                 https address"
            ))
        } else if host == HOST || host.ends_with(&format!(".{HOST}")) || self.trusts_endpoint {
            None
        } else {
            Some(format!(
                "the token is not sent to {endpoint}, which is not {HOST}: set CLIPTEXT_TRUST_ENDPOINT=1 if it may have it"
            ))
        }
    }

    /// Whether the endpoint is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let uri: Option<Uri> = self.endpoint.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or("");
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Debug for Settings {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("trusts_endpoint", &self.trusts_endpoint)
            .field("offline", &self.offline)
            .field("timeout", &self.timeout)
            .field("pause", &self.pause)
            .finish()
    }
}

/// The token that `hf auth login` has put into a file; without the file there is none.
fn saved(file: &Path) -> Option<Result<String>> {
    let token = std::fs::read_to_string(file).ok()?.trim().to_owned();
    (!token.is_empty()).then(|| checked(token, &file.display().to_string()))
}

/// A token goes into a header: what cannot be there is refused without being shown.
fn checked(token: String, place: &str) -> Result<String> {
    ensure!(
        token.chars().all(|c| c.is_ascii_graphic()),
        "{place}: the token has other characters than a token has"
    );
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Settings;

    fn settings(variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
        Settings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_set_is_the_usual() {
        let usual = settings(&[("HOME", "/nobody")]).unwrap();
        assert_eq!(usual.endpoint, "https://huggingface.co");
        assert_eq!(usual.cache, Path::new("/nobody/.cache/huggingface/hub"));
        assert!(usual.token.is_none() && !usual.offline);
        assert!(settings(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let cache = |variables: &[(&str, &str)]| settings(variables).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/hf")]), Path::new("/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/models")]), Path::new("/h/models/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", " ")]), Path::new("/h/.cache/huggingface/hub"));
    }

    #[test]
    fn switches_and_addresses() {
        for (value, offline) in
            [("1", true), ("true", true), ("YES", true), ("on", true), ("0", false), ("", false)]
        {
            assert_eq!(settings(&[("HF_HOME", "/hf"), ("HF_HUB_OFFLINE", value)]).unwrap().offline, offline);
        }
        let mirror = |value| settings(&[("HF_HOME", "/hf"), ("HF_ENDPOINT", value)]);
        assert_eq!(mirror("https://mirror.example/").unwrap().endpoint, "https://mirror.example");
        assert!(mirror("mirror.example").unwrap_err().to_string().contains("HF_ENDPOINT"));
        let proxy = |value| settings(&[("HF_HOME", "/hf"), ("HTTPS_PROXY", value)]);
        assert!(
            proxy("http://user:secret@proxy.example:8080").is_ok() && proxy("proxy.example:3128").is_ok()
        );
        let error = proxy("carrier pigeon://secret").unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("secret"), "{error}");
        let timeout = |value| settings(&[("HF_HOME", "/hf"), ("HF_HUB_DOWNLOAD_TIMEOUT", value)]);
        assert_eq!(timeout("30").unwrap().timeout.as_secs(), 30);
        assert!(timeout("soon").unwrap_err().to_string().contains("HF_HUB_DOWNLOAD_TIMEOUT"));
    }

    #[test]
    fn the_token_is_for_the_hubs_own_host_and_encrypted() {
        let reason = |endpoint: &str, more: &[(&str, &str)]| {
            let set = [&[("HF_HOME", "/hf"), ("HF_TOKEN", "hf_x"), ("HF_ENDPOINT", endpoint)], more].concat();
            let settings = settings(&set).unwrap();
            assert_eq!(settings.token_to_send().is_some(), settings.withheld().is_none());
            settings.withheld()
        };
        for told in [
            "https://huggingface.co",
            "https://hub-ci.huggingface.co/",
            "http://127.0.0.1:80",
            "http://localhost",
            "http://[::1]:1",
        ] {
            assert_eq!(reason(told, &[]), None, "{told}");
        }
        let trusts = [("CLIPTEXT_TRUST_ENDPOINT", "1")];
        for mirror in
            ["https://mirror.example", "https://huggingface.co.example", "https://nothuggingface.co"]
        {
            let why = reason(mirror, &[]).unwrap();
            assert!(why.contains(mirror) && why.contains("CLIPTEXT_TRUST_ENDPOINT=1"), "{why}");
            assert_eq!(reason(mirror, &trusts), None);
        }
        for plain in ["http://huggingface.co", "http://127.0.0.1.example", "http://mirror.example"] {
            let why = reason(plain, &trusts).unwrap();
            assert!(why.contains(plain) && why.contains("https"), "{why}");
        }
        let none = settings(&[("HF_HOME", "/hf"), ("HF_ENDPOINT", "http://mirror.example")]).unwrap();
        assert_eq!(none.withheld(), None, "there is none");
    }

    #[test]
    fn tokens_come_from_the_variable_or_the_file_and_are_not_shown() {
        let folder = std::env::temp_dir().join(format!("cliptext-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("token"), "hf_saved\n").unwrap();
        std::fs::write(folder.join("other"), "hf_two\nlines").unwrap();
        let home = folder.to_str().unwrap();
        let token = |more: &[(&str, &str)]| {
            settings(&[&[("HF_HOME", home)], more].concat()).map(|settings| settings.token)
        };
        assert_eq!(token(&[]).unwrap().as_deref(), Some("hf_saved"));
        assert_eq!(token(&[("HF_TOKEN", "hf_given")]).unwrap().as_deref(), Some("hf_given"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap(), None);
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere/token")]).unwrap(), None);
        let other = folder.join("other");
        let error = token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).unwrap_err().to_string();
        assert!(error.contains("other") && !error.contains("hf_two"), "{error}");
        let shown = format!("{:?}", settings(&[("HF_HOME", home)]).unwrap());
        assert!(!shown.contains("hf_saved"), "{shown}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
