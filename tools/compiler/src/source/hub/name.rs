//! `hf:OWNER/REPO@REVISION/PART`.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// What makes a model's argument a name on the hub.
const PREFIX: &str = "hf:";

/// A repository of models on the hub, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `OWNER/REPO`.
    repository: String,
    /// A branch, a tag or a commit; `None`: `main`.
    revision: Option<String>,
    /// A folder or a file in the repository, its steps separated by `/`; `None`: the whole.
    part: Option<String>,
}

impl HubName {
    /// Whether an argument means the hub rather than a path.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// How a page of the hub, `https://HOST/OWNER/REPO[/tree|blob|resolve/REVISION[/PART]]`, is named here; `None` if `text` is
    /// no such address.
    pub fn of_address(text: &str) -> Option<String> {
        let address = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let page = address.split(['?', '#']).next().unwrap_or(address);
        let mut steps = page.trim_end_matches('/').split('/').skip(1);
        let mut name = format!("{PREFIX}{}/{}", steps.next()?, steps.next()?);
        if steps.next().is_some_and(|kind| matches!(kind, "tree" | "blob" | "resolve"))
            && let Some(revision) = steps.next()
        {
            name.push_str(&format!("@{revision}"));
            steps.for_each(|step| name.push_str(&format!("/{step}")));
        }
        Self::parse(&name).is_ok().then_some(name)
    }

    /// Reads `hf:OWNER/REPO`, then `@REVISION` or nothing, then `/FOLDER` or `/FILE` or nothing.
    ///
    /// A `/` in a revision is written `%2F`, but for `refs/…/…`, the hub's own.
    ///
    /// # Errors
    /// What is wrong with the name; nothing that could lead out of the cache's folder passes.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).with_context(|| {
            format!(
                "{text}: not a name on the hub; expected hf:OWNER/REPO, then @REVISION or nothing, then /FOLDER or \
                 /FILE or nothing, as in hf:stabilityai/stable-diffusion-xl-base-1.0@main/text_encoder_2"
            )
        })
    }

    /// `OWNER/REPO`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The folder or file that is meant; `None`: the whole repository.
    pub fn part(&self) -> Option<&str> {
        self.part.as_deref()
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repository)?;
        match &self.revision {
            Some(own) if refs(own).is_some_and(|(_, rest)| rest.is_none()) => write!(f, "@{own}")?,
            Some(other) => write!(f, "@{}", other.replace('/', "%2F"))?,
            None => {}
        }
        self.part.as_ref().map_or(Ok(()), |part| write!(f, "/{part}"))
    }
}

fn parse(text: &str) -> Result<HubName> {
    let name = text.strip_prefix(PREFIX).context("it does not begin with hf:")?;
    // Folders may hold an `@` too, so only the second step is searched.
    let (owner, rest) = name.split_once('/').context("there is no `/` between owner and repository")?;
    let (repository, revision, part) = match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => {
            let (revision, part) = split_revision(&rest[at + 1..]);
            (&rest[..at], Some(revision), part)
        }
        Some(at) => (&rest[..at], None, Some(&rest[at + 1..])),
        None => (rest, None, None),
    };
    for (what, word) in [("owner", owner), ("repository", repository)] {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(!word.is_empty(), "the {what} is empty");
        ensure!(word.len() <= 96, "the {what} has more than 96 characters");
        ensure!(
            word.chars().all(known),
            "the {what} {word:?} has other characters than letters, digits, - _ ."
        );
        ensure!(
            !word.starts_with(['.', '-'])
                && !word.ends_with(['.', '-'])
                && !word.contains("--")
                && !word.contains(".."),
            "the {what} {word:?} begins or ends with `.` or `-`, or has two of them in a row"
        );
    }
    let revision = revision.map(|text| text.replace("%2F", "/").replace("%2f", "/"));
    if let Some(revision) = &revision {
        steps("revision", revision)?;
    }
    // A slash at the end says no more than that a folder is meant.
    let part = part.map(|part| part.strip_suffix('/').unwrap_or(part)).filter(|part| !part.is_empty());
    if let Some(part) = part {
        steps("folder or file", part)?;
    }
    Ok(HubName { repository: format!("{owner}/{repository}"), revision, part: part.map(str::to_owned) })
}

/// The revision at the beginning of `text`, and the part behind it.
fn split_revision(text: &str) -> (&str, Option<&str>) {
    if let Some(split) = refs(text) {
        return split;
    }
    text.split_once('/').map_or((text, None), |(revision, part)| (revision, Some(part)))
}

