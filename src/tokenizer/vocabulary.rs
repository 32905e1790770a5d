//! [`Vocabulary`]: a checked view over a vocabulary table.

use core::cmp::Ordering;
use core::fmt;
use core::ops::Range;

use super::table::{
    ADDED_FLAGS, ADDED_MORE, ADDED_RECORD, ADDED_TEXT, BASE_TOKENS, HEADER, Layout, MAGIC, MAX_ADDED,
    MAX_ADDED_TEXT, MAX_MERGES, MAX_TOKEN, NO_TOKEN, VERSION, added_flag, field,
};
use super::unicode::{Category, record};

/// A vocabulary, read in place from the bytes of its table.
///
/// [`load`](Vocabulary::load) checks the table once; whatever bytes pass it, tokenizing neither fails nor panics, and its time
/// stays linear in the text. A table that passes but was not written by the compiler may give ids without sense,
/// always below [`size`](Vocabulary::size).
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    pub(super) added: AddedTokens<'a>,
    first_children: &'a [u32],
    ids: &'a [u32],
    merges: &'a [[u16; 2]],
    by_pair: &'a [u16],
    pair_starts: &'a [u16],
    node_tokens: &'a [u16],
    lengths: &'a [u8],
    labels: &'a [u8],
    start_id: u32,
    end_id: u32,
    size: u32,
    pub(super) keeps_special: bool,
}

/// Why a vocabulary table was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabularyError {
    /// The bytes do not start at a multiple of four.
    Misaligned,
    /// The bytes end before the table does, or go on behind it.
    Length {
        /// What the header asks for; `None` if that does not fit the machine's address space.
        expected: Option<usize>,
        /// What was given.
        found: usize,
    },
    /// The first bytes are not those of a vocabulary table.
    Magic,
    /// A version of the table that this build cannot read.
    Version {
        /// The table's.
        found: u32,
    },
    /// Bytes that must be zero are not: in the header, in an added token or behind the last section.
    Reserved,
    /// More merges, fewer nodes or more added tokens than a table can have, or a flag that is neither 0 nor 1.
    Count,
    /// An id that is not below the table's size: the start or end token's, an added token's or a mapped one.
    Id {
        /// The id.
        id: u32,
    },
    /// An added token whose text is empty, too long, not UTF-8 or not in ascending order.
    Added {
        /// Its index.
        index: usize,
    },
    /// A merge whose parts are not all made by earlier merges.
    Merge {
        /// Its rank.
        rank: usize,
    },
    /// A token whose length is not that of its parts together, or above the limit.
    TokenLength {
        /// The token's index.
        token: usize,
    },
    /// The index of merges by pair is out of order or does not fit the merges.
    PairIndex {
        /// The position in the index.
        position: usize,
    },
    /// A trie node whose children do not follow those of the node before, or out of order among its siblings.
    Node {
        /// The node's index.
        node: usize,
    },
    /// A trie node whose token does not exist or has another length than the path to the node.
    NodeToken {
        /// The node's index.
        node: usize,
    },
}

impl fmt::Display for VocabularyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Misaligned => write!(f, "the vocabulary table does not start at a multiple of 4 bytes"),
            Self::Length { expected: Some(expected), found } => {
                write!(f, "the vocabulary table has {found} bytes where its header asks for {expected}")
            }
            Self::Length { expected: None, found } => {
                write!(
                    f,
                    "the vocabulary table has {found} bytes where its header asks for more than fit in memory"
                )
            }
            Self::Magic => write!(f, "these bytes are not a vocabulary table"),
            Self::Version { found } => {
                write!(f, "the vocabulary table has version {found}, this program reads version {VERSION}")
            }
            Self::Reserved => write!(f, "the vocabulary table has data where this version has zeros"),
            Self::Count => write!(f, "the vocabulary table's header has counts that no table can have"),
            Self::Id { id } => write!(f, "the vocabulary table has the id {id}, which is not below its size"),
            Self::Added { index } => {
                write!(f, "the vocabulary table's added token {index} has an invalid text")
            }
            Self::Merge { rank } => {
                write!(f, "the vocabulary table's merge {rank} joins tokens that no earlier merge makes")
            }
            Self::TokenLength { token } => {
                write!(f, "the vocabulary table's token {token} has a wrong length")
            }
            Self::PairIndex { position } => {
                write!(f, "the vocabulary table's index of merges is wrong at position {position}")
            }
            Self::Node { node } => write!(f, "the vocabulary table's trie is out of order at node {node}"),
            Self::NodeToken { node } => {
                write!(f, "the vocabulary table's trie has a wrong token at node {node}")
            }
        }
    }
}

