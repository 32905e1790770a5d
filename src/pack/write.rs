//! Packs to files, one embedding in memory at a time.

use core::fmt;
use core::ops::Range;
use std::io::{self, Seek, SeekFrom, Write};
use std::vec::Vec;

use half::f16;

use super::format::{self, Dtype, PackManifest, Record, Section, is_name};
use crate::frame::{BLOCK, Frame, crc32c};

/// What an entry is, before its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry<'a> {
    /// See [`is_name`].
    pub name: &'a str,
    /// The text that is encoded.
    pub prompt: &'a str,
    /// How it is encoded.
    pub options: &'a str,
    /// Rows of the hidden states, at least 1.
    pub tokens: u32,
    /// The bytes of the prompt that are left out because they do not fit.
    pub dropped: Option<Range<usize>>,
}

/// Why a pack can't be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum PackWriteError {
    /// The output's own error.
    Io(io::Error),
    /// A text of the manifest is too long, or there are no columns.
    Manifest,
    /// An entry is none.
    Entry {
        /// Its number, from 0.
        index: usize,
        /// Why.
        fault: super::EntryFault,
    },
    /// The pack would have more bytes than a file can have, or its texts more than 4 GiB.
    TooLarge,
    /// The ids or values of an entry are not as many as its rows, or there are more or fewer entries than were told.
    Count,
    /// A value is beyond what half precision can hold, or no number.
    NoHalf {
        /// The value.
        value: f32,
        /// Where it is: row and column of the hidden states; `None` in the pooled output.
        at: Option<(usize, usize)>,
    },
}

impl From<io::Error> for PackWriteError {
    fn from(error: io::Error) -> Self {
        PackWriteError::Io(error)
    }
}

impl From<PackWriteError> for io::Error {
    fn from(error: PackWriteError) -> Self {
        match error {
            PackWriteError::Io(error) => error,
            other => io::Error::other(other),
        }
    }
}

impl fmt::Display for PackWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackWriteError::Io(error) => error.fmt(f),
            PackWriteError::Manifest => {
                f.write_str("the plan's own texts are too long for a pack, or it has no columns")
            }
            PackWriteError::Entry { index, fault } => write!(f, "entry {index} {fault}"),
            PackWriteError::TooLarge => f.write_str("the pack would be too large: make several"),
            PackWriteError::Count => f.write_str("an entry has other values than were told"),
            PackWriteError::NoHalf { value, at } => {
                write!(f, "the value {value} ")?;
                match at {
                    Some((row, column)) => write!(f, "at token {row}, column {column}")?,
                    None => f.write_str("in the pooled output")?,
                }
                f.write_str(" is none of half precision, which ends at 65504: write single precision")
            }
        }
    }
}

impl std::error::Error for PackWriteError {}

/// Writes a pack whose entries are known, and then their values one after the other.
///
/// The header comes last: until then the file is none that could be read.
pub struct PackWriter<W> {
    out: W,
    frame: Frame,
    manifest: PackManifest<'static>,
    /// Rows of the entries whose values are missing, the last one first.
    missing: Vec<u32>,
    /// What was written of the block that is not full.
    block: Vec<u8>,
    checksums: Vec<u8>,
    /// Where in the file the next byte goes.
    at: u64,
}

