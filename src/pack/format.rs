//! The file: frame, manifest, records.
//!
//! ```text
//! header      as a plan's, with another magic
//! checksums   as a plan's
//! manifest    what the entries have in common
//! index       a record of fixed size for each entry, ascending by name
//! texts       name, prompt and options of each entry, in the order of the records
//! values      ids, hidden states and pooled output of each entry, in the order of the records
//! ```

use core::ops::Range;

use serde::{Deserialize, Serialize};

#[cfg(feature = "std")]
use crate::frame::Frame;
use crate::frame::{ALIGN, Kind};
use crate::plan::PlanHash;

/// The first eight bytes of a pack.
pub const MAGIC: [u8; 8] = *b"clippack";

/// The version of the format that this build writes and reads.
pub const VERSION: u32 = 1;

/// Bytes that the name of an entry has at most; at least 1.
pub const NAME: usize = 256;

/// Bytes that each text of the manifest has at most.
pub const TEXT: usize = 64;

/// Bytes that the manifest has at most.
pub const MANIFEST: usize = 256;

pub(super) const KIND: Kind = Kind { magic: MAGIC, version: VERSION };

/// The sections behind the checksums, in their order.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Manifest = 1,
    Index,
    Texts,
    Values,
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// IEEE single precision, as the encoder computes: nothing is lost.
    F32,
    /// IEEE half precision, rounded to nearest, ties to even.
    F16,
}

impl Dtype {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 => 2,
        }
    }
}

/// What the entries of a pack have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackManifest<'a> {
    /// The program that made the pack; at most [`TEXT`] bytes, as `source`.
    pub producer: &'a str,
    /// The model that the plan was made from, as the plan says it.
    pub source: &'a str,
    /// [Which plan](PlanHash) encoded the prompts.
    pub plan: [u8; 32],
    /// Columns of the hidden states, at least 1.
    pub width: u32,
    /// Columns of the pooled outputs, 0 where the plan has none.
    pub pooled: u32,
    /// How hidden states and pooled outputs are stored.
    pub dtype: Dtype,
}

impl<'a> PackManifest<'a> {
    /// Which plan encoded the prompts.
    pub fn plan_hash(&self) -> PlanHash {
        PlanHash::from_bytes(self.plan)
    }

    /// Its section; `None` where a text is longer than [`TEXT`], or there are no columns.
    pub(super) fn section(&self) -> Option<heapless::Vec<u8, MANIFEST>> {
        if self.producer.len().max(self.source.len()) > TEXT || self.width == 0 {
            return None;
        }
        let mut buffer = [0; MANIFEST];
        let section = postcard::to_slice(self, &mut buffer).ok()?;
        heapless::Vec::from_slice(section).ok()
    }

    /// Reads its section; `None` where it is none. Each manifest has one section: numbers are as short as they can be.
    pub(super) fn of_section(section: &'a [u8]) -> Option<Self> {
        let manifest: Self = postcard::from_bytes(section).ok()?;
        (manifest.section()?[..] == *section).then_some(manifest)
    }

    /// Where the arrays of an entry of `tokens` rows are, from the start of the entry's values; `None` where they overflow.
    pub(super) fn arrays(&self, tokens: u32) -> Option<Arrays> {
        let size = self.dtype.bytes() as u64;
        let ids = (0, 4 * u64::from(tokens));
        let hidden = (aligned(ids.1)?, (u64::from(tokens) * u64::from(self.width)).checked_mul(size)?);
        let pooled = (aligned(hidden.0.checked_add(hidden.1)?)?, u64::from(self.pooled) * size);
        let bytes = aligned(pooled.0.checked_add(pooled.1)?)?;
        Some(Arrays { ids, hidden, pooled, bytes })
    }
}

fn aligned(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(ALIGN as u64)
}

/// Offset and length of an entry's arrays, in bytes from the start of its values.
pub(super) struct Arrays {
    pub(super) ids: (u64, u64),
    pub(super) hidden: (u64, u64),
    pub(super) pooled: (u64, u64),
    /// Of all of them, a multiple of 64.
    pub(super) bytes: u64,
}

/// Words of a record.
pub(super) const WORDS: usize = 16;

/// Bytes of an entry's record in the index.
pub const RECORD: usize = 4 * WORDS;

/// What the index says of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Where its values begin, in bytes from the start of the values.
    pub(super) values: u64,
    /// Rows.
    pub(super) tokens: u32,
    /// Where its texts begin, in bytes from the start of the texts.
    pub(super) text: u32,
    /// Bytes of its texts.
    pub(super) name: u32,
    pub(super) prompt: u32,
    pub(super) options: u32,
    /// The bytes of the prompt that fell off.
    pub(super) dropped: [u32; 2],
}

impl Record {
    /// The words in the file.
    #[cfg(feature = "std")]
    pub(super) fn words(&self) -> [u32; WORDS] {
        let Record { values, tokens, text, name, prompt, options, dropped: [from, to] } = *self;
        let (low, high) = (values as u32, (values >> 32) as u32);
        [low, high, tokens, text, name, prompt, options, from, to, 0, 0, 0, 0, 0, 0, 0]
    }

    /// Reads the words; `None` where one that must be zero is not.
    pub(super) fn of(words: &[u32; WORDS]) -> Option<Self> {
        let [low, high, tokens, text, name, prompt, options, from, to, rest @ ..] = *words;
        let values = u64::from(high) << 32 | u64::from(low);
        let record = Record { values, tokens, text, name, prompt, options, dropped: [from, to] };
        (rest == [0; WORDS - 9]).then_some(record)
    }

    /// Where name, prompt and options are in the texts.
    pub(super) fn texts(&self) -> [Range<u64>; 3] {
        let mut at = u64::from(self.text);
        [self.name, self.prompt, self.options].map(|length| {
            let start = at;
            at += u64::from(length);
            start..at
        })
    }
}

/// Whether an entry may have this name.
pub fn is_name(name: &str) -> bool {
    (1..=NAME).contains(&name.len()) && !name.contains(char::is_control)
}

/// Lays out a pack with sections of these lengths.
#[cfg(feature = "std")]
pub(super) fn lay_out(manifest: u64, entries: u64, texts: u64, values: u64) -> Option<Frame> {
    Frame::lay_out(KIND, [manifest, entries.checked_mul(RECORD as u64)?, texts, values])
}
