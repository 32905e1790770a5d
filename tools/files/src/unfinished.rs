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

/// A temporary file or folder, which goes with this.
#[derive(Debug)]
pub struct Temporary(Kind);

#[derive(Debug)]
enum Kind {
    File(TempPath),
    Folder(TempDir),
}

/// Names that can't be guessed.
fn names<'a>() -> Builder<'a, 'a> {
    let mut builder = Builder::new();
    builder.prefix(".cliptext-").rand_bytes(12).suffix(".tmp");
    builder
}

/// Makes an empty file in `folder`, which only this process knows: under a name that can't be guessed, and that nothing
/// had before. Other users may read it as far as they may read new files.
///
/// # Errors
/// When the folder is missing or can't be written to.
pub fn temporary(folder: &Path) -> Result<(File, Temporary)> {
    #[cfg(unix)]
    signals::watch();
    let mut builder = names();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Held from before the file is there, so that no signal comes between.
    let mut unfinished = unfinished();
    let (file, path) = builder.tempfile_in(folder)?.into_parts();
    unfinished.push(path.to_path_buf());
    Ok((file, Temporary(Kind::File(path))))
}

/// Makes an empty folder among the system's temporary files, for this user alone.
///
/// # Errors
/// When there is no room, or no permission.
pub fn temporary_folder() -> Result<Temporary> {
    #[cfg(unix)]
    signals::watch();
    let mut unfinished = unfinished();
    let mut builder = names();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let folder = builder.tempdir()?;
    unfinished.push(folder.path().to_path_buf());
    Ok(Temporary(Kind::Folder(folder)))
}

impl Temporary {
    /// The path.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Kind::File(path) => path,
            Kind::Folder(folder) => folder.path(),
        }
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
        let mut unfinished = unfinished();
        if let Some(at) = unfinished.iter().position(|path| path == self.path()) {
            unfinished.swap_remove(at);
        }
    }
}

#[cfg(unix)]
mod signals {
    use std::sync::Once;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    /// Stack of the thread that waits.
    const STACK: usize = 64 << 10;

    /// Removes the temporary files when somebody ends the program, and ends it. Where that can't be had they stay.
    pub(super) fn watch() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // Whoever started this program without interruptions, as a shell does in the background, goes on to.
            let wanted = [SIGINT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal));
            let Ok(mut signals) = Signals::new(wanted) else { return };
            let _ = std::thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(move || {
                for signal in signals.forever() {
                    // Locked to the end: nothing gets its name, and no temporary file is made any more.
                    let unfinished = super::unfinished();
                    for path in unfinished.iter() {
                        // Which of both it is nobody has to remember.
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
        let kept = temporary_folder().unwrap();
        std::fs::write(kept.path().join("file"), b"x").unwrap();
        let path = kept.path().to_owned();
        drop(kept);
        assert!(!path.exists() && !listed(&path));
    }
}
