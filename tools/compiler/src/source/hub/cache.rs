//! One repository in the hub's cache, laid out as Hugging Face's tools do:
//! `blobs/ETAG`, links to them in `snapshots/COMMIT/…`, and `refs/REVISION` that holds a commit.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::http::{ATTEMPTS, Client, Described, Failure};
use super::listing::{Hash, Listing};
use super::name::{self, HubName};
use super::settings::Settings;
use crate::progress::{Progress, Transfer};

/// Bytes read at a time.
const BUFFER: usize = 256 << 10;

/// The repository's folder in the cache.
pub(super) struct Store {
    repo: CacheRepo,
    /// `models--OWNER--REPO`.
    folder: PathBuf,
    locks: PathBuf,
    revision: String,
}

impl Store {
    pub(super) fn new(settings: &Settings, name: &HubName) -> Self {
        let repo = Repo::with_revision(name.repository().into(), RepoType::Model, name.revision().to_owned());
        let folder = repo.folder_name();
        Self {
            locks: settings.cache.join(".locks").join(&folder),
            folder: settings.cache.join(folder),
            revision: name.revision().to_owned(),
            repo: Cache::new(settings.cache.clone()).repo(repo),
        }
    }

    /// The folder of a commit's files, whether it is there or not.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// The snapshot of the revision as it was known last.
    pub(super) fn known_snapshot(&self) -> Option<PathBuf> {
        let known = fs::read_to_string(self.folder.join("refs").join(&self.revision)).ok();
        // A commit has no file among the refs, where Python's tools put it there.
        let commit = known.as_deref().map_or(self.revision.as_str(), str::trim);
        let plain = !commit.is_empty() && name::steps("commit", commit).is_ok();
        Some(self.snapshot(commit)).filter(|snapshot| plain && snapshot.is_dir())
    }

    /// Notes that the revision is this commit, where that is not known.
    pub(super) fn remember(&self, commit: &str) -> Result<()> {
        let path = self.folder.join("refs").join(&self.revision);
        if commit == self.revision || fs::read_to_string(&path).is_ok_and(|known| known.trim() == commit) {
            return Ok(());
        }
        let written = fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| cliptext_files::write(&path, commit.as_bytes()));
        written.with_context(|| format!("{}: cannot be written", path.display()))
    }

    /// The path of a file of a commit, which is fetched if it is not there.
    pub(super) fn get(
        &self,
        client: &Client<'_>,
        listing: &Listing,
        file: &str,
        progress: &Progress,
    ) -> Result<PathBuf> {
        let commit = &listing.commit;
        let path = self.snapshot(commit).join(file);
        if path.is_file() {
            return Ok(path);
        }
        let described = client.describe(commit, file)?;
        let blob = self.repo.blob_path(&described.etag);
        let whole = || {
            let held = fs::metadata(&blob).ok().filter(fs::Metadata::is_file)?.len();
            Some(described.size.is_none_or(|size| size == held))
        };
        if whole() != Some(true) {
            let _lock = self.lock(&described.etag, file, progress)?;
            // The program that held the lock may have fetched it.
            if whole() != Some(true) {
                let hash = listing.hash(file).or_else(|| Hash::sha256(&described.etag));
                let download = Download { client, commit, file, described: &described, hash, progress };
                download.run(&blob)?;
            }
        }
        link(&blob, &path, commit_depth(file))
            .with_context(|| format!("{}: cannot be made", path.display()))?;
        Ok(path)
    }

    /// One download of a file at a time, in all programs that keep to this: Python's lock the same file.
    fn lock(&self, etag: &str, file: &str, progress: &Progress) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        let lock = create(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!("another program fetches {file}: waiting for it"));
                lock.lock().with_context(|| format!("{}: cannot be locked", path.display()))?;
            }
            // Some network file systems know no locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{}: cannot be locked", path.display()));
            }
        }
        Ok(lock)
    }
}

/// Steps from a snapshot's file up to the repository's folder.
fn commit_depth(file: &str) -> usize {
    2 + file.matches('/').count()
}

/// Opens a file for reading and writing, with all folders above it.
fn create(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// A link at `path` to the blob, `up` folders above; where the file system has no links, a copy.
fn link(blob: &Path, path: &Path, up: usize) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut target: PathBuf = std::iter::repeat_n("..", up).collect();
    target.push("blobs");
    target.push(blob.file_name().unwrap_or_default());
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    // Made beside it and renamed: another program that reads the snapshot never finds it missing.
    let folder = path.parent().unwrap_or(path);
    let ((), link) = cliptext_files::temporary_by(folder, |link| {
        symlink(&target, link).or_else(|_| {
            let mut copy = File::options().write(true).create_new(true).open(link)?;
            std::io::copy(&mut File::open(blob)?, &mut copy)?;
            copy.sync_all()
        })
    })?;
    link.rename(path)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need a privilege that few have.
#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// A file on its way into the cache.
struct Download<'a> {
    client: &'a Client<'a>,
    commit: &'a str,
    file: &'a str,
    described: &'a Described,
    /// What the contents are checked by, where the hub says it.
    hash: Option<Hash>,
    progress: &'a Progress,
}

