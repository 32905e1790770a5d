//! The frame that plans and packs share: header, sections, checksums.
//!
//! ```text
//! header      128 bytes: magic, version, file length, five sections, checksum of header and checksums
//! checksums   CRC-32C of each 64 KiB block of what follows
//! body        four sections, which the kind of file names
//! ```
//! Every section starts at the next multiple of 64, the bytes between are zero, the last one ends the file. So the lengths
//! decide every offset, and no offset can lie.

use crate::kernels::crc32c::verify;
pub use crate::kernels::crc32c::{BLOCK, crc32c};

/// Sections, and the file itself, start at multiples of this.
pub const ALIGN: usize = 64;

/// Bytes of the header.
pub const HEADER: usize = 128;

const VERSION_AT: usize = 8;
const HEADER_BYTES_AT: usize = 12;
const FILE_BYTES_AT: usize = 16;
const SECTIONS_AT: usize = 24;
const RESERVED_AT: usize = SECTIONS_AT + 16 * SECTIONS;
const CHECKSUM_AT: usize = HEADER - 4;

/// How many sections there are.
pub const SECTIONS: usize = 5;
/// The section of the checksums.
pub(crate) const CHECKSUMS: usize = 0;
/// The first section that the checksums cover.
const FIRST: usize = 1;
/// The last section.
pub(crate) const LAST: usize = SECTIONS - 1;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Its first bytes.
    pub magic: [u8; 8],
    /// The version of its format that this build writes and reads.
    pub version: u32,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// They do not start at a multiple of 64.
    Misaligned,
    /// They begin otherwise.
    Magic,
    /// The version is this one.
    Version(u32),
    /// They end too early.
    Truncated,
    /// Something follows.
    TooLong,
    /// The header contradicts itself.
    Header,
    /// The header or the list of checksums was changed.
    HeaderChecksum,
    /// The block that begins at this byte was changed.
    Checksum(u64),
}

/// Where the sections of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    kind: Kind,
    /// Offset and length of each section, in bytes from the start of the file.
    sections: [(u64, u64); SECTIONS],
}

impl Frame {
    /// Lays out sections of the given lengths; that of the checksums follows from them.
    ///
    /// `None` when the file would be longer than 2^63 bytes.
    pub(crate) fn lay_out(kind: Kind, body: [u64; LAST]) -> Option<Self> {
        // Where the sections start moves them by whole alignments only, so their extent can be had first.
        let mut extent = 0u64;
        for (index, length) in body.iter().enumerate() {
            extent = extent.checked_add(*length)?;
            if index + 1 < body.len() {
                extent = extent.checked_next_multiple_of(ALIGN as u64)?;
            }
        }
        let checksums = extent.div_ceil(BLOCK as u64).checked_mul(4)?;
        let mut at = HEADER as u64;
        let mut sections = [(0, 0); SECTIONS];
        for (section, length) in sections.iter_mut().zip([checksums].into_iter().chain(body)) {
            at = at.checked_next_multiple_of(ALIGN as u64)?;
            *section = (at, length);
            at = at.checked_add(length)?;
        }
        (at < 1 << 63).then_some(Self { kind, sections })
    }

    /// Offset and length of section `index`.
    pub(crate) fn place(&self, index: usize) -> (u64, u64) {
        self.sections[index]
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        let (offset, length) = self.place(LAST);
        offset + length
    }

    /// Where the bytes begin that the block checksums cover: all behind the checksums.
    pub(crate) fn body(&self) -> u64 {
        self.place(FIRST).0
    }

