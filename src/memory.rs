//! Memory that starts at a multiple of 64, as plans and arenas do.

use crate::frame::ALIGN;

/// A value at a multiple of 64.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Aligned<T: ?Sized>(pub T);

/// The bytes of a plan file, linked into the program where plans can be read: `&'static [u8]`. The path is as for
/// [`include_bytes!`].
///
/// ```
/// let plan = cliptext::Plan::load(cliptext::include_plan!("../models/demo.plan"))?;
/// # Ok::<(), cliptext::LoadError>(())
/// ```
#[macro_export]
macro_rules! include_plan {
    ($path:expr $(,)?) => {{
        static PLAN: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
        &PLAN.0
    }};
}

/// An arena of `N` bytes, for a `static` or a board's start-up.
#[derive(Clone, Debug)]
pub struct ArenaBuf<const N: usize>(Aligned<[u8; N]>);

impl<const N: usize> ArenaBuf<N> {
    /// Zeroed.
    pub const fn new() -> Self {
        Self(Aligned([0; N]))
    }

    /// Its bytes.
    pub const fn bytes(&mut self) -> &mut [u8] {
        &mut self.0.0
    }
}

impl<const N: usize> Default for ArenaBuf<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The part of `buffer` from its first multiple of 64: up to 63 bytes less than `buffer` has.
pub fn align_arena(buffer: &mut [u8]) -> &mut [u8] {
    let start = buffer.as_ptr().align_offset(ALIGN);
    buffer.get_mut(start..).unwrap_or(&mut [])
}

#[cfg(feature = "std")]
pub use heap::AlignedBytes;

#[cfg(feature = "std")]
mod heap {
    use core::fmt;
    use core::ops::{Deref, DerefMut};
    use std::io;
    use std::vec::Vec;

    use super::ALIGN;

    /// Bytes on the heap, from a multiple of 64 on: an arena, or a plan that was read.
    pub struct AlignedBytes {
        /// Never grows, so that its bytes stay where they are.
        memory: Vec<u8>,
        start: usize,
    }

    impl AlignedBytes {
        /// `length` zeros.
        pub fn zeroed(length: usize) -> Self {
            let mut memory = std::vec![0; length + ALIGN - 1];
            let start = memory.as_ptr().align_offset(ALIGN);
            memory.truncate(start + length);
            Self { memory, start }
        }

        /// A copy of `bytes`.
        pub fn copy_of(bytes: &[u8]) -> Self {
            let mut copy = Self::zeroed(bytes.len());
            copy.copy_from_slice(bytes);
            copy
        }

        /// All that `reader` gives, of which `expected` bytes are expected.
        ///
        /// # Errors
        /// The reader's.
        pub fn read(mut reader: impl io::Read, expected: usize) -> io::Result<Self> {
            let mut memory: Vec<u8> = Vec::new();
            memory.try_reserve_exact(expected.saturating_add(ALIGN)).map_err(io::Error::other)?;
            let start = memory.as_ptr().align_offset(ALIGN);
            memory.resize(start, 0);
            reader.read_to_end(&mut memory)?;
            // More than was expected may have moved to other memory.
            if memory.as_ptr().align_offset(ALIGN) == start {
                return Ok(Self { memory, start });
            }
            Ok(Self::copy_of(memory.get(start..).unwrap_or(&[])))
        }
    }

    impl Deref for AlignedBytes {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            self.memory.get(self.start..).unwrap_or(&[])
        }
    }

    impl DerefMut for AlignedBytes {
        fn deref_mut(&mut self) -> &mut [u8] {
            self.memory.get_mut(self.start..).unwrap_or(&mut [])
        }
    }

    impl fmt::Debug for AlignedBytes {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "AlignedBytes({})", self.len())
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    fn is_aligned(bytes: &[u8]) -> bool {
        bytes.as_ptr().addr().is_multiple_of(ALIGN)
    }

    #[test]
    fn all_kinds_start_at_a_multiple_of_64() {
        let text: std::vec::Vec<u8> = (0..1000u32).map(|at| at as u8).collect();
        for length in [0, 1, 63, 64, 65, 1000] {
            let bytes = &text[..length];
            for expected in [0, 1, length, 5000] {
                let read = AlignedBytes::read(bytes, expected).unwrap();
                assert!(is_aligned(&read) && *read == *bytes, "{length}, {expected}");
            }
            let mut copy = AlignedBytes::copy_of(bytes);
            assert!(is_aligned(&copy) && *copy == *bytes);
            copy.fill(7);
            assert!(copy.iter().all(|&byte| byte == 7) && copy.len() == length);
            assert!(AlignedBytes::zeroed(length).iter().all(|&byte| byte == 0));
        }
        let mut arena = ArenaBuf::<100>::new();
        assert!(is_aligned(arena.bytes()) && arena.bytes().len() == 100);
        let mut memory = [0; 200];
        assert!(is_aligned(align_arena(&mut memory)) && align_arena(&mut memory).len() > 136);
        assert!(align_arena(&mut memory[..0]).is_empty());
        assert!(is_aligned(include_plan!("../tests/fixtures/one-tower.plan")));
    }
}