impl<W: Write + Seek> PackWriter<W> {
    /// Starts a pack in `out`, whose beginning is the beginning of the file. `entries` come in the order of the bytes of their
    /// names, no two with the same.
    ///
    /// # Errors
    /// [`PackWriteError`] where the entries do not do, or `out` fails.
    pub fn new(out: W, manifest: PackManifest<'_>, entries: &[NewEntry<'_>]) -> Result<Self, PackWriteError> {
        let section = manifest.section().ok_or(PackWriteError::Manifest)?;
        let (records, texts, values) = index(&manifest, entries)?;
        let frame = format::lay_out(section.len() as u64, records.len() as u64, texts.len() as u64, values)
            .ok_or(PackWriteError::TooLarge)?;
        let mut writer = Self {
            out,
            frame,
            manifest: PackManifest { producer: "", source: "", ..manifest },
            missing: entries.iter().rev().map(|entry| entry.tokens).collect(),
            block: Vec::with_capacity(BLOCK),
            checksums: Vec::new(),
            at: frame.body(),
        };
        // Filled in when all checksums are known.
        writer.out.seek(SeekFrom::Start(writer.at))?;
        writer.body(&section)?;
        writer.section(Section::Index)?;
        for record in &records {
            let words = record.words();
            writer.body(bytemuck::cast_slice(&words))?;
        }
        writer.section(Section::Texts)?;
        writer.body(&texts)?;
        writer.section(Section::Values)?;
        Ok(writer)
    }

    /// Writes the values of the next entry: its ids `[tokens]`, hidden states `[tokens, width]` and pooled output `[columns]`.
    ///
    /// # Errors
    /// [`PackWriteError`] where they are not as many as told, can't be had in half precision, or the output fails.
    pub fn write(
        &mut self,
        ids: &[u32],
        hidden: &[f32],
        pooled: Option<&[f32]>,
    ) -> Result<(), PackWriteError> {
        let tokens = self.missing.pop().ok_or(PackWriteError::Count)?;
        let width = self.manifest.width as usize;
        let pooled = pooled.unwrap_or(&[]);
        if ids.len() != tokens as usize
            || Some(hidden.len()) != width.checked_mul(tokens as usize)
            || pooled.len() != self.manifest.pooled as usize
        {
            return Err(PackWriteError::Count);
        }
        self.body(bytemuck::cast_slice(ids))?;
        self.align()?;
        self.values(hidden, |index| Some((index / width, index % width)))?;
        self.align()?;
        self.values(pooled, |_| None)?;
        self.align()
    }

    /// Writes the header, and gives the output back.
    ///
    /// # Errors
    /// [`PackWriteError::Count`] where values are missing; the output's.
    pub fn finish(mut self) -> Result<W, PackWriteError> {
        if !self.missing.is_empty() {
            return Err(PackWriteError::Count);
        }
        self.end_block()?;
        debug_assert_eq!(self.at, self.frame.file_bytes());
        let header = self.frame.encode(&self.checksums);
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.write_all(&self.checksums)?;
        let end = (header.len() + self.checksums.len()) as u64;
        self.out.write_all(&std::vec![0; (self.frame.body() - end) as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Values as the manifest says they are stored.
    fn values(
        &mut self,
        values: &[f32],
        place: impl Fn(usize) -> Option<(usize, usize)>,
    ) -> Result<(), PackWriteError> {
        match self.manifest.dtype {
            Dtype::F32 => self.body(bytemuck::cast_slice(values)),
            Dtype::F16 => values.iter().enumerate().try_for_each(|(index, &value)| {
                let half = f16::from_f32(value);
                if !half.is_finite() {
                    return Err(PackWriteError::NoHalf { value, at: place(index) });
                }
                self.body(&half.to_le_bytes())
            }),
        }
    }

    /// Zeros up to where `section` begins.
    fn section(&mut self, section: Section) -> Result<(), PackWriteError> {
        let (start, _) = self.frame.place(section as usize);
        self.zeros(start - self.at)
    }

    /// Zeros up to the next multiple of the alignment.
    fn align(&mut self) -> Result<(), PackWriteError> {
        self.zeros(self.at.next_multiple_of(crate::frame::ALIGN as u64) - self.at)
    }

    fn zeros(&mut self, count: u64) -> Result<(), PackWriteError> {
        self.body(&[0; crate::frame::ALIGN][..count as usize])
    }

    /// Bytes that the checksums cover.
    fn body(&mut self, mut bytes: &[u8]) -> Result<(), PackWriteError> {
        self.at += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), PackWriteError> {
        if !self.block.is_empty() {
            self.checksums.extend_from_slice(&crc32c(&self.block).to_le_bytes());
            self.out.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }
}

impl<W> fmt::Debug for PackWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackWriter").field("missing", &self.missing.len()).finish_non_exhaustive()
    }
}

/// The records, texts and bytes of values of `entries`.
fn index(
    manifest: &PackManifest<'_>,
    entries: &[NewEntry<'_>],
) -> Result<(Vec<Record>, Vec<u8>, u64), PackWriteError> {
    use super::EntryFault;
    let (mut records, mut texts, mut values) = (Vec::new(), Vec::new(), 0u64);
    let number = |length: usize| u32::try_from(length).map_err(|_| PackWriteError::TooLarge);
    for (index, entry) in entries.iter().enumerate() {
        let refused = |fault| Err(PackWriteError::Entry { index, fault });
        if !is_name(entry.name) {
            return refused(EntryFault::Name);
        }
        if index.checked_sub(1).is_some_and(|last| entries[last].name >= entry.name) {
            return refused(EntryFault::Order);
        }
        if entry.tokens == 0 {
            return refused(EntryFault::Tokens);
        }
        let dropped = match &entry.dropped {
            None => [0, 0],
            Some(range) if range.is_empty() || entry.prompt.get(range.clone()).is_none() => {
                return refused(EntryFault::Dropped);
            }
            Some(range) => [number(range.start)?, number(range.end)?],
        };
        records.push(Record {
            values,
            tokens: entry.tokens,
            text: number(texts.len())?,
            name: number(entry.name.len())?,
            prompt: number(entry.prompt.len())?,
            options: number(entry.options.len())?,
            dropped,
        });
        for text in [entry.name, entry.prompt, entry.options] {
            texts.extend_from_slice(text.as_bytes());
        }
        let arrays = manifest.arrays(entry.tokens).ok_or(PackWriteError::TooLarge)?;
        values = values.checked_add(arrays.bytes).ok_or(PackWriteError::TooLarge)?;
    }
    Ok((records, texts, values))
}