impl core::error::Error for VocabularyError {}

impl<'a> Vocabulary<'a> {
    /// Checks a table and returns the view over it. Takes time linear in the table, allocates and copies nothing.
    ///
    /// # Errors
    /// One for each way in which the bytes are not a table as `docs/vocabulary-table.md` describes it.
    pub fn load(bytes: &'a [u8]) -> Result<Vocabulary<'a>, VocabularyError> {
        let too_short = VocabularyError::Length { expected: Some(HEADER), found: bytes.len() };
        let header = bytes.get(..HEADER).ok_or(too_short)?;
        if !header.starts_with(&MAGIC) {
            return Err(VocabularyError::Magic);
        }
        let word = |at: usize| match header.get(at..at + 4) {
            Some(&[a, b, c, d]) => Ok(u32::from_le_bytes([a, b, c, d])),
            _ => Err(too_short),
        };
        let count = |at: usize| word(at).map(|value| value as usize);
        let version = word(field::VERSION)?;
        if version != VERSION {
            return Err(VocabularyError::Version { found: version });
        }
        let (merges, nodes, added) = (count(field::MERGES)?, count(field::NODES)?, count(field::ADDED)?);
        let (mapped, keeps_special) = (word(field::MAPPED)?, word(field::KEEPS_SPECIAL)?);
        if merges > MAX_MERGES || nodes < BASE_TOKENS || added > MAX_ADDED || mapped > 1 || keeps_special > 1
        {
            return Err(VocabularyError::Count);
        }
        let layout = Layout::new(merges, nodes, added, mapped == 1);
        let expected = layout.as_ref().map(Layout::len);
        let wrong_length = VocabularyError::Length { expected, found: bytes.len() };
        let layout = layout.filter(|layout| layout.len() == bytes.len()).ok_or(wrong_length)?;
        let section = |range: &Range<usize>| bytes.get(range.clone()).ok_or(wrong_length);
        let zero = |range: Range<usize>| Ok(section(&range)?.iter().all(|&byte| byte == 0));
        if !zero(field::RESERVED..HEADER)? || !zero(layout.padding.clone())? {
            return Err(VocabularyError::Reserved);
        }
        let vocabulary = Vocabulary {
            added: AddedTokens::new(section(&layout.added)?),
            first_children: cast(section(&layout.first_children)?)?,
            ids: cast(section(&layout.ids)?)?,
            merges: cast(section(&layout.merges)?)?,
            by_pair: cast(section(&layout.by_pair)?)?,
            pair_starts: cast(section(&layout.pair_starts)?)?,
            node_tokens: cast(section(&layout.node_tokens)?)?,
            lengths: section(&layout.lengths)?,
            labels: section(&layout.labels)?,
            start_id: word(field::START)?,
            end_id: word(field::END)?,
            size: word(field::SIZE)?,
            keeps_special: keeps_special == 1,
        };
        vocabulary.check_ids()?;
        vocabulary.check_added()?;
        vocabulary.check_merges()?;
        vocabulary.check_pair_index()?;
        vocabulary.check_trie()?;
        Ok(vocabulary)
    }

    fn check_ids(&self) -> Result<(), VocabularyError> {
        let tokens = self.lengths.len() as u32;
        let unmapped_top = if self.ids.is_empty() { Some(tokens - 1) } else { None };
        let special = [self.start_id, self.end_id];
        let added = self.added.iter().map(|token| token.id.saturating_add(u32::from(token.more)));
        match self
            .ids
            .iter()
            .copied()
            .chain(special)
            .chain(added)
            .chain(unmapped_top)
            .find(|&id| id >= self.size)
        {
            Some(id) => Err(VocabularyError::Id { id }),
            None => Ok(()),
        }
    }

    fn check_added(&self) -> Result<(), VocabularyError> {
        let mut previous: &[u8] = &[];
        for (index, token) in self.added.iter().enumerate() {
            let wrong = VocabularyError::Added { index };
            let (text, rest) = token.room.split_at_checked(token.length).ok_or(wrong)?;
            if text <= previous || core::str::from_utf8(text).is_err() {
                return Err(wrong);
            }
            if token.flags & !(added_flag::NORMALIZED | added_flag::WHOLE_WORD) != 0
                || token.reserved != 0
                || rest.iter().any(|&byte| byte != 0)
            {
                return Err(VocabularyError::Reserved);
            }
            previous = text;
        }
        Ok(())
    }

    /// Merges refer to lower ranks only, so undoing them ends; lengths are bounded, so it ends soon.
    fn check_merges(&self) -> Result<(), VocabularyError> {
        let (base, merged) = self.lengths.split_at_checked(BASE_TOKENS).unwrap_or((self.lengths, &[]));
        if let Some(token) = base.iter().position(|&length| length != 1) {
            return Err(VocabularyError::TokenLength { token });
        }
        for (rank, (&[left, right], &length)) in self.merges.iter().zip(merged).enumerate() {
            let token = BASE_TOKENS + rank;
            let [left, right] = [usize::from(left), usize::from(right)];
            if left >= token || right >= token {
                return Err(VocabularyError::Merge { rank });
            }
            // Both stand before this one.
            let [left, right] =
                [left, right].map(|part| self.lengths.get(part).copied().map_or(0, usize::from));
            let sum = left + right;
            if sum != usize::from(length) || sum > MAX_TOKEN {
                return Err(VocabularyError::TokenLength { token });
            }
        }
        Ok(())
    }

    /// Strictly rising pairs, as many as there are merges: every merge stands in the index exactly once.
    fn check_pair_index(&self) -> Result<(), VocabularyError> {
        let mut position = 0;
        let ends = self.pair_starts.iter().skip(1);
        for (left, (&start, &end)) in self.pair_starts.iter().zip(ends).enumerate() {
            let mut previous = None;
            if usize::from(start) != position {
                return Err(VocabularyError::PairIndex { position });
            }
            while position < usize::from(end) {
                let wrong = VocabularyError::PairIndex { position };
                let rank = *self.by_pair.get(position).ok_or(wrong)?;
                let &[found, right] = self.merges.get(usize::from(rank)).ok_or(wrong)?;
                if usize::from(found) != left || previous.is_some_and(|previous| right <= previous) {
                    return Err(wrong);
                }
                previous = Some(right);
                position += 1;
            }
        }
        if position == self.by_pair.len() { Ok(()) } else { Err(VocabularyError::PairIndex { position }) }
    }

    /// Nodes stand level by level, children behind their parents in the same order: walking down always progresses.
    fn check_trie(&self) -> Result<(), VocabularyError> {
        let nodes = self.labels.len();
        let first_child =
            |node: usize| self.first_children.get(node).map_or(usize::MAX, |&child| child as usize);
        if first_child(0) != BASE_TOKENS {
            return Err(VocabularyError::Node { node: 0 });
        }
        let mut base = [false; BASE_TOKENS];
        for (node, &token) in self.node_tokens.iter().take(BASE_TOKENS).enumerate() {
            match base.get_mut(usize::from(token)) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(VocabularyError::NodeToken { node }),
            }
            if self.labels.get(node).copied().map(usize::from) != Some(node % 256) {
                return Err(VocabularyError::Node { node });
            }
        }
        let mut level = 0..BASE_TOKENS;
        for depth in 1..=MAX_TOKEN {
            for node in level.clone() {
                let token = self.node_tokens.get(node).copied().unwrap_or(NO_TOKEN);
                let fits =
                    self.lengths.get(usize::from(token)).is_some_and(|&length| usize::from(length) == depth);
                if token != NO_TOKEN && !fits {
                    return Err(VocabularyError::NodeToken { node });
                }
                let rising = self
                    .labels
                    .get(first_child(node)..first_child(node + 1))
                    .is_some_and(|labels| labels.is_sorted_by(|a, b| a < b));
                if !rising {
                    return Err(VocabularyError::Node { node });
                }
            }
            let next = level.end..first_child(level.end);
            level = next;
            if level.is_empty() {
                return if level.end == nodes {
                    Ok(())
                } else {
                    Err(VocabularyError::Node { node: level.end })
                };
            }
        }
        Err(VocabularyError::Node { node: level.start })
    }

