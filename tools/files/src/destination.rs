//! Where the path of an output leads.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};

/// Links in a row that are followed, as many as Linux does.
const LINKS: usize = 40;

/// What is done with an output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A regular file, by a path whose last step is no link: it is replaced, or made.
    Replaced(PathBuf),
    /// It is a pipe, a device or an open descriptor of this process, and written to as it is.
    Written(PathBuf),
}

impl Destination {
    /// Follows `path`; the last link may lead to a file that is not there yet. `-` is standard output.
    ///
    /// # Errors
    /// When it leads to a folder, in circles, or into a folder that is not there.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            if descriptor(&path).is_some() {
                return Ok(Self::Written(path));
            }
            match std::fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() => {
                    let target = std::fs::read_link(&path)?;
                    path = folder(&path).join(target);
                }
                Ok(found) if found.is_dir() => return Err(is_a_folder()),
                Ok(found) if !found.is_file() => return Ok(Self::Written(path)),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => return regular(&path),
            }
        }
        Err(Error::other(format!("more than {LINKS} links in a row")))
    }
}

/// A regular file, there or not, by the true path of its folder.
fn regular(path: &Path) -> Result<Destination> {
    // `x/` and `x/..` have no name for a file.
    let ends_in_separator = path
        .as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|&byte| std::path::is_separator(char::from(byte)));
    let name = path.file_name().filter(|_| !ends_in_separator).ok_or_else(is_a_folder)?;
    let folder = folder(path);
    let canonical = folder.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, format!("there is no folder {}", folder.display()))
        }
        _ => error,
    })?;
    Ok(Destination::Replaced(canonical.join(name)))
}

fn is_a_folder() -> Error {
    Error::new(ErrorKind::IsADirectory, "it is a folder: give the name of a file in it")
}

/// The folder that a path lies in, as a path that can be opened.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path that means standard output, and standard input where something is read.
pub const DASH: &str = "-";

/// The number of the open file that a path such as `-`, `/dev/stdout` or `/dev/fd/3` is another name of.
///
/// It may lead to a regular file that the shell has opened: that file must get the bytes, not one that replaces it.
fn descriptor(path: &Path) -> Option<u32> {
    if path == Path::new(DASH) {
        return Some(1);
    }
    if !cfg!(unix) {
        return None;
    }
    let steps: Vec<&OsStr> = path.components().map(Component::as_os_str).collect();
    let steps: Vec<&str> = steps.iter().map(|step| step.to_str()).collect::<Option<_>>()?;
    match steps[..] {
        ["/", "dev", "stdin"] => Some(0),
        ["/", "dev", "stdout"] => Some(1),
        ["/", "dev", "stderr"] => Some(2),
        ["/", "dev", "fd", number] | ["/", "proc", "self", "fd", number] => number.parse().ok(),
        _ => None,
    }
}

/// Opens what is [written](Destination::Written) to as it is.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Opened again, a file that standard output appends to would be written from its beginning.
    #[cfg(unix)]
    use std::os::fd::AsFd as _;
    #[cfg(windows)]
    use std::os::windows::io::AsHandle as _;
    match descriptor(path) {
        #[cfg(unix)]
        Some(1) => Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into()),
        #[cfg(unix)]
        Some(2) => Ok(std::io::stderr().as_fd().try_clone_to_owned()?.into()),
        #[cfg(windows)]
        Some(1) => Ok(std::io::stdout().as_handle().try_clone_to_owned()?.into()),
        _ => OpenOptions::new().write(true).open(path),
    }
}

/// Whether an output at `path` goes to standard output.
pub fn is_stdout(path: &Path) -> bool {
    matches!(Destination::of(path), Ok(Destination::Written(path)) if descriptor(&path) == Some(1))
}

/// Whether an input at `path` comes from standard input.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new(DASH) || descriptor(path) == Some(0)
}

/// Whether two paths lead to the same regular file, there or not, or the same pipe or descriptor: as two outputs, or input
/// and output, one would be lost. Other devices, as `/dev/null`, take what comes.
pub fn same_file(one: &Path, other: &Path) -> bool {
    match (Destination::of(one), Destination::of(other)) {
        (Ok(Destination::Replaced(one)), Ok(Destination::Replaced(other))) => one == other,
        (Ok(Destination::Written(one)), Ok(Destination::Written(other))) => {
            let descriptors = (descriptor(&one), descriptor(&other));
            descriptors.0.is_some() && descriptors.0 == descriptors.1 || one == other && is_pipe(&one)
        }
        _ => false,
    }
}

#[cfg(unix)]
fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_pipe(_: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_followed_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        let replaced = |name: &str| Some(Destination::Replaced(at.join(name)));
        let of = |path: PathBuf| Destination::of(&path).ok();
        assert_eq!(of(at.join("new")), replaced("new"));
        std::fs::write(at.join("file"), b"").unwrap();
        std::fs::create_dir(at.join("folder")).unwrap();
        symlink("../file", at.join("folder/relative")).unwrap();
        symlink(at.join("folder/relative"), at.join("twice")).unwrap();
        symlink("not there yet", at.join("dangling")).unwrap();
        symlink("folder", at.join("to folder")).unwrap();
        symlink("circle", at.join("circle")).unwrap();
        assert_eq!(of(at.join("twice")), replaced("file"));
        assert_eq!(of(at.join("to folder/../file")), replaced("file"));
        assert_eq!(of(at.join("dangling")), replaced("not there yet"));
        assert_eq!(of(at.join("to folder/x")), replaced("folder/x"));
        for wrong in ["circle", "folder", "to folder", "new/", "none/x", "file/x", "folder/.."] {
            assert_eq!(of(at.join(wrong)), None, "{wrong}");
        }
        let missing = Destination::of(&at.join("none/x")).unwrap_err();
        assert!(missing.to_string().contains("there is no folder") && missing.to_string().contains("none"));
        assert!(same_file(&at.join("twice"), &at.join("file")) && !same_file(&at.join("a"), &at.join("b")));
    }

    #[test]
    fn devices_pipes_and_descriptors_are_written_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/dev/stdout", folder.path().join("out")).unwrap();
        for path in ["/dev/null", "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/7"] {
            assert_eq!(Destination::of(path.as_ref()).unwrap(), Destination::Written(path.into()));
        }
        assert!(is_stdout(&folder.path().join("out")) && is_stdout("/dev/fd/1".as_ref()));
        assert!(!is_stdout("/dev/stderr".as_ref()) && !is_stdout("/dev/null".as_ref()));
        assert!(is_stdout("-".as_ref()) && !is_stdout("./-".as_ref()));
        assert!(!same_file("/dev/null".as_ref(), "/dev/null".as_ref()));
        assert!(same_file("-".as_ref(), "/dev/stdout".as_ref()));
        assert!(!same_file("/dev/stderr".as_ref(), "/dev/stdout".as_ref()));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(same_file(&pipe, &pipe));
    }
}