impl Download<'_> {
    /// Fetches the file into `blob`, from where an earlier attempt, of this run or another, was cut.
    fn run(&self, blob: &Path) -> Result<()> {
        // The name that hf-hub gives to a file that is not whole.
        let path = blob.with_file_name(format!("{}.part", self.described.etag));
        let mut part = create(&path)?;
        let resumed = self.fill(&mut part)?;
        if !self.is_sound(&mut part)? {
            part.set_len(0)?;
            // What was there before may have been damaged: once more, all of it.
            let sound = resumed && {
                self.fill(&mut part)?;
                self.is_sound(&mut part)?
            };
            if !sound {
                let _ = fs::remove_file(&path);
                let kind = self.hash.as_ref().map_or("hash", Hash::kind);
                bail!("{}: what came has another {kind} than the hub says; try again", self.file);
            }
        }
        part.sync_all().with_context(|| path.display().to_string())?;
        drop(part);
        fs::rename(&path, blob)
            .and_then(|()| cliptext_files::sync_folder(blob.parent().unwrap_or(blob)))
            .with_context(|| format!("{}: cannot be made", blob.display()))
    }

    /// Fetches until the file has its size; says whether some of it was there before.
    fn fill(&self, part: &mut File) -> Result<bool> {
        let mut held = part.metadata()?.len();
        // Without a size nothing tells a part from the whole.
        if self.described.size.is_none_or(|size| held > size) {
            part.set_len(0)?;
            held = 0;
        }
        let resumed = held > 0;
        let mut transfer = self.progress.transfer(self.file, self.described.size);
        transfer.at(held);
        let mut failures = 0;
        while self.described.size != Some(held) {
            let before = held;
            let (error, asked) = match self.receive(part, &mut held, &mut transfer) {
                Ok(()) => break,
                Err(Failure::Passing(error, asked)) => (error, asked),
                Err(Failure::Unreachable(error)) => (error, None),
                Err(Failure::Final(error)) => return Err(error),
            };
            if self.described.size.is_none() {
                held = 0;
            }
            // What brought something on begins the count anew.
            failures = if held > before { 1 } else { failures + 1 };
            if failures == ATTEMPTS {
                return Err(error.context(format!(
                    "{}: cut at byte {held}, and {ATTEMPTS} attempts to go on failed; run again to go on from there",
                    self.file
                )));
            }
            self.client.pause(failures, asked);
        }
        Ok(resumed)
    }

    /// One request: `Ok` once the file is whole.
    fn receive(&self, part: &mut File, held: &mut u64, transfer: &mut Transfer<'_>) -> Result<(), Failure> {
        let last = |error: std::io::Error| Failure::Final(anyhow!("cannot write {}: {error}", self.file));
        let Some((begins, body)) = self.client.bytes(self.commit, self.file, *held)? else {
            let error = anyhow!("the server has no bytes from {held} on");
            *held = 0;
            return Err(Failure::Passing(error, None));
        };
        if begins > *held {
            return Err(Failure::Final(anyhow!(
                "{}: asked for bytes from {held} on, got {begins}",
                self.file
            )));
        }
        // A server without ranges sends all of it again.
        *held = begins;
        part.set_len(begins).map_err(last)?;
        part.seek(SeekFrom::Start(begins)).map_err(last)?;
        let most = self.described.size.map_or(u64::MAX, |size| size - begins);
        let mut body = body.into_reader().take(most);
        let mut buffer = vec![0; BUFFER];
        loop {
            transfer.at(*held);
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    part.write_all(&buffer[..read]).map_err(last)?;
                    *held += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Passing(anyhow!("the connection broke: {error}"), None)),
            }
        }
        match self.described.size {
            Some(size) if *held < size => {
                Err(Failure::Passing(anyhow!("the server ended at byte {held} of {size}"), None))
            }
            _ => Ok(()),
        }
    }

    /// Whether the contents have their hash.
    fn is_sound(&self, part: &mut File) -> Result<bool> {
        self.hash.as_ref().map_or(Ok(true), |hash| hash.is_of(part))
    }
}
