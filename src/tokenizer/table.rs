//! The vocabulary table's layout, for the reader here and the compiler that writes it.
//! `docs/vocabulary-table.md` describes the same in words.

use core::ops::Range;

/// The table's first eight bytes.
pub const MAGIC: [u8; 8] = *b"CLIPVOC\0";
/// The only version of the layout so far.
pub const VERSION: u32 = 1;
/// Bytes of the header; the sections follow.
pub const HEADER: usize = 64;
/// Where the header's fields stand, each a `u32` (the magic stands before them, zeros behind).
pub mod field {
    /// [`VERSION`](super::VERSION).
    pub const VERSION: usize = 8;
    /// How many merges the table holds.
    pub const MERGES: usize = 12;
    /// How many nodes its trie has.
    pub const NODES: usize = 16;
    /// How many added tokens it holds.
    pub const ADDED: usize = 20;
    /// Id of the start token.
    pub const START: usize = 24;
    /// Id of the end token.
    pub const END: usize = 28;
    /// Every id is below this: the rows that the model's token embedding must have.
    pub const SIZE: usize = 32;
    /// 1 if the table maps tokens to ids, 0 if a token's index is its id.
    pub const MAPPED: usize = 36;
    /// 1 if `<|startoftext|>` and `<|endoftext|>` are words of their own in normalized text as well, 0 if not.
    pub const KEEPS_SPECIAL: usize = 40;
    /// First of the header's bytes that must be zero.
    pub const RESERVED: usize = 44;
}

/// Tokens that are one byte, inside a word and at its end: the first tokens of every vocabulary.
pub const BASE_TOKENS: usize = 512;
/// The longest token in bytes. It bounds how far the tokenizer looks back, hence its memory.
pub const MAX_TOKEN: usize = 32;
/// Stands for "no token" in the trie.
pub const NO_TOKEN: u16 = u16::MAX;
/// The most merges that leave token indexes below [`NO_TOKEN`].
pub const MAX_MERGES: usize = NO_TOKEN as usize - BASE_TOKENS;

/// Bytes of one added token: first id (`u32`), length of its text (`u8`), flags (`u8`), how many more ids follow the first
/// (`u8`), a zero, text, zeros.
pub const ADDED_RECORD: usize = 64;
/// Where an added token's flags stand in its record.
pub const ADDED_FLAGS: usize = 5;
/// Where the number of its further ids stands.
pub const ADDED_MORE: usize = 6;
/// Flags of an added token.
pub mod added_flag {
    /// It is looked for in normalized text.
    pub const NORMALIZED: u8 = 1;
    /// It counts only where it is not part of a longer word.
    pub const WHOLE_WORD: u8 = 2;
}
/// Where an added token's text starts in its record.
pub const ADDED_TEXT: usize = 8;
/// The longest text of an added token in bytes.
pub const MAX_ADDED_TEXT: usize = ADDED_RECORD - ADDED_TEXT;
/// The most added tokens: every one is tried wherever its first byte occurs, which must stay cheap. A word of textual
/// inversion has up to 75 vectors, each of which may be a token.
pub const MAX_ADDED: usize = 256;
/// The table's length is a multiple of this.
pub const ALIGNMENT: usize = 64;

/// Where the sections stand, as byte ranges of the table. They follow each other without holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Added tokens, [`ADDED_RECORD`] bytes each, ascending by text.
    pub added: Range<usize>,
    /// `u32` per node, and one more: its first child; its children end where the next node's begin.
    pub first_children: Range<usize>,
    /// `u32` per token: its id. Empty unless the table maps ids.
    pub ids: Range<usize>,
    /// Two `u16` per merge, in rank order: the tokens merged. Merge `i` makes token `BASE_TOKENS + i`.
    pub merges: Range<usize>,
    /// `u16` per merge: the merges' ranks, ordered by left and right token.
    pub by_pair: Range<usize>,
    /// `u16` per token, and one more: where in `by_pair` the merges begin whose left token it is.
    pub pair_starts: Range<usize>,
    /// `u16` per node: the token that it completes, or [`NO_TOKEN`].
    pub node_tokens: Range<usize>,
    /// `u8` per token: its length in bytes.
    pub lengths: Range<usize>,
    /// `u8` per node: the byte on the edge that leads to it.
    pub labels: Range<usize>,
    /// Zeros up to the table's end, a multiple of [`ALIGNMENT`].
    pub padding: Range<usize>,
}

impl Layout {
    /// The layout of a table with these counts; `None` if its length overflows `usize`.
    pub fn new(merges: usize, nodes: usize, added: usize, mapped: bool) -> Option<Layout> {
        let tokens = merges.checked_add(BASE_TOKENS)?;
        let mut end = HEADER;
        let mut section = |count: usize, size: usize| {
            let start = end;
            end = end.checked_add(count.checked_mul(size)?)?;
            Some(start..end)
        };
        let mut layout = Layout {
            added: section(added, ADDED_RECORD)?,
            first_children: section(nodes.checked_add(1)?, 4)?,
            ids: section(if mapped { tokens } else { 0 }, 4)?,
            merges: section(merges, 4)?,
            by_pair: section(merges, 2)?,
            pair_starts: section(tokens.checked_add(1)?, 2)?,
            node_tokens: section(nodes, 2)?,
            lengths: section(tokens, 1)?,
            labels: section(nodes, 1)?,
            padding: 0..0,
        };
        layout.padding = end..end.checked_next_multiple_of(ALIGNMENT)?;
        Some(layout)
    }

    /// The table's length in bytes.
    pub fn len(&self) -> usize {
        self.padding.end
    }

    /// Never: a table has at least its header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
