//! Prompt packs: files of named embeddings, read in place, without a plan.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! # use cliptext::{AlignedBytes, pack::{Dtype, NewEntry, PackManifest, PackWriter}};
//! # let manifest = PackManifest { producer: "", source: "", plan: [0; 32], width: 2, pooled: 0, dtype: Dtype::F32 };
//! # let entry = NewEntry { name: "dog", prompt: "a running dog", options: "", tokens: 1, dropped: None };
//! # let mut writer = PackWriter::new(std::io::Cursor::new(vec![]), manifest, &[entry])?;
//! # writer.write(&[1], &[0.5, 1.5], None)?;
//! # let file = AlignedBytes::copy_of(writer.finish()?.get_ref());
//! use cliptext::Pack;
//!
//! let pack = Pack::load(&file)?; // bytes from a multiple of 64 on: linked in, in flash, read or mapped
//! let entry = pack.find("dog").expect("the pack has a dog");
//! assert_eq!(entry.prompt(), "a running dog");
//! let mut hidden = [0.0; 2]; // entry.tokens() * pack.width()
//! entry.hidden().copy_to(&mut hidden)?;
//! # assert_eq!(hidden, [0.5, 1.5]);
//! # }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! `docs/pack-format.md` is the specification.

mod error;
mod format;
mod values;
#[cfg(feature = "std")]
mod write;

pub use error::{EntryFault, PackError};
pub use format::{Dtype, MAGIC, MANIFEST, NAME, PackManifest, RECORD, TEXT, VERSION, is_name};
pub use values::{Values, ValuesLength};
#[cfg(feature = "std")]
pub use write::{NewEntry, PackWriteError, PackWriter};

use core::fmt;
use core::ops::Range;

use crate::frame::Frame;
use format::{Arrays, KIND, Record, Section, WORDS};

/// A validated pack over borrowed bytes: named embeddings of one plan. Small, to be copied; what it gives lives as long as the
/// bytes.
#[derive(Clone, Copy)]
pub struct Pack<'a> {
    manifest: PackManifest<'a>,
    records: &'a [[u32; WORDS]],
    texts: &'a [u8],
    values: &'a [u8],
}

impl<'a> Pack<'a> {
    /// Whether bytes begin as a pack does, of whatever version.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Reads the pack in `bytes`, which must start at a multiple of 64: nothing is copied. Every byte is read once, to be
    /// checked. This takes less than 4 KiB of stack.
    ///
    /// # Errors
    /// [`PackError`] says what is wrong and where. After `Ok`, whatever is asked of the pack succeeds.
    pub fn load(bytes: &'a [u8]) -> Result<Self, PackError> {
        let frame = Frame::read_in_place(KIND, bytes)?;
        frame.verify_whole(bytes)?;
        let section = |section: Section| frame.section(bytes, section as usize);
        let manifest = PackManifest::of_section(section(Section::Manifest)).ok_or(PackError::Manifest)?;
        let records = bytemuck::try_cast_slice(section(Section::Index)).map_err(|_| PackError::Index)?;
        let pack =
            Self { manifest, records, texts: section(Section::Texts), values: section(Section::Values) };
        pack.check()?;
        Ok(pack)
    }

    /// Checks the records.
    fn check(&self) -> Result<(), PackError> {
        let (mut texts, mut values, mut last) = (0, 0, "");
        for (index, words) in self.records.iter().enumerate() {
            let refused = |fault| PackError::Entry { index, fault };
            let record = Record::of(words).ok_or(refused(EntryFault::Reserved))?;
            let [name, prompt, options] = record.texts();
            let text = |range: &Range<u64>| part(self.texts, range.start, range.end).and_then(utf8);
            let ([Some(name_text), Some(prompt_text), Some(_)], true) =
                ([text(&name), text(&prompt), text(&options)], name.start == texts)
            else {
                return Err(refused(EntryFault::Text));
            };
            texts = options.end;
            if !is_name(name_text) {
                return Err(refused(EntryFault::Name));
            }
            if index > 0 && last >= name_text {
                return Err(refused(EntryFault::Order));
            }
            last = name_text;
            let [from, to] = record.dropped.map(|at| at as usize);
            if (from, to) != (0, 0) && (from >= to || prompt_text.get(from..to).is_none()) {
                return Err(refused(EntryFault::Dropped));
            }
            if record.tokens == 0 {
                return Err(refused(EntryFault::Tokens));
            }
            let bytes = self.manifest.arrays(record.tokens).map(|arrays| arrays.bytes);
            let end = bytes.and_then(|bytes| record.values.checked_add(bytes));
            match end {
                Some(end) if record.values == values && end <= self.values.len() as u64 => values = end,
                _ => return Err(refused(EntryFault::Values)),
            }
        }
        if (texts, values) == (self.texts.len() as u64, self.values.len() as u64) {
            Ok(())
        } else {
            Err(PackError::Leftover)
        }
    }

