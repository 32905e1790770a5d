//! A name on the hub: finds out which files an encoder needs, and puts them into the cache that Hugging Face's own
//! tools use, so that what one has fetched the other finds.
//!
//! The names, the cache's layout and the listing are those of the crate `hf-hub`. The requests are our own, because its
//! synchronous interface cannot do what a download of gigabytes wants: it appends to a file that was cut whatever the
//! server sends, takes any length for the whole, cannot leave a finished but not renamed file (416 for ever), waits for a
//! stalled server without end, and sends the token to the host that a file is stored at.
//!
//! The calls to the hub are three:
//! - `GET /api/models/OWNER/REPO/revision/REVISION?blobs=true`: the files with their hashes, and the commit;
//! - `HEAD /OWNER/REPO/resolve/COMMIT/FILE`: `X-Linked-ETag` or `ETag`, `X-Linked-Size` or `Content-Length`;
//! - `GET` of the same, with `Range` where a part is there already, redirected to where the file is stored.

mod cache;
mod http;
mod listing;
mod name;
mod select;
mod settings;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};
use serde_json::Value;

use crate::import::onnx::external_locations;
use crate::ir::Modality;
use crate::progress::Progress;
use cache::Store;
use http::{Client, Failure};
use listing::Listing;

pub use name::HubName;
pub use select::select;
pub use settings::Settings;

/// Folders in folders that a cached repository may have.
const DEPTH: usize = 8;

/// Where the files are that such an encoder needs, fetched, if `model` is a name on the hub and no path.
///
/// # Errors
/// When the name is none, or as [`fetch`].
pub fn fetched(model: &Path, modality: Modality, progress: &Progress) -> Result<Option<PathBuf>> {
    let Some(text) = model.to_str() else { return Ok(None) };
    if HubName::is_one(text) {
        let name = HubName::parse(text)?;
        return fetch(&name, modality, &Settings::from_env()?, progress).map(Some);
    }
    if let Some(name) = HubName::of_address(text) {
        bail!("{text}: the address of a page; what it shows is named {name}");
    }
    Ok(None)
}

/// Puts the files that the text encoders of `name`, or its image encoder, need into the cache, as far as they are not there, and says where:
/// the folder of the repository, or the folder or file in it that the name means. That folder may hold other files
/// too, which another program has fetched.
///
/// What was cut is resumed, in this run and in the next. Where the hub does not answer, or the cache can't be written to, the
/// cache is used as it is, with a note.
///
/// # Errors
/// When the hub has no such thing, or wants to know who asks; when it has no weights that can be compiled; when the
/// network fails for good; when `settings.offline` and the cache has not all of it. Each says what to do.
pub fn fetch(
    name: &HubName,
    modality: Modality,
    settings: &Settings,
    progress: &Progress,
) -> Result<PathBuf> {
    let store = Store::new(settings, name);
    let snapshot = if settings.offline {
        cached(&store, name, modality).map_err(|error| {
            error.context(format!(
                "{name}: not whole in the cache {}, and HF_HUB_OFFLINE is set; run once without it, with a network",
                settings.cache.display()
            ))
        })?
    } else {
        if let Some(why) = settings.withheld() {
            progress.note(&why);
        }
        let client = Client::new(settings, name);
        let (snapshot, cache_will_do) = match client.listing() {
            Ok(listing) => {
                let snapshot = online(&store, &client, (name, modality), &listing, progress);
                let cache_will_do = snapshot.as_ref().is_err_and(is_read_only);
                (snapshot, cache_will_do)
            }
            Err(Failure::Final(error)) => (Err(error), false),
            Err(Failure::Unreachable(error) | Failure::Passing(error, _)) => (Err(error), true),
        };
        match snapshot {
            Err(error) if cache_will_do && let Ok(cached) = cached(&store, name, modality) => {
                progress.note(&format!("{error:#}; {name} is used as the cache has it"));
                cached
            }
            snapshot => snapshot.with_context(|| name.to_string())?,
        }
    };
    Ok(name.part().map_or(snapshot.clone(), |part| snapshot.join(part)))
}

/// Fetches what is needed of a listing; the snapshot's folder.
fn online(
    store: &Store,
    client: &Client<'_>,
    (name, modality): (&HubName, Modality),
    listing: &Listing,
    progress: &Progress,
) -> Result<PathBuf> {
    needed(&listing.files(), name, modality, |file| store.get(client, listing, file, progress))?;
    match store.remember(&listing.commit) {
        // All that is needed is there: only an offline run will not know by which name.
        Err(error) if is_read_only(&error) => progress.note(&format!("{error:#}")),
        remembered => remembered?,
    }
    Ok(store.snapshot(&listing.commit))
}

/// Whether something failed because it had to be written and must not.
fn is_read_only(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem))
}

/// The snapshot's folder in the cache, if all is there that is needed.
fn cached(store: &Store, name: &HubName, modality: Modality) -> Result<PathBuf> {
    let snapshot = store
        .known_snapshot()
        .with_context(|| format!("nothing of {}@{} is there", name.repository(), name.revision()))?;
    let mut listing = Vec::new();
    walk(&snapshot, "", DEPTH, &mut listing)?;
    needed(&listing, name, modality, |file| Ok(snapshot.join(file)))?;
    Ok(snapshot)
}

/// Gets every file that is needed: of text encoders first those that say which are CLIP's.
fn needed(
    listing: &[String],
    name: &HubName,
    modality: Modality,
    mut get: impl FnMut(&str) -> Result<PathBuf>,
) -> Result<()> {
    let selected = match modality {
        Modality::Text => select(&clip_only(listing, name, &mut get)?, name.part(), modality)?,
        Modality::Image => select(listing, name.part(), modality)?,
    };
    for file in selected {
        let path = get(&file)?;
        if file.ends_with(".onnx") {
            // Only the model says what the files with its weights are called.
            for location in external_locations(&path)? {
                get(&select::beside(listing, &file, &location)?)?;
            }
        }
    }
    Ok(())
}

/// The files without text encoders that are not CLIP's, by what the small ones among them say.
fn clip_only(
    listing: &[String],
    name: &HubName,
    mut get: impl FnMut(&str) -> Result<PathBuf>,
) -> Result<Vec<String>> {
    let mut descriptions = BTreeMap::new();
    for file in select::describing(listing, name.part()) {
        let path = get(&file)?;
        let text = cliptext_files::read_whole(&path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let value: Value =
            serde_json::from_slice(&text).with_context(|| format!("{}: not JSON", path.display()))?;
        descriptions.insert(file, value);
    }
    select::clip_only(listing, name.part(), |file| descriptions.get(file).cloned())
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