    /// Id of the token before every text.
    pub fn start_id(&self) -> u32 {
        self.start_id
    }

    /// Id of the token behind every text.
    pub fn end_id(&self) -> u32 {
        self.end_id
    }

    /// Every id is below this: the rows that the model's token embedding must have.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The id of the token with this index.
    pub(super) fn id(&self, token: u16) -> u32 {
        self.ids.get(usize::from(token)).copied().unwrap_or(u32::from(token))
    }

    /// The length of a token in bytes, at least 1.
    pub(super) fn length(&self, token: u16) -> usize {
        self.lengths.get(usize::from(token)).copied().map_or(1, usize::from)
    }

    /// The tokens that were merged into this one; `None` for the token of a single byte.
    pub(super) fn parts(&self, token: u16) -> Option<[u16; 2]> {
        self.merges.get(usize::from(token).checked_sub(BASE_TOKENS)?).copied()
    }

    /// The token that a pair merges into.
    pub(super) fn merged(&self, left: u16, right: u16) -> Option<u16> {
        let left = usize::from(left);
        let (start, end) = (*self.pair_starts.get(left)?, *self.pair_starts.get(left + 1)?);
        let ranks = self.by_pair.get(usize::from(start)..usize::from(end))?;
        let found = ranks.binary_search_by(|&rank| {
            self.merges.get(usize::from(rank)).map_or(Ordering::Less, |merge| merge[1].cmp(&right))
        });
        Some(ranks.get(found.ok()?)? + BASE_TOKENS as u16)
    }

