//! Prompt pack files, for systems that have files.

use core::ffi::c_char;

use crate::file;
use crate::heap::Heap;
use crate::object;
use crate::pack::{LoadedPack, OpenedPack, cliptext_pack};
use crate::pointers::Place;
use crate::status::cliptext_status::CLIPTEXT_ARGUMENT;
use crate::status::{Outcome, cliptext_status, fail, told};

/// Opens the prompt pack at `path` and checks it, as `cliptext_open` does with a plan; `flags` is CLIPTEXT_READ or CLIPTEXT_MAP. It is closed with
/// `cliptext_pack_close`. On an error `*pack` is left alone.
///
/// Errors: CLIPTEXT_PACK, CLIPTEXT_VERSION of what is in the file; else those of `cliptext_open`.
///
/// Not in the library without an operating system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pack_open(
    path: *const c_char,
    flags: u32,
    pack: *mut *mut cliptext_pack,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { open(path, flags, pack) })
}

unsafe fn open(path: *const c_char, flags: u32, pack: *mut *mut cliptext_pack) -> Outcome {
    // SAFETY: the caller's word.
    let (pack, file) = unsafe { (Place::at(pack, "pack")?, file::open(path, flags)?) };
    // SAFETY: this pack holds the file.
    let mut loaded = LoadedPack::of(unsafe { file::lasting(&file) })?;
    let size = object::size::<cliptext_pack>();
    let object = Heap::new(size)?;
    let memory = object.pointer().cast();
    loaded.opened = Some(OpenedPack { _file: file, _object: object });
    // SAFETY: the memory is the object's own.
    pack.put(unsafe { object::make::<cliptext_pack>(memory, size, loaded) }?);
    Ok(())
}

/// Closes a pack that `cliptext_pack_open` gave; null is nothing to close. Its entries must not be used any more, and no other thread may be
/// using the pack.
///
/// Errors: CLIPTEXT_HANDLE where `pack` leads to no pack, CLIPTEXT_ARGUMENT where it was not opened but loaded from memory.
///
/// Not in the library without an operating system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pack_close(pack: *mut cliptext_pack) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { close(pack) })
}

unsafe fn close(pack: *mut cliptext_pack) -> Outcome {
    if pack.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's word.
    if unsafe { object::shared(pack.cast_const(), "pack") }?.opened.is_none() {
        let text = format_args!("`pack` was loaded from the caller's memory: there is nothing to close");
        return Err(fail(CLIPTEXT_ARGUMENT, text));
    }
    // SAFETY: as above.
    drop(unsafe { object::end(pack, "pack") }?);
    Ok(())
}
