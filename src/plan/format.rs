//! The file's frame: header, sections, checksums.
//!
//! ```text
//! header      128 bytes: magic, version, file length, five sections, checksum of header and checksums
//! checksums   CRC-32C of each 64 KiB block of what follows
//! manifest    a record of fixed size
//! steps       records of fixed size
//! vocabulary  the tokenizer's table
//! constants   weights, embeddings, norms, in the order of the steps
//! ```
//! Every section starts at the next multiple of 64, the bytes between are zero, the last one ends the file.

use super::error::LoadError;
use crate::frame::{self, Frame, FrameError};
pub use crate::frame::{ALIGN, BLOCK, HEADER, SECTIONS, crc32c};

/// The first eight bytes of a plan.
pub const MAGIC: [u8; 8] = *b"cliptext";

/// The version of the format that this build writes and reads.
pub const VERSION: u32 = 5;

/// The first eight bytes of an image plan.
pub const IMAGE_MAGIC: [u8; 8] = *b"clipimag";

/// The version of the image plan's format that this build writes and reads.
pub const IMAGE_VERSION: u32 = 1;

/// What a plan encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Texts.
    Text,
    /// Images.
    Image,
}

impl Kind {
    /// How its file begins.
    fn frame(self) -> frame::Kind {
        match self {
            Kind::Text => frame::Kind { magic: MAGIC, version: VERSION },
            Kind::Image => frame::Kind { magic: IMAGE_MAGIC, version: IMAGE_VERSION },
        }
    }

    /// The kind of the plan that `bytes` begin, as far as its first bytes say.
    fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(&IMAGE_MAGIC) { Kind::Image } else { Kind::Text }
    }
}

/// The sections in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Block checksums.
    Checksums,
    /// The manifest.
    Manifest,
    /// The steps.
    Steps,
    /// The vocabulary table.
    Vocabulary,
    /// The steps' constants.
    Constants,
}

/// Where the sections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    frame: Frame,
}

impl Header {
    /// Lays out sections of the given lengths, the checksums left out: they follow from the others.
    ///
    /// `None` when the file would be longer than 2^63 bytes.
    pub fn lay_out(kind: Kind, manifest: u64, steps: u64, vocabulary: u64, constants: u64) -> Option<Self> {
        let frame = Frame::lay_out(kind.frame(), [manifest, steps, vocabulary, constants])?;
        Some(Self { kind, frame })
    }

    /// Offset and length of `section`.
    pub fn place(&self, section: Section) -> (u64, u64) {
        self.frame.place(section as usize)
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.frame.file_bytes()
    }

    /// Where the bytes begin that the block checksums cover: all behind the checksums.
    pub fn body(&self) -> u64 {
        self.frame.body()
    }

    /// The header's bytes for a file with these block checksums (little-endian, as in the file).
    pub fn encode(&self, checksums: &[u8]) -> [u8; HEADER] {
        self.frame.encode(checksums)
    }

    /// Bytes at the front of the file that must be in memory: everything but the constants, and the rest of the block in
    /// which the constants begin, so that all of it can be checked.
    pub fn head_bytes(&self) -> u64 {
        let (constants, _) = self.place(Section::Constants);
        let blocks = (constants - self.body()).div_ceil(BLOCK as u64);
        (self.body() + blocks * BLOCK as u64).min(self.file_bytes())
    }

    /// How many blocks have a checksum.
    pub fn blocks(&self) -> u64 {
        self.frame.blocks()
    }

    /// Offset and length of block `index`, in bytes from the start of the file.
    pub fn block(&self, index: u64) -> (u64, u64) {
        self.frame.block(index)
    }

    /// Checks block `index` by itself, given the front of the plan.
    ///
    /// # Errors
    /// [`LoadError::Checksum`] where its bytes are not the plan's.
    pub fn verify_block(&self, head: &[u8], index: u64, block: &[u8]) -> Result<(), LoadError> {
        Ok(self.frame.verify_block(head, index, block)?)
    }

    /// Checks the blocks from `first` on, which `bytes` are, given the front of the plan.
    ///
    /// # Errors
    /// [`LoadError::Checksum`] with the first one whose bytes are not the plan's.
    pub fn verify_blocks(&self, front: &[u8], first: u64, bytes: &[u8]) -> Result<(), LoadError> {
        Ok(self.frame.verify_blocks(front, first, bytes)?)
    }

    /// Reads and checks the header at the front of a plan. Nothing behind the header is looked at.
    ///
    /// # Errors
    /// When it is none, or one of another version, or contradicts itself.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        let kind = Kind::of(bytes);
        let frame = Frame::read(kind.frame(), bytes).map_err(|error| match error {
            FrameError::Version(found) => LoadError::Version { found, reads: kind.frame().version },
            error => error.into(),
        })?;
        Ok(Self { kind, frame })
    }

    /// What the plan encodes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// [`read`](Self::read) of a plan of that kind, which must start at a multiple of 64.
    pub(super) fn read_in_place(kind: Kind, bytes: &[u8]) -> Result<Self, LoadError> {
        if !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(LoadError::Misaligned);
        }
        let header = Self::read(bytes)?;
        match header.kind {
            found if found == kind => Ok(header),
            Kind::Image => Err(LoadError::EncodesImages),
            Kind::Text => Err(LoadError::EncodesTexts),
        }
    }

    /// The plan's own bytes, and those of the image plan that follows it; none where none does.
    pub fn split<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let own = usize::try_from(self.file_bytes()).ok();
        match own.and_then(|own| bytes.split_at_checked(own)) {
            Some((own, rest)) if self.kind == Kind::Text && rest.starts_with(&IMAGE_MAGIC) => (own, rest),
            _ => (bytes, &[]),
        }
    }

    /// Checks the whole plan against its length and checksums.
    pub(super) fn verify_whole(&self, bytes: &[u8]) -> Result<(), LoadError> {
        Ok(self.frame.verify_whole(bytes)?)
    }

    /// Checks every byte against the checksums. `bytes` are whole blocks from the plan's front.
    pub(super) fn verify(&self, bytes: &[u8]) -> Result<(), LoadError> {
        Ok(self.frame.verify(bytes)?)
    }

    /// The header and the block checksums at the front of a plan.
    pub(super) fn front<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], LoadError> {
        Ok(self.frame.front(bytes)?)
    }

    /// Checks the [front](Self::front) against the header's checksum, and returns it.
    pub(super) fn verify_front<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], LoadError> {
        Ok(self.frame.verify_front(bytes)?)
    }

    /// The bytes of `section`; none where `bytes` ends before it does.
    pub(super) fn section<'a>(&self, bytes: &'a [u8], section: Section) -> &'a [u8] {
        self.frame.section(bytes, section as usize)
    }
}

impl From<FrameError> for LoadError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Misaligned => LoadError::Misaligned,
            FrameError::Magic => LoadError::NotAPlan,
            FrameError::Version(found) => LoadError::Version { found, reads: VERSION },
            FrameError::Truncated => LoadError::Truncated,
            FrameError::TooLong => LoadError::TooLong,
            FrameError::Header => LoadError::Header,
            FrameError::HeaderChecksum => LoadError::HeaderChecksum,
            FrameError::Checksum(offset) => LoadError::Checksum { offset },
        }
    }
}
