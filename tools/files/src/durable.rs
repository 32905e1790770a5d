//! Replacing a file so that a loss of power leaves the old one or the new one.

use std::fs::File;
use std::io::Result;
use std::path::Path;

use crate::destination;

/// What is asked of a file system, in the order in which [`replace`] asks.
pub(crate) trait Disk {
    /// Brings a file's bytes to the disk.
    fn sync(&mut self, file: &File) -> Result<()>;
    /// Gives a file another name.
    fn rename(&mut self, from: &Path, to: &Path) -> Result<()>;
    /// Brings a folder's names to the disk.
    fn sync_folder(&mut self, folder: &Path) -> Result<()>;
}

/// The file system itself.
pub(crate) struct System;

impl Disk for System {
    fn sync(&mut self, file: &File) -> Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&mut self, folder: &Path) -> Result<()> {
        sync_folder(folder)
    }
}

/// Puts the file at `temporary` in the place of `path`. Renamed before its bytes are on the disk, it could be found
/// empty after a loss of power.
pub(crate) fn replace(disk: &mut impl Disk, file: &File, temporary: &Path, path: &Path) -> Result<()> {
    disk.sync(file)?;
    disk.rename(temporary, path)?;
    disk.sync_folder(destination::folder(path))
}

/// Brings the names in a folder to the disk, where the system knows a way: Windows has none, some network file systems
/// refuse, and a folder that can be written to need not be readable.
///
/// # Errors
/// When the disk fails.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            Err(error) if !matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
                return Err(error);
            }
            _ => {}
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    /// Remembers what was asked; fails at one of it.
    struct Recorder {
        asked: Vec<&'static str>,
        fails_at: &'static str,
    }

    impl Recorder {
        fn note(&mut self, what: &'static str) -> Result<()> {
            self.asked.push(what);
            if what == self.fails_at { Err(Error::other("the disk is broken")) } else { Ok(()) }
        }
    }

    impl Disk for Recorder {
        fn sync(&mut self, _: &File) -> Result<()> {
            self.note("sync")
        }

        fn rename(&mut self, _: &Path, _: &Path) -> Result<()> {
            self.note("rename")
        }

        fn sync_folder(&mut self, folder: &Path) -> Result<()> {
            assert_eq!(folder, Path::new("/folder"));
            self.note("sync folder")
        }
    }

    #[test]
    fn bytes_are_on_the_disk_before_the_name_is() {
        let file = tempfile::tempfile().unwrap();
        for (fails_at, expected) in [
            ("", &["sync", "rename", "sync folder"][..]),
            ("sync", &["sync"]),
            ("rename", &["sync", "rename"]),
        ] {
            let mut disk = Recorder { asked: vec![], fails_at };
            let done = replace(&mut disk, &file, Path::new("/folder/t"), Path::new("/folder/x"));
            assert_eq!((done.is_ok(), &disk.asked[..]), (fails_at.is_empty(), expected));
        }
    }

    #[test]
    fn a_folder_is_synced_and_a_missing_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(sync_folder(folder.path()).is_ok());
        assert_eq!(sync_folder(&folder.path().join("none")).is_err(), cfg!(unix));
    }
}
