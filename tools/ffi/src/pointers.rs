//! C's pointers, checked as far as they can be.
//!
//! Null, alignment, lengths that no memory has, and overlap are told. That memory is there, and for how long, is the caller's word: the
//! header says what each function asks.

use core::ffi::{CStr, c_char, c_void};
use core::ops::Range;

use crate::status::cliptext_status::*;
use crate::status::{Outcome, fail};

/// The length that stands for "up to the zero": `CLIPTEXT_CSTR` in the header.
pub const CSTR: usize = usize::MAX;

/// Whether `pointer` may be used for a `T`.
pub(crate) fn usable<T>(pointer: *const T, name: &str) -> Outcome {
    if pointer.is_null() {
        return Err(fail(CLIPTEXT_NULL, format_args!("`{name}` is null")));
    }
    let align = align_of::<T>();
    if !pointer.addr().is_multiple_of(align) {
        return Err(fail(CLIPTEXT_MISALIGNED, format_args!("`{name}` is not at a multiple of {align}")));
    }
    Ok(())
}

/// Whether so many values of `T` fit into memory at all.
fn possible<T>(pointer: *const T, count: usize, name: &str) -> Outcome {
    let bytes = count.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
    match bytes.and_then(|bytes| pointer.addr().checked_add(bytes)) {
        Some(_) => Ok(()),
        None => Err(fail(
            CLIPTEXT_ARGUMENT,
            format_args!("`{name}` has {count} values: more than memory has from there on"),
        )),
    }
}

/// The text of `length` bytes at `pointer`, or up to its zero where the length is [`CSTR`].
pub(crate) unsafe fn text<'a>(pointer: *const c_char, length: usize, name: &str) -> Outcome<&'a str> {
    usable(pointer, name)?;
    let bytes = if length == CSTR {
        // SAFETY: not null; the caller's word is that a zero ends the text.
        unsafe { CStr::from_ptr(pointer) }.to_bytes()
    } else {
        possible(pointer, length, name)?;
        // SAFETY: not null, and of a possible length; the caller's word is that the bytes are there.
        unsafe { core::slice::from_raw_parts(pointer.cast(), length) }
    };
    core::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        fail(CLIPTEXT_UTF8, format_args!("`{name}` is not UTF-8: the fault is at byte {at}"))
    })
}

/// `count` values at `pointer`, to be read.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize, name: &str) -> Outcome<&'a [T]> {
    usable(pointer, name)?;
    possible(pointer, count, name)?;
    // SAFETY: not null, aligned, of a possible length; the caller's word is that the values are there.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// Where values go: nothing in it is read.
pub(crate) struct Buffer<T> {
    pointer: *mut T,
    count: usize,
}

impl<T: Copy> Buffer<T> {
    /// `count` values at `pointer`; `None` where that is null and there are none.
    pub(crate) unsafe fn perhaps(pointer: *mut T, count: usize, name: &str) -> Outcome<Option<Self>> {
        if pointer.is_null() && count == 0 {
            return Ok(None);
        }
        if pointer.is_null() {
            let text = format_args!("`{name}` is null, but {count} values are to be there");
            return Err(fail(CLIPTEXT_NULL, text));
        }
        usable(pointer, name)?;
        possible(pointer, count, name)?;
        Ok(Some(Self { pointer, count }))
    }

    /// Whether `needed` values have place.
    pub(crate) fn holds(&self, needed: usize, name: &str) -> Outcome {
        let given = self.count;
        if given < needed {
            let text = format_args!("`{name}` has place for {given} values, there are {needed}");
            return Err(fail(CLIPTEXT_TOO_SMALL, text));
        }
        Ok(())
    }

    /// Copies `values` to the places from `at` on; what would be behind the end is left out.
    pub(crate) fn put(&mut self, at: usize, values: &[T]) {
        let count = values.len().min(self.count.saturating_sub(at));
        if count > 0 {
            // SAFETY: not null, aligned, and within the places that are there by the caller's word; what is copied from there was found
            // to be apart, or is this crate's own.
            unsafe { core::ptr::copy(values.as_ptr(), self.pointer.add(at), count) }
        }
    }