    /// The header's bytes for a file with these block checksums (little-endian, as in the file).
    pub(crate) fn encode(&self, checksums: &[u8]) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&self.kind.magic);
        out[VERSION_AT..][..4].copy_from_slice(&self.kind.version.to_le_bytes());
        out[HEADER_BYTES_AT..][..4].copy_from_slice(&(HEADER as u32).to_le_bytes());
        out[FILE_BYTES_AT..][..8].copy_from_slice(&self.file_bytes().to_le_bytes());
        for (index, (offset, length)) in self.sections.iter().enumerate() {
            out[SECTIONS_AT + 16 * index..][..8].copy_from_slice(&offset.to_le_bytes());
            out[SECTIONS_AT + 16 * index + 8..][..8].copy_from_slice(&length.to_le_bytes());
        }
        let checksum = header_checksum(&out, checksums);
        out[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// How many blocks have a checksum.
    pub(crate) fn blocks(&self) -> u64 {
        self.place(CHECKSUMS).1 / 4
    }

    /// Offset and length of block `index`, in bytes from the start of the file.
    pub(crate) fn block(&self, index: u64) -> (u64, u64) {
        let offset = self.body() + index * BLOCK as u64;
        (offset, (BLOCK as u64).min(self.file_bytes().saturating_sub(offset)))
    }

    /// Checks block `index` by itself, given the front of the file.
    pub(crate) fn verify_block(&self, front: &[u8], index: u64, block: &[u8]) -> Result<(), FrameError> {
        if index >= self.blocks() || block.len() as u64 != self.block(index).1 {
            return Err(FrameError::Checksum(self.block(index).0));
        }
        self.verify_blocks(front, index, block)
    }

    /// Checks the blocks from `first` on, which `bytes` are, given the front of the file; the error has the first one that is
    /// wrong.
    pub(crate) fn verify_blocks(&self, front: &[u8], first: u64, bytes: &[u8]) -> Result<(), FrameError> {
        let sums = bytemuck::try_cast_slice(self.section(front, CHECKSUMS)).unwrap_or(&[]);
        let sums = usize::try_from(first).ok().and_then(|first| sums.get(first..)).unwrap_or(&[]);
        verify(bytes, sums).map_err(|index| FrameError::Checksum(self.block(first + index as u64).0))
    }

    /// Reads and checks the header at the front of a file. Nothing behind the header is looked at.
    pub(crate) fn read(kind: Kind, bytes: &[u8]) -> Result<Self, FrameError> {
        if !bytes.starts_with(&kind.magic) {
            return Err(if kind.magic.starts_with(bytes) {
                FrameError::Truncated
            } else {
                FrameError::Magic
            });
        }
        let version = u32_at(bytes, VERSION_AT).ok_or(FrameError::Truncated)?;
        if version != kind.version {
            return Err(FrameError::Version(version));
        }
        let header = bytes.first_chunk::<HEADER>().ok_or(FrameError::Truncated)?;
        let u64_at = |at: usize| header[at..].first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        if u32_at(header, HEADER_BYTES_AT) != Some(HEADER as u32)
            || header[RESERVED_AT..CHECKSUM_AT] != [0; 20]
        {
            return Err(FrameError::Header);
        }
        let body = core::array::from_fn(|index| u64_at(SECTIONS_AT + 16 * (FIRST + index) + 8));
        let laid_out = Self::lay_out(kind, body).ok_or(FrameError::Header)?;
        for (index, (offset, length)) in laid_out.sections.iter().enumerate() {
            let at = SECTIONS_AT + 16 * index;
            if u64_at(at) != *offset || u64_at(at + 8) != *length {
                return Err(FrameError::Header);
            }
        }
        if u64_at(FILE_BYTES_AT) != laid_out.file_bytes() {
            return Err(FrameError::Header);
        }
        Ok(laid_out)
    }

    /// Reads and checks the header of a file in memory, which must start at a multiple of 64 to be read in place.
    pub(crate) fn read_in_place(kind: Kind, bytes: &[u8]) -> Result<Self, FrameError> {
        if !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(FrameError::Misaligned);
        }
        Self::read(kind, bytes)
    }

    /// Checks that `bytes` are as many as the file has, and every one against the checksums.
    pub(crate) fn verify_whole(&self, bytes: &[u8]) -> Result<(), FrameError> {
        match (bytes.len() as u64).cmp(&self.file_bytes()) {
            core::cmp::Ordering::Less => Err(FrameError::Truncated),
            core::cmp::Ordering::Greater => Err(FrameError::TooLong),
            core::cmp::Ordering::Equal => self.verify(bytes),
        }
    }

    /// Checks every byte against the checksums. `bytes` are the file, or whole blocks from its front.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result<(), FrameError> {
        let end = self.verify_front(bytes)?.len();
        let checksums = self.section(bytes, CHECKSUMS);
        let body = self.body() as usize;
        let gap = bytes.get(end..body).ok_or(FrameError::Header)?;
        if gap.iter().any(|&byte| byte != 0) {
            return Err(FrameError::Header);
        }
        let sums = bytemuck::try_cast_slice(checksums).map_err(|_| FrameError::Header)?;
        verify(bytes.get(body..).unwrap_or(&[]), sums)
            .map_err(|block| FrameError::Checksum(body as u64 + (block * BLOCK) as u64))
    }

    /// The header and the block checksums at the front of a file.
    pub(crate) fn front<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], FrameError> {
        let (offset, length) = self.place(CHECKSUMS);
        let end = usize::try_from(offset + length).ok();
        end.and_then(|end| bytes.get(..end)).ok_or(FrameError::Truncated)
    }

    /// Checks the [front](Self::front) against the header's checksum, and returns it.
    pub(crate) fn verify_front<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], FrameError> {
        let front = self.front(bytes)?;
        let (header, checksums) = front.split_first_chunk::<HEADER>().ok_or(FrameError::Truncated)?;
        if u32_at(header, CHECKSUM_AT) != Some(header_checksum(header, checksums)) {
            return Err(FrameError::HeaderChecksum);
        }
        Ok(front)
    }

    /// The bytes of section `index`; none where `bytes` ends before it does.
    pub(crate) fn section<'a>(&self, bytes: &'a [u8], index: usize) -> &'a [u8] {
        let (offset, length) = self.place(index);
        let range = usize::try_from(offset).ok().zip(usize::try_from(offset + length).ok());
        range.and_then(|(start, end)| bytes.get(start..end)).unwrap_or(&[])
    }
}