    /// What the entries have in common: which plan encoded them, their columns, how values are stored.
    pub fn manifest(&self) -> &PackManifest<'a> {
        &self.manifest
    }

    /// Columns of the hidden states.
    pub fn width(&self) -> usize {
        self.manifest.width as usize
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Entry `index`, in the order of the bytes of their names.
    pub fn entry(&self, index: usize) -> Option<PackEntry<'a>> {
        // `load` found every record to be one.
        let record = self.records.get(index).and_then(Record::of)?;
        Some(PackEntry { pack: *self, record })
    }

    /// All entries, in the order of the bytes of their names.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = PackEntry<'a>> + use<'a> {
        let pack = *self;
        pack.records
            .iter()
            .map(move |words| PackEntry { pack, record: Record::of(words).unwrap_or_default() })
    }

    /// The entry called `name`.
    pub fn find(&self, name: &str) -> Option<PackEntry<'a>> {
        self.entry(self.position(name)?)
    }

    /// The number of the entry called `name`: a binary search.
    pub fn position(&self, name: &str) -> Option<usize> {
        let name_of = |words: &[u32; WORDS]| {
            let [Range { start, end }, ..] = Record::of(words).unwrap_or_default().texts();
            part(self.texts, start, end).unwrap_or(&[])
        };
        self.records.binary_search_by(|words| name_of(words).cmp(name.as_bytes())).ok()
    }
}

impl fmt::Debug for Pack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pack")
            .field("manifest", &self.manifest)
            .field("entries", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// An embedding of a pack, and what it is of.
#[derive(Clone, Copy)]
pub struct PackEntry<'a> {
    pack: Pack<'a>,
    record: Record,
}

impl<'a> PackEntry<'a> {
    /// Its name: 1 to [`NAME`] bytes without control characters.
    pub fn name(&self) -> &'a str {
        self.text(0)
    }

    /// The text that was encoded.
    pub fn prompt(&self) -> &'a str {
        self.text(1)
    }

    /// How it was encoded, in the words of the program that made the pack.
    pub fn options(&self) -> &'a str {
        self.text(2)
    }

    fn text(&self, index: usize) -> &'a str {
        let range = &self.record.texts()[index];
        part(self.pack.texts, range.start, range.end).and_then(utf8).unwrap_or("")
    }

    /// The part of the prompt that was left out because it did not fit: a range of its bytes.
    pub fn dropped(&self) -> Option<Range<usize>> {
        let [from, to] = self.record.dropped.map(|at| at as usize);
        (from < to).then_some(from..to)
    }

    /// Rows of the hidden states.
    pub fn tokens(&self) -> usize {
        self.record.tokens as usize
    }

    /// The token ids, one per row of the hidden states.
    pub fn ids(&self) -> &'a [u32] {
        bytemuck::try_cast_slice(self.bytes(|arrays| arrays.ids)).unwrap_or(&[])
    }

    /// The hidden states, `[tokens, width]` row by row.
    pub fn hidden(&self) -> Values<'a> {
        Values::of(self.pack.manifest.dtype, self.bytes(|arrays| arrays.hidden))
    }

    /// The pooled output, `[columns]`, where the plan has one.
    pub fn pooled(&self) -> Option<Values<'a>> {
        let bytes = self.bytes(|arrays| arrays.pooled);
        (!bytes.is_empty()).then(|| Values::of(self.pack.manifest.dtype, bytes))
    }

    /// The bytes of one of its arrays.
    fn bytes(&self, array: impl FnOnce(&Arrays) -> (u64, u64)) -> &'a [u8] {
        let place = self.pack.manifest.arrays(self.record.tokens).map(|arrays| array(&arrays));
        let (offset, length) = place.unwrap_or_default();
        let start = self.record.values + offset;
        part(self.pack.values, start, start + length).unwrap_or(&[])
    }
}

impl fmt::Debug for PackEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackEntry")
            .field("name", &self.name())
            .field("prompt", &self.prompt())
            .field("tokens", &self.tokens())
            .finish_non_exhaustive()
    }
}

/// A part of `bytes`; `None` where it is not in there.
fn part(bytes: &[u8], start: u64, end: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes).ok()
}
