//! Files that the programs write.

use std::fs::File;
use std::io::{BufWriter, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::destination::{self, Destination};
use crate::durable::{self, System};
use crate::unfinished::{Temporary, temporary};

/// An output while it is written.
///
/// A regular file is written under a temporary name beside its own, so that no program reads half of it: the old file
/// stays until [`finish`](Self::finish), and without that the temporary file goes when this is dropped. Of a link the
/// file that it leads to is replaced. A pipe or a device gets the bytes as they come.
#[derive(Debug)]
pub struct Output {
    file: BufWriter<File>,
    /// The temporary file and the one to be; `None`: the file is written directly.
    replaces: Option<(Temporary, PathBuf)>,
}

impl Output {
    /// Starts the output at `path`; of a named pipe this waits for a reader.
    ///
    /// # Errors
    /// When it is a folder, its folder is missing, or there is no permission to write.
    pub fn create(path: &Path) -> Result<Self> {
        let (file, replaces) = match Destination::of(path)? {
            Destination::Written(path) => (destination::open(&path)?, None),
            Destination::Replaced(path) => {
                let (file, temporary) = temporary(destination::folder(&path))?;
                // The new file is as private as the old one.
                if let Ok(old) = std::fs::metadata(&path)
                    && old.permissions() != file.metadata()?.permissions()
                {
                    std::fs::set_permissions(temporary.path(), old.permissions())?;
                }
                (file, Some((temporary, path)))
            }
        };
        Ok(Self { file: BufWriter::new(file), replaces })
    }

    /// Whether an output at `path` can be started: to be asked before work that takes minutes.
    ///
    /// # Errors
    /// As [`create`](Self::create); of a pipe or a device only whether it is there is known.
    pub fn check(path: &Path) -> Result<()> {
        match Destination::of(path)? {
            Destination::Written(_) => Ok(()),
            Destination::Replaced(path) => temporary(destination::folder(&path)).map(|_| ()),
        }
    }

    /// Whether it is a regular file, of which the beginning can be [written again](Self::rewrite_start).
    pub fn is_regular(&self) -> bool {
        self.replaces.is_some()
    }

    /// The folder of a [regular](Self::is_regular) file.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.replaces.as_ref().map(|(_, path)| destination::folder(path))
    }

    /// Writes `bytes` over the beginning of a [regular](Self::is_regular) file: a header that was not known before.
    ///
    /// # Errors
    /// When that can't be done.
    pub fn rewrite_start(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(bytes)?;
        self.file.seek(SeekFrom::End(0)).map(|_| ())
    }

    /// Gives the file its name, in place of what was there, once its bytes are on the disk.
    ///
    /// # Errors
    /// When the last bytes can't be written, or a folder has got the name meanwhile.
    pub fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        if let Some((temporary, path)) = self.replaces {
            durable::replace(&mut System, &file, temporary.path(), &path)?;
            temporary.renamed();
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

/// Of a [regular](Output::is_regular) file; of others an error.
impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.file.seek(to)
    }
}

/// Writes a whole output.
///
/// # Errors
/// As [`Output`]'s.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.write_all(bytes)?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_file_that_is_not_finished_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        let mut file = Output::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        // Two at once have names of their own.
        let other = Output::create(&path).unwrap();
        assert_eq!(names(folder.path()).len(), 3);
        drop((file, other));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        std::fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(write(&folder.path().join("taken"), b"x").is_err());
        assert!(write(&folder.path().join("no/such/file"), b"x").is_err());
        // A folder takes the name while the file is written.
        let late = Output::create(&folder.path().join("late")).unwrap();
        std::fs::create_dir(folder.path().join("late")).unwrap();
        assert!(late.finish().is_err());
        assert_eq!(names(folder.path()), ["file", "late", "taken"]);
    }

    #[test]
    fn a_check_finds_what_creating_would_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Output::check(&folder.path().join("new")).is_ok());
        assert!(Output::check(&folder.path().join("none/new")).is_err());
        assert!(Output::check(folder.path()).is_err());
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn of_a_link_the_file_is_replaced_and_the_link_stays() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("there")).unwrap();
        std::fs::write(at("there/file"), b"old").unwrap();
        std::fs::set_permissions(at("there/file"), PermissionsExt::from_mode(0o640)).unwrap();
        symlink("there/file", at("link")).unwrap();
        symlink("there/new", at("dangling")).unwrap();
        write(&at("link"), b"new").unwrap();
        write(&at("dangling"), b"made").unwrap();
        for (link, bytes) in [("link", &b"new"[..]), ("dangling", b"made")] {
            assert!(std::fs::symlink_metadata(at(link)).unwrap().is_symlink());
            assert_eq!(std::fs::read(at(link)).unwrap(), bytes);
        }
        assert_eq!(std::fs::metadata(at("there/file")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(&at("there")), ["file", "new"]);
        // A new file is as open to others as any.
        std::fs::write(at("usual"), b"").unwrap();
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!(mode("there/new"), mode("usual"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn devices_and_pipes_are_written_to_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        write("/dev/null".as_ref(), b"x").unwrap();
        assert!(!names("/dev".as_ref()).iter().any(|name| name.ends_with(".tmp")));
        let full = write("/dev/full".as_ref(), b"x").unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        write(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert_eq!(names(folder.path()), ["pipe"]);
    }
}