/// CRC-32C of the header up to its checksum, and of the checksums of all blocks behind it.
fn header_checksum(header: &[u8; HEADER], checksums: &[u8]) -> u32 {
    // The checksum of two parts: the parts' own checksums, side by side.
    let mut both = [0; 8];
    both[..4].copy_from_slice(&crc32c(&header[..CHECKSUM_AT]).to_le_bytes());
    both[4..].copy_from_slice(&crc32c(checksums).to_le_bytes());
    crc32c(&both)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { magic: *b"somefile", version: 3 };

    #[test]
    fn sections_follow_each_other_without_hole_or_overlap() {
        for lengths in [[0, 0, 0, 0], [1, 63, 64, 65], [300, 5000, 1_000_001, 123_456_789]] {
            let frame = Frame::lay_out(KIND, lengths).unwrap();
            let mut end = HEADER as u64;
            for (offset, length) in frame.sections {
                assert_eq!(offset, end.next_multiple_of(ALIGN as u64));
                end = offset + length;
            }
            assert_eq!(frame.file_bytes(), end);
            let blocks = (end - frame.body()).div_ceil(BLOCK as u64);
            assert_eq!(frame.place(CHECKSUMS).1, 4 * blocks);
        }
    }

    #[test]
    fn lengths_that_overflow_have_no_layout() {
        for lengths in [[u64::MAX, 0, 0, 0], [1, u64::MAX - 64, 1, 1], [1, 1, 1, 1 << 63]] {
            assert_eq!(Frame::lay_out(KIND, lengths), None);
        }
    }

    #[test]
    fn files_of_another_kind_are_told_apart() {
        let header = Frame::lay_out(KIND, [0; 4]).unwrap().encode(&[]);
        assert_eq!(Frame::read(KIND, &header).unwrap().encode(&[]), header);
        let other = Kind { magic: *b"otherone", ..KIND };
        assert_eq!(Frame::read(other, &header), Err(FrameError::Magic));
        assert_eq!(Frame::read(Kind { version: 4, ..KIND }, &header), Err(FrameError::Version(3)));
    }
}
