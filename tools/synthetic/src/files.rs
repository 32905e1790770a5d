//! Files that are whole or not there.

use crate::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Writes beside `path`, then takes its place, so that nobody sees half a file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let attempt = || {
        // The parent of a bare name is empty, which no system call understands.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        share(path)
    };
    attempt().map_err(|cause| Error::Write { path: path.to_owned(), cause })
}

/// Lets others read a file that came from a temporary one, which only its owner may.
pub(crate) fn share(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    #[cfg(not(unix))]
    let _ = fs::metadata(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("file");
        let error = write(&path, b"").unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
