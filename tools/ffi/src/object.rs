//! What a handle leads to: a tag that tells its kind, whether somebody is at work with it, and the value.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::pointers::{self, usable};
use crate::status::cliptext_status::*;
use crate::status::{Outcome, fail};

/// A kind of handle: the type that C sees, which has nothing in it.
pub(crate) trait Kind: Sized {
    /// What it leads to.
    type Value;
    /// Tells one kind from another, and from memory that is none.
    const TAG: u32;
    /// Its name in messages.
    const NAME: &'static str;
}

#[repr(C)]
struct Object<K: Kind> {
    tag: AtomicU32,
    busy: AtomicBool,
    value: K::Value,
}

/// Bytes of memory for an object.
pub(crate) const fn size<K: Kind>() -> usize {
    size_of::<Object<K>>()
}

/// Whether `given` bytes are enough for an object.
pub(crate) fn room<K: Kind>(given: usize) -> Outcome {
    let needed = size::<K>();
    if given < needed {
        let text = format_args!("`memory` has {given} bytes, the object of {} needs {needed}", K::NAME);
        return Err(fail(CLIPTEXT_TOO_SMALL, text));
    }
    Ok(())
}

/// Puts an object into memory; it stays there until it is [ended](end).
pub(crate) unsafe fn make<K: Kind>(memory: *mut c_void, given: usize, value: K::Value) -> Outcome<*mut K> {
    usable(memory.cast::<Object<K>>(), "memory")?;
    room::<K>(given)?;
    let object = Object::<K> { tag: AtomicU32::new(K::TAG), busy: AtomicBool::new(false), value };
    // SAFETY: not null, aligned and large enough; the caller's word is that the memory is there and nobody else's.
    unsafe { memory.cast::<Object<K>>().write(object) };
    Ok(memory.cast())
}

/// Where an object in memory lies.
pub(crate) fn reach<K: Kind>(memory: *mut c_void, bytes: usize) -> Outcome<Range<usize>> {
    pointers::reach(memory.cast::<Object<K>>(), bytes, "memory")
}

/// The object's tag and flag, where there is an object.
unsafe fn found<K: Kind>(handle: *const K, name: &str) -> Outcome<*const Object<K>> {
    let object = handle.cast::<Object<K>>();
    usable(object, name)?;
    // SAFETY: not null and aligned; the caller's word is that it leads to memory.
    let tag: &AtomicU32 = unsafe { &*object.cast() };
    if tag.load(Ordering::Acquire) != K::TAG {
        return Err(fail(
            CLIPTEXT_HANDLE,
            format_args!("`{name}` leads to no object of {}, or to one that was closed", K::NAME),
        ));
    }
    Ok(object)
}

/// What the handle leads to, for as many threads at once as like.
pub(crate) unsafe fn shared<'a, K: Kind>(handle: *const K, name: &str) -> Outcome<&'a K::Value> {
    // SAFETY: as above; of this kind nobody has a `Taken`.
    unsafe { found(handle, name).map(|object| &(*object).value) }
}

/// What the handle leads to, for one thread.
pub(crate) struct Taken<'a, K: Kind> {
    object: *mut Object<K>,
    lifetime: PhantomData<&'a mut K::Value>,
}

/// What the handle leads to, unless another thread is at work with it.
pub(crate) unsafe fn taken<'a, K: Kind>(handle: *mut K, name: &str) -> Outcome<Taken<'a, K>> {
    // SAFETY: the caller's word.
    let object = unsafe { found(handle, name) }?.cast_mut();
    // SAFETY: an object is there, and its flag is shared.
    if unsafe { &(*object).busy }.swap(true, Ordering::Acquire) {
        return Err(fail(CLIPTEXT_BUSY, format_args!("`{name}` is at work for another thread")));
    }
    Ok(Taken { object, lifetime: PhantomData })
}

impl<'a, K: Kind> Taken<'a, K> {
    /// The value, for as long as it is taken.
    pub(crate) fn value(&mut self) -> &mut K::Value {
        // SAFETY: the flag keeps others away, who touch nothing but tag and flag.
        unsafe { &mut (*self.object).value }
    }
}

impl<K: Kind> Drop for Taken<'_, K> {
    fn drop(&mut self) {
        // SAFETY: the object is there for as long as this is.
        unsafe { &(*self.object).busy }.store(false, Ordering::Release);
    }
}

/// The value of an object that is no more.
pub(crate) unsafe fn end<K: Kind>(handle: *mut K, name: &str) -> Outcome<K::Value> {
    // SAFETY: the caller's word.
    let taken = unsafe { taken(handle, name) }?;
    // SAFETY: nobody else is at work with it, and nobody will read it again: its tag goes, its flag stays set.
    unsafe {
        (*taken.object).tag.store(0, Ordering::Release);
        let value = core::ptr::read(&raw const (*taken.object).value);
        core::mem::forget(taken);
        Ok(value)
    }
}