    /// The trie's node for the last byte of a token, inside a word or at its end.
    pub(super) fn last_byte(byte: u8, ends_word: bool) -> usize {
        usize::from(byte) + if ends_word { 256 } else { 0 }
    }

    /// The node one byte further to the left.
    pub(super) fn preceded_by(&self, node: usize, byte: u8) -> Option<usize> {
        let first = *self.first_children.get(node)? as usize;
        let end = *self.first_children.get(node + 1)? as usize;
        Some(first + self.labels.get(first..end)?.binary_search(&byte).ok()?)
    }

    /// The token whose bytes lead to this node.
    pub(super) fn token_at(&self, node: usize) -> Option<u16> {
        self.node_tokens.get(node).copied().filter(|&token| token != NO_TOKEN)
    }
}

impl fmt::Debug for Vocabulary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("size", &self.size)
            .field("merges", &self.merges.len())
            .field("nodes", &self.labels.len())
            .field("start_id", &self.start_id)
            .field("end_id", &self.end_id)
            .finish_non_exhaustive()
    }
}

/// Sections have whole numbers of elements and stand at multiples of their size within the table, so only the
/// table's own place in memory can be wrong.
fn cast<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Result<&[T], VocabularyError> {
    bytemuck::try_cast_slice(bytes).map_err(|_| VocabularyError::Misaligned)
}

