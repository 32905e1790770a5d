//! Memory from the heap, for the functions that open.

use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

use cliptext::Aligned;

use crate::status::cliptext_status::CLIPTEXT_MEMORY;
use crate::status::{Outcome, fail};

/// Zeroed memory from a multiple of 64 on.
pub(crate) struct Heap {
    pointer: NonNull<u8>,
    layout: Layout,
}

impl Heap {
    /// So many bytes.
    pub(crate) fn new(bytes: usize) -> Outcome<Self> {
        let none = || fail(CLIPTEXT_MEMORY, format_args!("there is no memory for {bytes} bytes"));
        let layout = Layout::from_size_align(bytes.max(1), align_of::<Aligned<u8>>()).map_err(|_| none())?;
        // SAFETY: the layout has a byte at least.
        let pointer = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(none)?;
        Ok(Self { pointer, layout })
    }

    /// Where it is.
    pub(crate) fn pointer(&self) -> *mut u8 {
        self.pointer.as_ptr()
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: it was allocated so.
        unsafe { dealloc(self.pointer.as_ptr(), self.layout) }
    }
}
