//! A name on the hub: finds out which files a text encoder needs, and puts them into the cache that Hugging Face's own
//! tools use, so that what one has fetched the other finds.
//!
//! The names, the cache's layout and the listing are those of the crate `hf-hub`. The requests are our own, because its
//! synchronous interface cannot do what a download of gigabytes wants: it appends to a file that was cut whatever the
//! server sends, takes any length for the whole, cannot leave a finished but not renamed file (416 for ever), waits for a
//! stalled server without end, and sends the token to the host that a file is stored at.
//!
//! The calls to the hub are three:
//! - `GET /api/models/OWNER/REPO/revision/REVISION`: the files and the commit;
//! - `HEAD /OWNER/REPO/resolve/COMMIT/FILE`: `X-Linked-ETag` or `ETag`, `X-Linked-Size` or `Content-Length`;
//! - `GET` of the same, with `Range` where a part is there already, redirected to where the file is stored.

mod cache;
mod http;
mod name;
mod select;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::progress::Progress;
use cache::Store;
use http::{Client, Failure};

pub use name::HubName;
pub use select::select;
pub use settings::Settings;

/// Folders in folders that a cached repository may have.
const DEPTH: usize = 8;

/// Puts the files that the text encoders of `name` need into the cache, as far as they are not there, and says where:
/// the folder of the repository, or the folder or file in it that the name means. That folder may hold other files
/// too, which another program has fetched.
///
/// What was cut is resumed, in this run and in the next. Where the hub does not answer, the
/// cache is used as it is, with a note.
///
/// # Errors
/// When the hub has no such thing, or wants to know who asks; when it has no weights that can be compiled; when the
/// network fails for good; when `settings.offline` and the cache has not all of it. Each says what to do.
pub fn fetch(name: &HubName, settings: &Settings, progress: &Progress) -> Result<PathBuf> {
    let store = Store::new(settings, name);
    let snapshot = if settings.offline {
        cached(&store, name).map_err(|error| {
            error.context(format!(
                "{name}: not whole in the cache {}, and HF_HUB_OFFLINE is set; run once without it, with a network",
                settings.cache.display()
            ))
        })?
    } else {
        let client = Client::new(settings, name);
        match client.listing() {
            Ok(info) => {
                let files = info.siblings.into_iter().map(|file| file.rfilename).collect::<Vec<_>>();
                online(&store, &client, name, &info.sha, files, progress).with_context(|| name.to_string())?
            }
            Err(Failure::Final(error)) => return Err(error.context(name.to_string())),
            Err(Failure::Unreachable(error) | Failure::Passing(error, _)) => {
                let Ok(snapshot) = cached(&store, name) else { return Err(error.context(name.to_string())) };
                progress.note(&format!("{error:#}; {name} is used as the cache has it"));
                snapshot
            }
        }
    };
    Ok(name.part().map_or(snapshot.clone(), |part| snapshot.join(part)))
}

/// Fetches what is needed of a listing; the snapshot's folder.
fn online(
    store: &Store,
    client: &Client<'_>,
    name: &HubName,
    commit: &str,
    mut listing: Vec<String>,
    progress: &Progress,
) -> Result<PathBuf> {
    listing.retain(|file| name::steps("file", file).is_ok());
    needed(&listing, name, |file| store.get(client, commit, file, progress))?;
    store.remember(commit)?;
    Ok(store.snapshot(commit))
}

/// The snapshot's folder in the cache, if all is there that is needed.
fn cached(store: &Store, name: &HubName) -> Result<PathBuf> {
    let snapshot = store
        .known_snapshot()
        .with_context(|| format!("nothing of {}@{} is there", name.repository(), name.revision()))?;
    let mut listing = Vec::new();
    walk(&snapshot, "", DEPTH, &mut listing)?;
    needed(&listing, name, |file| Ok(snapshot.join(file)))?;
    Ok(snapshot)
}

/// Gets every file that is needed: first those that say which text encoders are CLIP's.
fn needed(listing: &[String], name: &HubName, mut get: impl FnMut(&str) -> Result<PathBuf>) -> Result<()> {
    let mut descriptions = BTreeMap::new();
    for file in select::describing(listing, name.part()) {
        let path = get(&file)?;
        let text = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let value: Value =
            serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", path.display()))?;
        descriptions.insert(file, value);
    }
    let listing = select::clip_only(listing, name.part(), |file| descriptions.get(file).cloned())?;
    for file in select(&listing, name.part())? {
        get(&file)?;
    }
    Ok(())
}

/// The files below a folder, by their paths from it; a link whose file has gone is none.
fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    if depth == 0 {
        bail!("{}: folders in folders without end", folder.display());
    }
    let unreadable = || format!("{}: cannot be read", folder.display());
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let relative = format!("{prefix}{name}");
        if path.is_dir() {
            walk(&path, &format!("{relative}/"), depth - 1, files)?;
        } else if path.is_file() {
            files.push(relative);
        }
    }
    Ok(())
}
