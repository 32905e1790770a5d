//! Why a pack is refused.

use core::fmt;

use super::format::{NAME, VERSION};
use crate::frame::FrameError;

/// Why bytes are not a prompt pack that this build can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// The bytes do not start at a multiple of 64.
    Misaligned,
    /// They do not begin with the magic of a pack.
    NotAPack,
    /// The pack has another format version.
    Version {
        /// The version that the pack has.
        found: u32,
        /// The one that this build reads.
        reads: u32,
    },
    /// The file ends too early.
    Truncated,
    /// Something follows the pack.
    TooLong,
    /// The header contradicts itself.
    Header,
    /// The header or the list of checksums was changed.
    HeaderChecksum,
    /// A block was changed.
    Checksum {
        /// Where the block begins, in bytes from the start of the file.
        offset: u64,
    },
    /// The manifest cannot be read, or says that rows have no columns.
    Manifest,
    /// The index is no whole number of records.
    Index,
    /// An entry does not fit what stands before it.
    Entry {
        /// Its number, from 0.
        index: usize,
        /// What is wrong with it.
        fault: EntryFault,
    },
    /// Texts or values are left over behind the last entry.
    Leftover,
}

/// What is wrong with an entry of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryFault {
    /// A word of its record that must be zero is not.
    Reserved,
    /// Its texts do not follow those before it, end behind the pack's, or are not UTF-8.
    Text,
    /// Its name is empty, longer than [`NAME`](super::format::NAME) bytes or has a control character.
    Name,
    /// Its name is not behind the name before it, in the order of their bytes.
    Order,
    /// It has no rows.
    Tokens,
    /// Its values do not follow those before it, or end behind the pack's.
    Values,
    /// What was dropped of its prompt is no part of it.
    Dropped,
}

impl From<FrameError> for PackError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Misaligned => PackError::Misaligned,
            FrameError::Magic => PackError::NotAPack,
            FrameError::Version(found) => PackError::Version { found, reads: VERSION },
            FrameError::Truncated => PackError::Truncated,
            FrameError::TooLong => PackError::TooLong,
            FrameError::Header => PackError::Header,
            FrameError::HeaderChecksum => PackError::HeaderChecksum,
            FrameError::Checksum(offset) => PackError::Checksum { offset },
        }
    }
}

impl fmt::Display for EntryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryFault::Reserved => f.write_str("has a record with words that mean nothing"),
            EntryFault::Text => f.write_str("has texts that do not follow those before it, or are not UTF-8"),
            EntryFault::Name => {
                write!(f, "has a name that is empty, longer than {NAME} bytes or has a control character")
            }
            EntryFault::Order => f.write_str("has a name that is not behind the name before it"),
            EntryFault::Tokens => f.write_str("has no rows"),
            EntryFault::Values => f.write_str("has values that do not follow those before it"),
            EntryFault::Dropped => f.write_str("names a part of its prompt that is none"),
        }
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Misaligned => f.write_str("the pack's bytes do not start at a multiple of 64"),
            PackError::NotAPack => {
                f.write_str("this is not a prompt pack (make one with `cliptext-run pack`)")
            }
            PackError::Version { found, reads } => {
                write!(
                    f,
                    "the pack has format version {found}, this build reads version {reads}: make it again"
                )
            }
            PackError::Truncated => f.write_str("the pack is cut short: copy or make it again"),
            PackError::TooLong => f.write_str("something follows the end of the pack: copy or make it again"),
            PackError::Header => f.write_str("the pack's header contradicts itself: copy or make it again"),
            PackError::HeaderChecksum => f.write_str("the pack's header is damaged: copy or make it again"),
            PackError::Checksum { offset } => {
                write!(f, "the pack is damaged in the 64 KiB from byte {offset}: copy or make it again")
            }
            PackError::Manifest => f.write_str("the pack's manifest cannot be read"),
            PackError::Index => f.write_str("the pack's index cannot be read"),
            PackError::Entry { index, fault } => write!(f, "entry {index} of the pack {fault}"),
            PackError::Leftover => f.write_str("the pack's texts or values are not what its entries use"),
        }
    }
}

impl core::error::Error for PackError {}
