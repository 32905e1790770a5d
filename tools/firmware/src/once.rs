//! Memory that is in the image and given out once.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value in a `static` that one caller gets for itself.
pub(crate) struct Once<T> {
    is_taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `take` gives the value to one caller only.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { is_taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value, the first time.
    #[expect(clippy::mut_from_ref, reason = "it is given once")]
    pub(crate) fn take(&'static self) -> Option<&'static mut T> {
        // SAFETY: this comes about once.
        (!self.is_taken.swap(true, Ordering::Relaxed)).then(|| unsafe { &mut *self.value.get() })
    }
}
