//! Temporary files and folders, which go when their owner does: dropped, in a panic too, or ended by a signal. What a process left that
//! was killed (SIGKILL, a loss of power) goes when the next one makes a temporary file in the same folder.

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
    /// With what [holds](hold) it.
    Folder {
        folder: TempDir,
        _held: Option<File>,
    },
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
    #[cfg(unix)]
    left::sweep_once(folder);
    let (file, temporary) =
        temporary_by(folder, |path| File::options().read(true).write(true).create_new(true).open(path))?;
    hold(&file);
    Ok((file, temporary))
}

/// Marks what `file` is as in use, for as long as that is open: the system lets go of it when the process ends, however it does. Where a
/// file system knows no locks nothing is [swept](left::sweep).
fn hold(file: &File) {
    // Elsewhere a lock keeps others from reading too.
    if cfg!(unix) {
        let _ = file.try_lock();
    }
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
    {
        signals::watch();
        left::sweep_once(&std::env::temp_dir());
    }
    let mut unfinished = unfinished();
    let folder = private(names()).tempdir()?;
    unfinished.push(folder.path().to_path_buf());
    let held = if cfg!(unix) { File::open(folder.path()).ok() } else { None };
    held.iter().for_each(hold);
    Ok(Temporary(Kind::Folder { folder, _held: held }))
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
            Kind::Folder { folder, .. } => folder.path(),
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
            Kind::Folder { folder, .. } => folder.disable_cleanup(true),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        forget(self.path());
    }
}

#[cfg(unix)]
mod left {
    use std::fs::{DirEntry, File};
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    /// What nobody holds and nobody has changed for so long has no owner. The lock alone would do but for the moment before it is taken, and
    /// for network file systems where another machine's is not seen.
    pub(super) const AGE: Duration = Duration::from_secs(60 * 60);

    /// Names of a folder that are looked at, at the most: an output shall not take longer the more stand beside it.
    const MOST_NAMES: usize = 10_000;

    /// Folders of a process that are looked into, at the most.
    const MOST_FOLDERS: usize = 16;

    /// [`sweep`] where this process has not done so.
    pub(super) fn sweep_once(folder: &Path) {
        static SWEPT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
        let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.len() < MOST_FOLDERS && !swept.iter().any(|known| known == folder) {
            swept.push(folder.to_owned());
            drop(swept);
            sweep(folder);
        }
    }

    /// Removes what processes have left in `folder` that were killed.
    pub(super) fn sweep(folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.take(MOST_NAMES).flatten() {
            if entry.file_name().to_str().is_some_and(super::is_temporary) {
                remove_left(&entry);
            }
        }
    }

    /// Removes `entry` if it is this user's, old, and nobody holds it.
    fn remove_left(entry: &DirEntry) -> Option<()> {
        let found = entry.metadata().ok()?;
        // SAFETY: the call takes nothing, changes nothing and can't fail.
        let user = unsafe { libc::geteuid() };
        let age = found.modified().ok()?.elapsed().ok()?;
        if found.uid() != user || age < AGE {
            return None;
        }
        let path = entry.path();
        if found.is_symlink() {
            return std::fs::remove_file(path).ok();
        }
        let held =
            File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path).ok()?;
        held.try_lock().ok()?;
        if found.is_dir() { std::fs::remove_dir_all(path).ok() } else { std::fs::remove_file(path).ok() }
    }
}

#[cfg(unix)]
mod signals {
    use std::sync::{Arc, Once};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
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
            // Where a file may grow no more (`ulimit -f`) the write fails, and that is told: unhandled, the signal ends the program.
            if !is_ignored(SIGXFSZ) {
                let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
            }
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

    #[cfg(unix)]
    #[test]
    fn what_killed_processes_left_goes_and_what_is_in_use_stays() {
        use std::time::SystemTime;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let old = SystemTime::now() - 2 * left::AGE;
        let make = |name: &str, modified| {
            let file = File::create(at(name)).unwrap();
            file.set_modified(modified).unwrap();
        };
        make(".cliptext-left.tmp", old);
        make(".cliptext-new.tmp", SystemTime::now());
        make("cliptext.tmp", old);
        std::fs::create_dir(at(".cliptext-folder.tmp")).unwrap();
        make(".cliptext-folder.tmp/model", old);
        File::open(at(".cliptext-folder.tmp")).unwrap().set_modified(old).unwrap();
        let (file, held) = temporary(folder.path()).unwrap();
        file.set_modified(old).unwrap();
        // Once for a process: the output that follows does not look again.
        make(".cliptext-later.tmp", old);
        let other = temporary(folder.path()).unwrap();
        let names = || {
            let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        let own = |temporary: &Temporary| temporary.path().file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected =
            [".cliptext-later.tmp", ".cliptext-new.tmp", &own(&held), &own(&other.1), "cliptext.tmp"];
        expected.sort();
        assert_eq!(names(), expected);
        // The file that is written to is old too, and stays.
        left::sweep(folder.path());
        assert!(held.path().is_file() && !at(".cliptext-later.tmp").exists());
        drop(file);
        left::sweep(folder.path());
        assert!(!held.path().exists() && at(".cliptext-new.tmp").exists());
    }
}
