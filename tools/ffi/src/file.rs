//! Files in memory: read, or mapped.

use core::ffi::{CStr, c_char};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cliptext::PlanFile;

use crate::pointers::{known, usable};
use crate::status::cliptext_status::*;
use crate::status::{Outcome, fail};

/// To open a file: read the whole file into memory, which takes its size in RAM. The file is needed no more.
pub const CLIPTEXT_READ: u32 = 1;

/// To open a file: map the file. Nothing is copied, processes share it, and the system may drop its pages where memory is short.
/// Until the plan is closed nobody may change the file or cut it short: changed bytes are undefined behaviour, and
/// a file that was cut, or a storage that fails, ends the process with a bus error (SIGBUS). A new plan is put in the
/// place of an old one by renaming.
pub const CLIPTEXT_MAP: u32 = 2;

/// The file at `path`, in memory.
pub(crate) unsafe fn open(path: *const c_char, flags: u32) -> Outcome<Arc<PlanFile>> {
    usable(path, "path")?;
    // SAFETY: not null; the caller's word is that a zero ends it.
    let path = system_path(unsafe { CStr::from_ptr(path) })?;
    known(flags, CLIPTEXT_READ | CLIPTEXT_MAP)?;
    let map = match flags {
        CLIPTEXT_READ => false,
        CLIPTEXT_MAP => true,
        _ => {
            let text = format_args!("`flags` must be one of CLIPTEXT_READ and CLIPTEXT_MAP");
            return Err(fail(CLIPTEXT_ARGUMENT, text));
        }
    };
    let refused =
        |error: &dyn core::fmt::Display| fail(CLIPTEXT_FILE, format_args!("{}: {error}", path.display()));
    let kind = fs::metadata(path).map_err(|error| refused(&error))?;
    if kind.is_dir() {
        return Err(refused(&"a folder, not a file"));
    }
    if map && !kind.is_file() {
        return Err(refused(&"a pipe or a device can't be mapped: open it with CLIPTEXT_READ"));
    }
    // SAFETY: the caller was told to leave a mapped file alone.
    let file = if map { unsafe { PlanFile::map(path) } } else { PlanFile::read(path) };
    let file = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::OutOfMemory => {
            fail(CLIPTEXT_MEMORY, format_args!("{}: there is no memory for it", path.display()))
        }
        _ => refused(&error),
    })?;
    Ok(Arc::new(file))
}

/// The file's bytes, which stay where they are while anybody holds it: who takes them does.
pub(crate) unsafe fn lasting(file: &Arc<PlanFile>) -> &'static [u8] {
    // SAFETY: the caller's word.
    unsafe { &*core::ptr::from_ref(file.bytes()) }
}

#[cfg(unix)]
fn system_path(path: &CStr) -> Outcome<&Path> {
    use std::os::unix::ffi::OsStrExt;
    Ok(Path::new(OsStr::from_bytes(path.to_bytes())))
}

#[cfg(not(unix))]
fn system_path(path: &CStr) -> Outcome<&Path> {
    let path = path.to_str().map_err(|_| fail(CLIPTEXT_UTF8, format_args!("`path` is not UTF-8")))?;
    Ok(Path::new(OsStr::new(path)))
}
