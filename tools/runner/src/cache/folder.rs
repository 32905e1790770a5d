//! A folder of files whose bytes are bounded: those that were not used for longest go first.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cliptext::AlignedBytes;
use cliptext_files::temporary;

/// The ending of entries' names.
const ENDING: &str = ".pack";

/// Hexadecimal digits of an entry's name.
const DIGITS: usize = 64;

/// What a process that was killed has left behind goes after so long.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The name of the entry with this hash.
pub(super) fn name_of(hash: &[u8; 32]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    digits + ENDING
}

/// The folder. Several processes use it at once: files come whole, by renaming, and one that another process has removed is
/// none.
pub(super) struct Folder {
    path: PathBuf,
    limit: u64,
    /// Bytes of all entries, as far as this process knows; `None` until it looks.
    used: Option<u64>,
}

impl Folder {
    /// The folder at `path`, made where there is none: for this user alone, as prompts are private.
    pub(super) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)?;
        Ok(Self { path: path.to_owned(), limit, used: None })
    }

    /// The path of an entry.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder, for messages.
    pub(super) fn shown(&self) -> impl std::fmt::Display {
        self.path.display()
    }

    /// The bytes of an entry; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<AlignedBytes>> {
        let file = match File::open(self.path(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let expected = file.metadata()?.len();
        AlignedBytes::read(file, expected.try_into().unwrap_or(usize::MAX)).map(Some)
    }

    /// Notes that an entry was used. Where that can't be written down, as in a folder that is only read, it keeps its age.
    pub(super) fn touch(&self, name: &str) {
        let file = File::options().write(true).open(self.path(name));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Removes an entry, if it is there.
    pub(super) fn remove(&self, name: &str) {
        let _ = std::fs::remove_file(self.path(name));
    }

    /// Adds an entry that `write` writes, and removes others where all are too many bytes.
    ///
    /// The bytes are not brought to the disk: an entry that a loss of power cuts short is found to be damaged.
    pub(super) fn add(&mut self, name: &str, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let used = match self.used {
            Some(used) => used,
            None => self.entries()?.iter().map(|entry| entry.bytes).sum(),
        };
        let (file, temporary) = temporary(&self.path)?;
        write(&file)?;
        let bytes = file.metadata()?.len();
        if bytes > self.limit {
            return Err(io::Error::other(format!(
                "an embedding takes {bytes} bytes, and --cache-size is {}",
                self.limit
            )));
        }
        drop(file);
        temporary.rename(&self.path(name))?;
        // Of two processes that write the same entry both count it: entries are counted again before any goes.
        let used = used.saturating_add(bytes);
        self.used = Some(if used > self.limit { self.shrink()? } else { used });
        Ok(())
    }

    /// Removes the oldest entries until all others take a tenth less than the limit, so that not every new one has to; returns
    /// their bytes.
    fn shrink(&self) -> io::Result<u64> {
        let mut entries = self.entries()?;
        let mut used: u64 = entries.iter().map(|entry| entry.bytes).sum();
        if used <= self.limit {
            return Ok(used);
        }
        entries.sort_by_key(|entry| entry.modified);
        // The newest is the one that was just added.
        entries.pop();
        for entry in entries {
            if used <= self.limit - self.limit / 10 {
                break;
            }
            match std::fs::remove_file(&entry.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => used -= entry.bytes,
            }
        }
        Ok(used)
    }

    /// All entries. What else is in the folder is left alone, but for what killed processes have left.
    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in std::fs::read_dir(&self.path)? {
            let found = found?;
            let name = found.file_name();
            let Some(name) = name.to_str() else { continue };
            // Another process may have removed it meanwhile.
            let Ok(metadata) = found.metadata() else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if is_entry(name) && metadata.is_file() {
                entries.push(Entry { path: found.path(), bytes: metadata.len(), modified });
            } else if cliptext_files::is_temporary(name) && modified.elapsed().is_ok_and(|age| age > STALE) {
                let _ = std::fs::remove_file(found.path());
            }
        }
        Ok(entries)
    }
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

/// Whether a file's name is that of an entry.
fn is_entry(name: &str) -> bool {
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    name.strip_suffix(ENDING).is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(is_digit))
}
