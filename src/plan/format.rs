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
use crate::kernels::crc32c::verify;
pub use crate::kernels::crc32c::{BLOCK, crc32c};

/// The first eight bytes of a plan.
pub const MAGIC: [u8; 8] = *b"cliptext";

/// The version of the format that this build writes and reads.
pub const VERSION: u32 = 5;

/// Sections, and the plan itself, start at multiples of this.
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
    /// Offset and length of each section, in bytes from the start of the file.
    sections: [(u64, u64); SECTIONS],
}

impl Header {
    /// Lays out sections of the given lengths, the checksums left out: they follow from the others.
    ///
    /// `None` when the file would be longer than 2^63 bytes.
    pub fn lay_out(manifest: u64, steps: u64, vocabulary: u64, constants: u64) -> Option<Self> {
        // Where the sections start moves them by whole alignments only, so their extent can be had first.
        let body = [manifest, steps, vocabulary, constants];
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
        for (section, length) in sections.iter_mut().zip([checksums, manifest, steps, vocabulary, constants])
        {
            at = at.checked_next_multiple_of(ALIGN as u64)?;
            *section = (at, length);
            at = at.checked_add(length)?;
        }
        (at < 1 << 63).then_some(Self { sections })
    }

    /// Offset and length of `section`.
    pub fn place(&self, section: Section) -> (u64, u64) {
        self.sections[section as usize]
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        let (offset, length) = self.place(Section::Constants);
        offset + length
    }

    /// Where the bytes begin that the block checksums cover: all behind the checksums.
    pub fn body(&self) -> u64 {
        self.place(Section::Manifest).0
    }

    /// The header's bytes for a file with these block checksums (little-endian, as in the file).
    pub fn encode(&self, checksums: &[u8]) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[VERSION_AT..][..4].copy_from_slice(&VERSION.to_le_bytes());
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

    /// Bytes at the front of the file that must be in memory: everything but the constants, and the rest of the block in
    /// which the constants begin, so that all of it can be checked.
    pub fn head_bytes(&self) -> u64 {
        let (constants, _) = self.place(Section::Constants);
        let blocks = (constants - self.body()).div_ceil(BLOCK as u64);
        (self.body() + blocks * BLOCK as u64).min(self.file_bytes())
    }

    /// How many blocks have a checksum.
    pub fn blocks(&self) -> u64 {
        self.place(Section::Checksums).1 / 4
    }

    /// Offset and length of block `index`, in bytes from the start of the file.
    pub fn block(&self, index: u64) -> (u64, u64) {
        let offset = self.body() + index * BLOCK as u64;
        (offset, (BLOCK as u64).min(self.file_bytes().saturating_sub(offset)))
    }

    /// Checks block `index` by itself, given the front of the plan.
    ///
    /// # Errors
    /// [`LoadError::Checksum`] where its bytes are not the plan's.
    pub fn verify_block(&self, head: &[u8], index: u64, block: &[u8]) -> Result<(), LoadError> {
        let sums = self.section(head, Section::Checksums);
        let sum = usize::try_from(index).ok().and_then(|index| u32_at(sums, 4 * index));
        let whole = block.len() as u64 == self.block(index).1;
        if whole && sum == Some(crc32c(block)) {
            return Ok(());
        }
        Err(LoadError::Checksum { offset: self.block(index).0 })
    }