/// `refs/pr/1` or `refs/convert/parquet` at the beginning of `text`, and what follows.
fn refs(text: &str) -> Option<(&str, Option<&str>)> {
    let mut slashes = text.match_indices('/').map(|(at, _)| at);
    (text.starts_with("refs/") && slashes.next().is_some() && slashes.next().is_some())
        .then(|| slashes.next().map_or((text, None), |third| (&text[..third], Some(&text[third + 1..]))))
}

/// Whether `path` has plain steps only: it becomes a path in the cache, and a part of an address.
pub(super) fn steps(what: &str, path: &str) -> Result<()> {
    ensure!(!path.is_empty(), "the {what} is empty");
    if let Some(step) = path.split('/').find(|step| matches!(*step, "" | "." | "..")) {
        bail!("the {what} {path:?} has a step {step:?}");
    }
    ensure!(
        !path.chars().any(|c| c.is_control() || "\\?#%:".contains(c)),
        "the {what} {path:?} has one of \\ ? # % : or a control character"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::HubName;

    #[test]
    fn names_are_read_and_shown() {
        for (text, repository, revision, part) in [
            ("hf:openai/clip-vit-large-patch14", "openai/clip-vit-large-patch14", "main", None),
            ("hf:a/b.c_d/text_encoder", "a/b.c_d", "main", Some("text_encoder")),
            ("hf:a/b@main/text_encoder_2", "a/b", "main", Some("text_encoder_2")),
            ("hf:a/b@v1.0", "a/b", "v1.0", None),
            ("hf:a/b@refs/pr/7", "a/b", "refs/pr/7", None),
            ("hf:a/b@refs/pr/7/unet/x.safetensors", "a/b", "refs/pr/7", Some("unet/x.safetensors")),
            ("hf:a/b@my%2Fbranch/x", "a/b", "my/branch", Some("x")),
            ("hf:a/b/folder@2/x y.safetensors", "a/b", "main", Some("folder@2/x y.safetensors")),
        ] {
            let name = HubName::parse(text).unwrap();
            assert_eq!(
                (name.repository(), name.revision(), name.part()),
                (repository, revision, part),
                "{text}"
            );
            assert_eq!(name.to_string(), text);
            assert!(HubName::is_one(text));
        }
        assert_eq!(HubName::parse("hf:a/b/text_encoder/").unwrap().part(), Some("text_encoder"));
        assert_eq!(HubName::parse("hf:a/b/").unwrap().part(), None);
        assert!(!HubName::is_one("./hf:a/b") && !HubName::is_one("model.onnx"));
    }

    #[test]
    fn addresses_of_pages_have_names() {
        let name = |text| HubName::of_address(text);
        assert_eq!(name("https://huggingface.co/a/b").as_deref(), Some("hf:a/b"));
        assert_eq!(name("https://huggingface.co/a/b/").as_deref(), Some("hf:a/b"));
        assert_eq!(
            name("https://huggingface.co/a/b/tree/v1/text_encoder").as_deref(),
            Some("hf:a/b@v1/text_encoder")
        );
        let file = "https://huggingface.co/a/b/resolve/main/x/y.safetensors?download=true";
        assert_eq!(name(file).as_deref(), Some("hf:a/b@main/x/y.safetensors"));
        assert_eq!(name("https://huggingface.co/a/b/discussions/1").as_deref(), Some("hf:a/b"));
        for other in ["a/b", "https://huggingface.co", "https://huggingface.co/a", "https:///"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (text, said) in [
            ("hf:gpt2", "no `/`"),
            ("hf:/b", "owner is empty"),
            ("hf:a/", "repository is empty"),
            ("hf:a/@main", "repository is empty"),
            ("hf:a/b@", "revision is empty"),
            ("hf:a/b@/x", "revision is empty"),
            ("hf:a/b@..", "\"..\""),
            ("hf:a/b@x%2F..%2Fy", "\"..\""),
            ("hf:a/b@refs/../..", "\"..\""),
            ("hf:a/b/../../etc", "\"..\""),
            ("hf:a/b//etc", "\"\""),
            ("hf:a/b/x?y", "? #"),
            ("hf:a/b/x\ny", "control"),
            ("hf:a/..", "in a row"),
            ("hf:../b", "in a row"),
            ("hf:a/-b", "begins"),
            ("hf:a b/c", "characters"),
            ("hf://a/b", "owner is empty"),
            ("https://huggingface.co/a/b", "hf:"),
        ] {
            let error = format!("{:#}", HubName::parse(text).expect_err(text));
            assert!(
                error.contains(said) && error.contains("hf:OWNER/REPO") && error.contains(text),
                "{error}"
            );
        }
    }
}
