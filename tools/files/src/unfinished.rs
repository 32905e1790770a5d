//! Temporary files and folders, which go when their owner does: dropped, in a panic too, or ended by a signal.

use std::fs::File;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{Builder, TempDir, TempPath};

/// The temporary files and folders of this process.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    // A list of paths has no state in between.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget(path: &Path) {
    let mut unfinished = unfinished();
    if let Some(at) = unfinished.iter().position(|known| known == path) {
        unfinished.swap_remove(at);
    }
}

/// A temporary file or folder, which goes with this.
#[derive(Debug)]
pub struct Temporary(Kind);

#[derive(Debug)]
enum Kind {
    File(TempPath),
    Folder(TempDir),
}

const PREFIX: &str = ".cliptext-";
const SUFFIX: &str = ".tmp";

/// Names that can't be guessed.
fn names<'a>() -> Builder<'a, 'a> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).rand_bytes(12).suffix(SUFFIX);
    builder
}

/// Whether a file in a folder of this program's own has a temporary name: one that is old belongs to a process that was killed.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Makes an empty file in `folder`, which only this process knows: under a name that can't be guessed, and that nothing
/// had before. Other users may read it as far as they may read new files.
///
/// # Errors
/// When the folder is missing or can't be written to.
pub fn temporary(folder: &Path) -> Result<(File, Temporary)> {
    temporary_by(folder, |path| File::options().read(true).write(true).create_new(true).open(path))
}

/// Makes something in `folder` as [`temporary`] does: `make` gets a path, and fails with
/// [`AlreadyExists`](std::io::ErrorKind::AlreadyExists) where something is there already.
///
/// # Errors
/// Those of `make`.
pub fn temporary_by<R>(folder: &Path, mut make: impl FnMut(&Path) -> Result<R>) -> Result<(R, Temporary)> {
    #[cfg(unix)]
    signals::watch();
    let made = names().make_in(folder, |path| {
        // Before it is there, so that no signal comes between.
        unfinished().push(path.to_owned());
        make(path).inspect_err(|_| forget(path))
    });
    let (made, path) = made?.into_parts();
    Ok((made, Temporary(Kind::File(path))))
}

/// Makes an empty folder among the system's temporary files, for this user alone.
///
/// # Errors
/// When there is no room, or no permission.
pub fn temporary_folder() -> Result<Temporary> {
    #[cfg(unix)]
    signals::watch();
    let mut unfinished = unfinished();
    let folder = private(names()).tempdir()?;
    unfinished.push(folder.path().to_path_buf());
    Ok(Temporary(Kind::Folder(folder)))
}

#[cfg(unix)]
fn private<'a>(mut names: Builder<'a, 'a>) -> Builder<'a, 'a> {
    names.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    names
}

/// Of other systems the temporary folder is each user's own.
#[cfg(not(unix))]
fn private<'a>(names: Builder<'a, 'a>) -> Builder<'a, 'a> {
    names
}

impl Temporary {
    /// The path.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Kind::File(path) => path,
            Kind::Folder(folder) => folder.path(),
        }
    }

    /// Gives it the name `path`, in place of what has that.
    ///
    /// # Errors
    /// When that can't be done; it goes then.
    pub fn rename(self, path: &Path) -> Result<()> {
        std::fs::rename(self.path(), path)?;
        self.renamed();
        Ok(())
    }

    /// Leaves what has another name now.
    pub(crate) fn renamed(mut self) {
        match &mut self.0 {
            Kind::File(path) => path.disable_cleanup(true),
            Kind::Folder(folder) => folder.disable_cleanup(true),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        forget(self.path());
    }
}

#[cfg(unix)]
mod signals {
    use std::sync::Once;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    /// Stack of the thread that waits.
    const STACK: usize = 64 << 10;

    /// From now on, a signal that ends the program removes the temporary files first. Where handlers can't be set, they stay.
    pub(super) fn watch() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // What is ignored from the start stays so: SIGHUP below nohup, SIGINT in a shell's background.
            let wanted = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal));
            let Ok(mut signals) = Signals::new(wanted) else { return };
            let _ = std::thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(move || {
                for signal in signals.forever() {
                    // Locked to the end: no temporary file is made any more.
                    let unfinished = super::unfinished();
                    for path in unfinished.iter() {
                        // A file or a folder.
                        let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
                    }
                    let _ = emulate_default_handler(signal);
                }
            });
        });
    }

    fn is_ignored(signal: i32) -> bool {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: without a new action the call only writes the present one to the place given, and says whether it has.
        unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_IGN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_new_unforeseeable_and_go_with_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (temporary(folder.path()).unwrap().1, temporary(folder.path()).unwrap().1);
        let name = |temporary: &Temporary| temporary.path().file_name().unwrap().to_owned();
        assert!(one.path().is_file() && name(&one) != name(&other));
        assert!(is_temporary(name(&one).to_str().unwrap()) && !is_temporary("cliptext.tmp"));
        assert!(!name(&one).to_str().unwrap().contains(&std::process::id().to_string()));
        let listed = |path: &Path| unfinished().iter().any(|known| known == path);
        assert!(listed(one.path()) && listed(other.path()));
        let panicked = std::panic::catch_unwind(move || {
            let _one = one;
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        let path = other.path().to_owned();
        drop(other);
        assert!(!listed(&path));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let taken = temporary_by(folder.path(), |_| Err::<(), _>(std::io::ErrorKind::Unsupported.into()));
        assert!(taken.is_err() && !unfinished().iter().any(|path| path.starts_with(folder.path())));
        let kept = temporary_folder().unwrap();
        std::fs::write(kept.path().join("file"), b"x").unwrap();
        let path = kept.path().to_owned();
        drop(kept);
        assert!(!path.exists() && !listed(&path));
    }
}
