//! Files that are whole or not there.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file while it is written: under a temporary name beside its own, so that nobody ever sees half of it.
///
/// What was there under its name stays until [`finish`](Self::finish); without that the file goes when it is dropped.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    done: bool,
}

impl WholeFile {
    /// Starts the file at `path`.
    ///
    /// # Errors
    /// When its folder is missing or can't be written to.
    pub fn create(path: &Path) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut temporary = path.as_os_str().to_owned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".tmp{}-{number}", std::process::id()));
        let file = BufWriter::new(File::create(&temporary)?);
        Ok(Self { path: path.to_owned(), temporary: temporary.into(), file, done: false })
    }

    /// Gives the file its name, in place of what was there.
    ///
    /// # Errors
    /// When the last bytes can't be written, or something that is no file has the name.
    pub fn finish(mut self) -> Result<()> {
        self.file.flush()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.done {
            // Already failing: whether the rest can be removed changes nothing.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a whole file.
///
/// # Errors
/// As [`WholeFile`]'s.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("cliptext-files-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn count(&self) -> usize {
            std::fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = Folder::new("replaced");
        let path = folder.0.join("file");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.count(), 1);
    }

    #[test]
    fn a_file_that_is_not_finished_changes_nothing() {
        let folder = Folder::new("unfinished");
        let path = folder.0.join("file");
        write(&path, b"old").unwrap();
        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        // Two at once have names of their own.
        let other = WholeFile::create(&path).unwrap();
        assert_eq!(folder.count(), 3);
        drop((file, other));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(folder.count(), 1);
        // A folder has the name.
        std::fs::create_dir(folder.0.join("taken")).unwrap();
        assert!(write(&folder.0.join("taken"), b"x").is_err());
        assert_eq!(folder.count(), 2);
        assert!(write(&folder.0.join("no/such/file"), b"x").is_err());
    }
}
