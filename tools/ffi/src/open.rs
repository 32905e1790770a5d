//! Plan files, for systems that have files: what opens allocates, and is to be closed.

use core::ffi::{CStr, c_char};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cliptext::PlanFile;

use crate::heap::Heap;
use crate::object;
use crate::plan::{Loaded, Opened, cliptext_plan};
use crate::pointers::{Place, known, usable};
use crate::status::cliptext_status::*;
use crate::status::{Outcome, cliptext_status, fail, told};

/// For `cliptext_open`: read the whole file into memory, which takes its size in RAM. The file is needed no more.
pub const CLIPTEXT_READ: u32 = 1;

/// For `cliptext_open`: map the file. Nothing is copied, processes share it, and the system may drop its pages where memory is short.
/// Until the plan is closed nobody may change the file or cut it short: changed bytes are undefined behaviour, and
/// a file that was cut, or a storage that fails, ends the process with a bus error (SIGBUS). A new plan is put in the
/// place of an old one by renaming.
pub const CLIPTEXT_MAP: u32 = 2;

/// Opens the plan file at `path`, a C string in the system's own encoding (UTF-8 on Windows), and checks it. `flags` is CLIPTEXT_READ or
/// CLIPTEXT_MAP: there is no default, since a mapped file must be left alone. A pipe and a device can only be read.
///
/// The plan is closed with `cliptext_close`. On an error `*plan` is left alone.
///
/// Errors: CLIPTEXT_FILE where the file is missing, a folder, or can't be read or mapped; CLIPTEXT_PLAN, CLIPTEXT_VERSION of what is in it;
/// CLIPTEXT_MEMORY; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_UTF8, CLIPTEXT_ARGUMENT of the arguments.
///
/// Not in the library without an operating system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_open(
    path: *const c_char,
    flags: u32,
    plan: *mut *mut cliptext_plan,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { open(path, flags, plan) })
}

unsafe fn open(path: *const c_char, flags: u32, plan: *mut *mut cliptext_plan) -> Outcome {
    usable(path, "path")?;
    // SAFETY: the caller's word; the path is not null.
    let (plan, path) = unsafe { (Place::at(plan, "plan")?, system_path(CStr::from_ptr(path))?) };
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
        return Err(refused(&"a folder, not a plan"));
    }
    if map && !kind.is_file() {
        return Err(refused(&"a pipe or a device can't be mapped: open it with CLIPTEXT_READ"));
    }
    // SAFETY: the caller was told to leave a mapped plan alone.
    let file = if map { unsafe { PlanFile::map(path) } } else { PlanFile::read(path) };
    let file = Arc::new(file.map_err(|error| match error.kind() {
        std::io::ErrorKind::OutOfMemory => {
            fail(CLIPTEXT_MEMORY, format_args!("{}: there is no memory for it", path.display()))
        }
        _ => refused(&error),
    })?);
    // SAFETY: the bytes stay where they are while anybody holds the file: this plan does, and each encoder that it makes.
    let bytes: &'static [u8] = unsafe { &*core::ptr::from_ref(file.bytes()) };
    let mut loaded = Loaded::of(bytes)?;
    let size = object::size::<cliptext_plan>();
    let object = Heap::new(size)?;
    let memory = object.pointer().cast();
    loaded.opened = Some(Opened { file, _object: object });
    // SAFETY: the memory is the object's own.
    plan.put(unsafe { object::make::<cliptext_plan>(memory, size, loaded) }?);
    Ok(())
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

/// Closes a plan that `cliptext_open` gave; null is nothing to close. Encoders that `cliptext_encoder_new` made of it go on; those in the
/// caller's memory must not be used any more, and no other thread may be using the plan.
///
/// Errors: CLIPTEXT_HANDLE where `plan` leads to no plan, CLIPTEXT_ARGUMENT where it was not opened but loaded from memory.
///
/// Not in the library without an operating system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_close(plan: *mut cliptext_plan) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { close(plan) })
}

unsafe fn close(plan: *mut cliptext_plan) -> Outcome {
    if plan.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's word.
    if unsafe { object::shared(plan.cast_const(), "plan") }?.opened.is_none() {
        let text = format_args!("`plan` was loaded from the caller's memory: there is nothing to close");
        return Err(fail(CLIPTEXT_ARGUMENT, text));
    }
    // SAFETY: as above.
    drop(unsafe { object::end(plan, "plan") }?);
    Ok(())
}
