//! Plan files, for systems that have files: what opens allocates, and is to be closed.

use core::ffi::c_char;

use crate::file;
use crate::heap::Heap;
use crate::object;
use crate::plan::{Loaded, Opened, cliptext_plan};
use crate::pointers::Place;
use crate::status::cliptext_status::*;
use crate::status::{Outcome, cliptext_status, fail, told};

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
    // SAFETY: the caller's word.
    let (plan, file) = unsafe { (Place::at(plan, "plan")?, file::open(path, flags)?) };
    // SAFETY: this plan holds the file, and so does each encoder that is made of it on the heap.
    let bytes = unsafe { file::lasting(&file) };
    let mut loaded = Loaded::of(bytes)?;
    let size = object::size::<cliptext_plan>();
    let object = Heap::new(size)?;
    let memory = object.pointer().cast();
    loaded.opened = Some(Opened { file, _object: object });
    // SAFETY: the memory is the object's own.
    plan.put(unsafe { object::make::<cliptext_plan>(memory, size, loaded) }?);
    Ok(())
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
