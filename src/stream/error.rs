//! Why a stream can't begin, or ended.

use core::fmt;

/// Why a stream can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferError {
    /// The buffer is too small, or does not start at a multiple of 64.
    Buffer {
        /// Bytes that were given.
        given: usize,
        /// Bytes that are needed at least.
        needed: usize,
        /// Whether it starts at a multiple of 64.
        aligned: bool,
    },
    /// So many blocks in a half are too few or too many.
    Blocks {
        /// Blocks that were asked for.
        given: usize,
        /// The most.
        most: usize,
    },
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BufferError::Buffer { needed, aligned: false, .. } => {
                write!(
                    f,
                    "the stream's buffer does not start at a multiple of 64 (the plan needs {needed} bytes from one)"
                )
            }
            BufferError::Buffer { given, needed, .. } => {
                write!(f, "the stream's buffer has {given} bytes, the plan needs {needed} at least")
            }
            BufferError::Blocks { given, most } => {
                write!(f, "{given} blocks in each half of the stream's buffer are wanted, 1 to {most} can be")
            }
        }
    }
}

impl core::error::Error for BufferError {}

/// Why a plan's constants could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError<E> {
    /// The storage failed.
    Storage {
        /// Where the read began, in bytes from the start of the plan.
        offset: u64,
        /// What it says.
        error: E,
    },
    /// A block's bytes are not what its checksum says.
    Checksum {
        /// Where the block begins.
        offset: u64,
    },
}

impl<E: fmt::Display> fmt::Display for StreamError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Storage { offset, error } => write!(f, "reading at byte {offset}: {error}"),
            StreamError::Checksum { offset } => {
                write!(
                    f,
                    "the checksum of the block at byte {offset} does not match: the plan was changed, or the storage is failing"
                )
            }
        }
    }
}

impl<E: core::error::Error> core::error::Error for StreamError<E> {}