    /// Where it is.
    pub(crate) fn span(&self) -> Range<usize> {
        self.pointer.addr()..self.pointer.addr() + self.count * size_of::<T>()
    }
}

impl Buffer<f32> {
    /// The first `count` places, which [are there](Self::holds), set to zero: a function of the library's writes them.
    pub(crate) fn zeroed(&mut self, count: usize) -> &mut [f32] {
        let count = count.min(self.count);
        // SAFETY: not null, aligned, and there by the caller's word; zeros are values.
        unsafe {
            self.pointer.write_bytes(0, count);
            core::slice::from_raw_parts_mut(self.pointer, count)
        }
    }
}

/// Memory from a multiple of 64 on, of `needed` bytes or more: an arena. All of it is zeroed, so that it is initialized whatever stood
/// there.
pub(crate) unsafe fn arena<'a>(pointer: *mut c_void, given: usize, needed: usize) -> Outcome<&'a mut [u8]> {
    let name = "arena";
    reach(pointer.cast::<cliptext::Aligned<u8>>(), given, name)?;
    if given < needed {
        return Err(fail(
            CLIPTEXT_TOO_SMALL,
            format_args!("`{name}` has {given} bytes, {needed} are needed"),
        ));
    }
    let pointer = pointer.cast::<u8>();
    // SAFETY: not null, of a possible length; the caller's word is that the memory is there and nobody else's.
    unsafe {
        pointer.write_bytes(0, given);
        Ok(core::slice::from_raw_parts_mut(pointer, given))
    }
}

/// Where memory lies that is aligned for a `T`.
pub(crate) fn reach<T>(pointer: *mut T, bytes: usize, name: &str) -> Outcome<Range<usize>> {
    usable(pointer, name)?;
    possible(pointer.cast::<u8>(), bytes, name)?;
    Ok(pointer.addr()..pointer.addr() + bytes)
}

/// Where a result goes.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// The place at `pointer`.
    pub(crate) unsafe fn at(pointer: *mut T, name: &str) -> Outcome<Self> {
        usable(pointer, name).map(|()| Self(pointer))
    }

    /// The place at `pointer`, where there is one.
    pub(crate) unsafe fn perhaps(pointer: *mut T, name: &str) -> Outcome<Option<Self>> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's word.
        unsafe { Self::at(pointer, name) }.map(Some)
    }

    /// Puts the result there; nothing is read or dropped.
    pub(crate) fn put(self, value: T) {
        // SAFETY: not null and aligned; the caller's word is that it is there to be written.
        unsafe { self.0.write(value) }
    }
}

/// A value at `pointer`, to be read.
pub(crate) unsafe fn one<'a, T>(pointer: *const T, name: &str) -> Outcome<&'a T> {
    usable(pointer, name)?;
    // SAFETY: not null and aligned; the caller's word is that the value is there.
    Ok(unsafe { &*pointer })
}

/// What a caller may leave out, to be read.
pub(crate) unsafe fn perhaps<'a, T>(pointer: *const T, name: &str) -> Outcome<Option<&'a T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's word.
    unsafe { one(pointer, name) }.map(Some)
}

/// Where values lie.
pub(crate) fn span<T>(values: &[T]) -> Range<usize> {
    let range = values.as_ptr_range();
    range.start.addr()..range.end.addr()
}

/// Whether two pieces of memory are apart, as they must be.
pub(crate) fn apart(one: (&Range<usize>, &str), other: (&Range<usize>, &str)) -> Outcome {
    let ((a, a_name), (b, b_name)) = (one, other);
    if a.start < b.end && b.start < a.end {
        return Err(fail(CLIPTEXT_ARGUMENT, format_args!("{a_name} and {b_name} overlap")));
    }
    Ok(())
}

/// Whether `flags` are among `known`.
pub(crate) fn known(flags: u32, known: u32) -> Outcome {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(fail(CLIPTEXT_ARGUMENT, format_args!("flag {unknown:#x} is none of this function's"))),
    }
}