    /// Reads and checks the header at the front of a plan. Nothing behind the header is looked at.
    ///
    /// # Errors
    /// When it is none, or one of another version, or contradicts itself.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(if MAGIC.starts_with(bytes) { LoadError::Truncated } else { LoadError::NotAPlan });
        }
        let version = u32_at(bytes, VERSION_AT).ok_or(LoadError::Truncated)?;
        if version != VERSION {
            return Err(LoadError::Version { found: version, reads: VERSION });
        }
        let header = bytes.first_chunk::<HEADER>().ok_or(LoadError::Truncated)?;
        let u64_at = |at: usize| header[at..].first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        let file_bytes = u64_at(FILE_BYTES_AT);
        if u32_at(header, HEADER_BYTES_AT) != Some(HEADER as u32)
            || header[RESERVED_AT..CHECKSUM_AT] != [0; 20]
        {
            return Err(LoadError::Header);
        }
        let length = |section: Section| u64_at(SECTIONS_AT + 16 * section as usize + 8);
        let laid_out = Self::lay_out(
            length(Section::Manifest),
            length(Section::Steps),
            length(Section::Vocabulary),
            length(Section::Constants),
        )
        .ok_or(LoadError::Header)?;
        // The lengths decide everything else: no offset can lie.
        for (index, (offset, length)) in laid_out.sections.iter().enumerate() {
            let at = SECTIONS_AT + 16 * index;
            if u64_at(at) != *offset || u64_at(at + 8) != *length {
                return Err(LoadError::Header);
            }
        }
        if file_bytes != laid_out.file_bytes() {
            return Err(LoadError::Header);
        }
        Ok(laid_out)
    }

    /// The bytes of `section`; none where `bytes` ends before it does.
    pub(super) fn section<'a>(&self, bytes: &'a [u8], section: Section) -> &'a [u8] {
        let (offset, length) = self.place(section);
        let range = usize::try_from(offset).ok().zip(usize::try_from(offset + length).ok());
        range.and_then(|(start, end)| bytes.get(start..end)).unwrap_or(&[])
    }

    /// The header and the block checksums at the front of a plan.
    pub(super) fn front<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], LoadError> {
        let (offset, length) = self.place(Section::Checksums);
        let end = usize::try_from(offset + length).ok();
        end.and_then(|end| bytes.get(..end)).ok_or(LoadError::Truncated)
    }

    /// Checks the [front](Self::front) against the header's checksum, and returns it.
    pub(super) fn verify_front<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], LoadError> {
        let front = self.front(bytes)?;
        let (header, checksums) = front.split_first_chunk::<HEADER>().ok_or(LoadError::Truncated)?;
        if u32_at(header, CHECKSUM_AT) != Some(header_checksum(header, checksums)) {
            return Err(LoadError::HeaderChecksum);
        }
        Ok(front)
    }

    /// Checks every byte against the checksums. `bytes` are the plan, or whole blocks from its front.
    pub(super) fn verify(&self, bytes: &[u8]) -> Result<(), LoadError> {
        let end = self.verify_front(bytes)?.len();
        let checksums = self.section(bytes, Section::Checksums);
        let body = self.body() as usize;
        let gap = bytes.get(end..body).ok_or(LoadError::Header)?;
        if gap.iter().any(|&byte| byte != 0) {
            return Err(LoadError::Header);
        }
        let sums = bytemuck::try_cast_slice(checksums).map_err(|_| LoadError::Header)?;
        verify(bytes.get(body..).unwrap_or(&[]), sums)
            .map_err(|block| LoadError::Checksum { offset: body as u64 + (block * BLOCK) as u64 })
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

    #[test]
    fn sections_follow_each_other_without_hole_or_overlap() {
        for lengths in [[0, 0, 0, 0], [1, 63, 64, 65], [300, 5000, 1_000_001, 123_456_789]] {
            let [manifest, steps, vocabulary, constants] = lengths;
            let header = Header::lay_out(manifest, steps, vocabulary, constants).unwrap();
            let mut end = HEADER as u64;
            for (offset, length) in header.sections {
                assert_eq!(offset, end.next_multiple_of(ALIGN as u64));
                end = offset + length;
            }
            assert_eq!(header.file_bytes(), end);
            let blocks = (end - header.body()).div_ceil(BLOCK as u64);
            assert_eq!(header.place(Section::Checksums).1, 4 * blocks);
        }
    }

    #[test]
    fn lengths_that_overflow_have_no_layout() {
        for lengths in [[u64::MAX, 0, 0, 0], [1, u64::MAX - 64, 1, 1], [1, 1, 1, 1 << 63]] {
            let [manifest, steps, vocabulary, constants] = lengths;
            assert_eq!(Header::lay_out(manifest, steps, vocabulary, constants), None);
        }
    }
}
