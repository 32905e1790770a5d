//! The floating-point mode that the arithmetic presumes.
//!
//! All kernels give the same bits where results are rounded to nearest even and subnormal numbers are kept: what IEEE 754,
//! Rust and every operating system begin with. A host may have chosen otherwise, as libraries built with `-ffast-math` do
//! when they are loaded (flush to zero), and the mode belongs to a thread, which inherits it. So each pass and each task asks,
//! and sets the mode for itself where it has to.
//!
//! Known are the modes of x86 with SSE (MXCSR) and aarch64 (FPCR); elsewhere the mode must be the default.

use core::marker::PhantomData;

/// The mode that results are right in, until it is dropped: then the mode is what it was.
pub(crate) struct Exact {
    before: Option<mode::Word>,
    /// The mode is the thread's.
    thread: PhantomData<*const ()>,
}

impl Exact {
    /// Sets the mode if it is another.
    #[inline(always)]
    pub(crate) fn enter() -> Self {
        let before = mode::read();
        let other = before & mode::CONTROL != mode::DEFAULT;
        if other {
            mode::write(mode::DEFAULT);
        }
        Self { before: other.then_some(before), thread: PhantomData }
    }
}

impl Drop for Exact {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            mode::write(before);
        }
    }
}

// The assembly is not said to leave memory alone, so no load or store, and none of the arithmetic between them, moves across.

#[cfg(all(any(target_arch = "x86_64", target_arch = "x86"), target_feature = "sse", not(miri)))]
mod mode {
    use core::arch::asm;

    pub(super) type Word = u32;

    /// Rounding to nearest, subnormals kept, no exception traps.
    pub(super) const DEFAULT: Word = 0x1f80;
    /// All but the flags of exceptions that there were.
    pub(super) const CONTROL: Word = !0x3f;

    #[inline(always)]
    pub(super) fn read() -> Word {
        let mut word = 0;
        // SAFETY: stores MXCSR into the word.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    #[inline(always)]
    pub(super) fn write(word: Word) {
        // SAFETY: a word that was read, or the default; the compiler's own code presumes the default, which is why the host's mode
        // comes back before the host's code does.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod mode {
    use core::arch::asm;

    pub(super) type Word = u64;

    /// Rounding to nearest, subnormals kept, NaNs handed on, no exception traps.
    pub(super) const DEFAULT: Word = 0;
    pub(super) const CONTROL: Word = !0;

    #[inline(always)]
    pub(super) fn read() -> Word {
        let word;
        // SAFETY: FPCR can be read wherever floating-point instructions can be executed.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nostack, preserves_flags)) };
        word
    }

    #[inline(always)]
    pub(super) fn write(word: Word) {
        // SAFETY: a word that was read, or the default; the compiler's own code presumes the default, which is why the host's mode
        // comes back before the host's code does.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(any(
    miri,
    not(any(
        all(any(target_arch = "x86_64", target_arch = "x86"), target_feature = "sse"),
        target_arch = "aarch64"
    ))
))]
mod mode {
    pub(super) type Word = u32;

    pub(super) const DEFAULT: Word = 0;
    pub(super) const CONTROL: Word = 0;

    #[inline(always)]
    pub(super) fn read() -> Word {
        DEFAULT
    }

    #[inline(always)]
    pub(super) fn write(_word: Word) {}
}

/// Another mode for tests, as a host may have it: subnormals flushed to zero, rounding towards zero.
#[cfg(test)]
pub(crate) mod hostile {
    use super::mode;

    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    const FLUSH: mode::Word = 0x1f80 | 1 << 15 | 1 << 6 | 0b11 << 13;
    #[cfg(target_arch = "aarch64")]
    const FLUSH: mode::Word = 1 << 24 | 0b11 << 22;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    const FLUSH: mode::Word = 0;

    /// Sets it for this thread.
    pub(crate) fn set() {
        mode::write(FLUSH);
    }

    /// Whether this thread has it.
    pub(crate) fn is_set() -> bool {
        mode::read() & mode::CONTROL == FLUSH & mode::CONTROL
    }

    /// Sets the default.
    pub(crate) fn unset() {
        mode::write(mode::DEFAULT);
    }
}