/// Tokens found in the text as they stand: start and end, a padding token, and later words added to a model.
#[derive(Clone, Copy)]
pub(super) struct AddedTokens<'a> {
    records: &'a [u8],
    /// First bytes of the tokens looked for in raw text and in normalized text, one bit per byte.
    first_bytes: [[u32; 8]; 2],
}

/// The fields of one record.
struct Added<'a> {
    id: u32,
    length: usize,
    flags: u8,
    more: u8,
    reserved: u8,
    room: &'a [u8],
}

impl Added<'_> {
    fn is_normalized(&self) -> bool {
        self.flags & added_flag::NORMALIZED != 0
    }
}

/// Where a text may begin or end, as seen from a token that wants to be a word of its own.
#[derive(Clone, Copy)]
pub(super) struct Neighbours {
    /// Whether the character before is of a word.
    pub(super) word_before: bool,
    /// Whether the character behind is of a word.
    pub(super) word_behind: bool,
}

/// Whether a character belongs to words: `\w` of regular expressions, but for marks.
pub(crate) fn is_word(c: char) -> bool {
    c == '_' || matches!(record(c).category, Category::Letter | Category::Number)
}

impl<'a> AddedTokens<'a> {
    fn new(records: &'a [u8]) -> Self {
        let mut tokens = AddedTokens { records, first_bytes: [[0; 8]; 2] };
        for token in tokens.iter() {
            if let Some(&first) = token.room.first() {
                let set = &mut tokens.first_bytes[usize::from(token.is_normalized())];
                set[usize::from(first) / 32] |= 1 << (first % 32);
            }
        }
        tokens
    }

    fn iter(&self) -> impl Iterator<Item = Added<'a>> + use<'a> {
        self.records.chunks_exact(ADDED_RECORD).map(|record| {
            let (fields, room) = record.split_at(ADDED_TEXT);
            debug_assert_eq!(room.len(), MAX_ADDED_TEXT);
            let id = u32::from_le_bytes([fields[0], fields[1], fields[2], fields[3]]);
            let (flags, more, reserved) = (fields[ADDED_FLAGS], fields[ADDED_MORE], fields[7]);
            Added { id, length: usize::from(fields[4]), flags, more, reserved, room }
        })
    }

    /// Whether a token looked for in raw (or normalized) text starts with this byte.
    pub(super) fn starts_with(&self, byte: u8, normalized: bool) -> bool {
        self.first_bytes[usize::from(normalized)][usize::from(byte) / 32] >> (byte % 32) & 1 == 1
    }

    /// The longest token for whose text `begins` tells neighbours, which it does where the text comes next.
    pub(super) fn find(
        &self,
        normalized: bool,
        mut begins: impl FnMut(&str) -> Option<Neighbours>,
    ) -> Option<AddedToken<'a>> {
        let looked_for = self.iter().filter(|added| added.is_normalized() == normalized);
        let texts = looked_for.filter_map(|added| {
            let text = core::str::from_utf8(added.room.get(..added.length)?).ok()?;
            let Neighbours { word_before, word_behind } = begins(text)?;
            let joined = text.starts_with(is_word) && word_before || text.ends_with(is_word) && word_behind;
            let alone = added.flags & added_flag::WHOLE_WORD == 0 || !joined;
            let ids = AddedIds { first: added.id, count: u32::from(added.more) + 1 };
            alone.then_some(AddedToken { ids, text })
        });
        texts.max_by_key(|token| token.text.len())
    }
}

/// An added token that was found.
pub(super) struct AddedToken<'a> {
    pub(super) ids: AddedIds,
    pub(super) text: &'a str,
}

/// The ids that an added token stands for, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddedIds {
    pub(super) first: u32,
    pub(super) count: u32,
}
