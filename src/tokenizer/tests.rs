//! Tests of tables, true and lying, and of contexts; and what the other unit tests share.

extern crate std;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::table::{
    ADDED_FLAGS, ADDED_MORE, ADDED_RECORD, ADDED_TEXT, BASE_TOKENS, HEADER, Layout, MAX_ADDED, MAX_MERGES,
    NO_TOKEN, added_flag, field,
};
use super::{MAX_CONTEXT, Padding, Tokenizer, TokenizerError, Vocabulary, VocabularyError};

/// A small generator of random numbers (xorshift), the same on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// The standard vocabulary's table.
#[repr(align(64))]
struct Aligned<T: ?Sized>(T);
static TABLE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/clip.vocab"));

pub(super) fn table() -> &'static [u8] {
    &TABLE.0
}

/// The standard table with some bytes overwritten.
struct Changed(Vec<u64>);

impl Changed {
    fn new() -> Self {
        let mut copy = vec![0; table().len() / 8];
        bytemuck::cast_slice_mut(&mut copy).copy_from_slice(table());
        Changed(copy)
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        bytemuck::cast_slice_mut::<u64, u8>(&mut self.0)[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn word(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn half(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    #[track_caller]
    fn refused_as(self, expected: VocabularyError) {
        assert_eq!(Vocabulary::load(self.bytes()).map(|_| ()), Err(expected));
    }
}

fn word_at(at: usize) -> u32 {
    u32::from_le_bytes(table()[at..at + 4].try_into().expect("four bytes"))
}

fn half_at(at: usize) -> u16 {
    u16::from_le_bytes(table()[at..at + 2].try_into().expect("two bytes"))
}

fn merges() -> usize {
    word_at(field::MERGES) as usize
}

fn nodes() -> usize {
    word_at(field::NODES) as usize
}

fn layout() -> Layout {
    Layout::new(merges(), nodes(), 2, false).expect("a table of 1 MB")
}

fn standard() -> Vocabulary<'static> {
    Vocabulary::load(table()).expect("the checked-in table is valid")
}

#[test]
fn the_standard_table_loads() {
    let vocabulary = standard();
    assert_eq!((vocabulary.start_id(), vocabulary.end_id(), vocabulary.size()), (49_406, 49_407, 49_408));
    assert!(table().len() < 1_200_000, "the table grew to {} bytes", table().len());
}

#[test]
fn a_table_of_another_length_is_refused() {
    let whole = table().len();
    for length in [0, 1, HEADER - 1] {
        let error = VocabularyError::Length { expected: Some(HEADER), found: length };
        assert_eq!(Vocabulary::load(&table()[..length]).map(|_| ()), Err(error));
    }
    for length in [HEADER, whole / 2, whole - 1] {
        let error = VocabularyError::Length { expected: Some(whole), found: length };
        assert_eq!(Vocabulary::load(&table()[..length]).map(|_| ()), Err(error));
    }
    let mut longer = Changed::new();
    longer.0.push(0);
    longer.refused_as(VocabularyError::Length { expected: Some(whole), found: whole + 8 });
    let expected = Layout::new(merges(), u32::MAX as usize, 2, false).map(|layout| layout.len());
    Changed::new()
        .word(field::NODES, u32::MAX)
        .refused_as(VocabularyError::Length { expected, found: whole });
}

#[test]
fn a_table_at_an_odd_address_is_refused() {
    let mut room = Changed::new();
    room.0.push(0);
    let bytes = bytemuck::cast_slice_mut::<u64, u8>(&mut room.0);
    bytes.copy_within(..table().len(), 2);
    let shifted = &bytes[2..][..table().len()];
    assert_eq!(Vocabulary::load(shifted).map(|_| ()), Err(VocabularyError::Misaligned));
}

#[test]
fn a_lying_header_is_refused() {
    Changed::new().put(0, b"X").refused_as(VocabularyError::Magic);
    Changed::new().word(field::VERSION, 2).refused_as(VocabularyError::Version { found: 2 });
    Changed::new().word(field::MERGES, MAX_MERGES as u32 + 1).refused_as(VocabularyError::Count);
    Changed::new().word(field::MERGES, u32::MAX).refused_as(VocabularyError::Count);
    Changed::new().word(field::NODES, BASE_TOKENS as u32 - 1).refused_as(VocabularyError::Count);
    Changed::new().word(field::ADDED, MAX_ADDED as u32 + 1).refused_as(VocabularyError::Count);
    Changed::new().word(field::MAPPED, 2).refused_as(VocabularyError::Count);
    Changed::new().word(field::KEEPS_SPECIAL, 2).refused_as(VocabularyError::Count);
    for at in field::RESERVED..HEADER {
        Changed::new().put(at, &[1]).refused_as(VocabularyError::Reserved);
    }
    for at in layout().padding {
        Changed::new().put(at, &[1]).refused_as(VocabularyError::Reserved);
    }
}

#[test]
fn ids_beyond_the_size_are_refused() {
    let beyond = VocabularyError::Id { id: 49_408 };
    Changed::new().word(field::START, 49_408).refused_as(beyond);
    Changed::new().word(field::END, 49_408).refused_as(beyond);
    Changed::new().word(field::SIZE, 49_407).refused_as(VocabularyError::Id { id: 49_407 });
    Changed::new().word(field::SIZE, 0).refused_as(VocabularyError::Id { id: 49_406 });
    Changed::new().word(layout().added.start, 49_408).refused_as(beyond);
}

/// A table that maps ids: the same sections, with one more after the trie's first children.
fn mapped(change: impl Fn(u32) -> u32) -> Changed {
    let tokens = (BASE_TOKENS + merges()) as u32;
    let to = Layout::new(merges(), nodes(), 2, true).expect("a table of 1 MB");
    let mut bytes = table()[..layout().first_children.end].to_vec();
    bytes[field::MAPPED] = 1;
    bytes.extend((0..tokens).flat_map(|id| change(id).to_le_bytes()));
    bytes.extend_from_slice(&table()[layout().merges.start..layout().padding.start]);
    bytes.resize(to.len(), 0);
    let mut changed = Changed(vec![0; bytes.len() / 8]);
    bytemuck::cast_slice_mut(&mut changed.0).copy_from_slice(&bytes);
    changed
}

#[test]
fn mapped_ids_are_used_and_checked() {
    let reversed = mapped(|id| 49_405 - id);
    let vocabulary = Vocabulary::load(reversed.bytes()).expect("every id is below the size");
    let ids = Tokenizer::new(vocabulary, 77, Padding::End).expect("77 is fine").encode("a running dog");
    assert_eq!(ids.unpadded(), [49_406, 49_405 - 320, 49_405 - 2761, 49_405 - 1929, 49_407]);
    mapped(|id| if id == 1000 { 49_408 } else { id }).refused_as(VocabularyError::Id { id: 49_408 });
}

/// The standard table with a word behind its two added tokens, for the `count` ids from 49408 on.
fn with_word(text: &str, flags: u8, count: u8) -> Changed {
    let to = Layout::new(merges(), nodes(), 3, false).expect("a table of 1 MB");
    let mut record = [0; ADDED_RECORD];
    record[..4].copy_from_slice(&49_408u32.to_le_bytes());
    record[4] = text.len() as u8;
    record[ADDED_FLAGS] = flags;
    record[ADDED_MORE] = count - 1;
    record[ADDED_TEXT..][..text.len()].copy_from_slice(text.as_bytes());
    let (head, tail) = table()[..layout().padding.start].split_at(layout().added.end);
    let mut bytes = [head, &record, tail].concat();
    bytes.resize(to.len(), 0);
    let mut changed = Changed(vec![0; bytes.len() / 8]);
    bytemuck::cast_slice_mut(&mut changed.0).copy_from_slice(&bytes);
    changed.word(field::ADDED, 3).word(field::SIZE, 49_408 + u32::from(count))
}

#[test]
fn a_word_stands_for_several_ids() {
    let table = with_word("art", added_flag::NORMALIZED | added_flag::WHOLE_WORD, 3);
    let vocabulary = Vocabulary::load(table.bytes()).expect("a table with a word");
    let tokenizer = Tokenizer::new(vocabulary, 77, Padding::End).expect("77 is fine");
    let plain = Tokenizer::new(standard(), 77, Padding::End).expect("77 is fine");
    let word = [49_408, 49_409, 49_410];
    let alone = |ids: &[u32]| [&[49_406][..], ids, &[49_407]].concat();
    for text in ["art", "ART", "  Art\n", "art\u{3000}"] {
        assert_eq!(tokenizer.encode(text).unpadded(), alone(&word), "{text:?}");
    }
    assert_eq!(tokenizer.encode("art art").unpadded(), alone(&[word, word].concat()));
    assert_eq!(tokenizer.encode("-art-").unpadded(), alone(&[&[268][..], &word, &[268]].concat()));
    let tokens = tokenizer.encode("a running art");
    assert_eq!((tokens.len(), tokens.end_position()), (7, 6), "the end token is pooled, not the highest id");
    for text in
        ["party", "artist", "smart", "art2", "2art", "art_", "_art", "kart", "ärt", "ÄART", "artñ", "ar t"]
    {
        assert_eq!(tokenizer.encode(text).unpadded(), plain.encode(text).unpadded(), "{text:?}");
    }
    // In the middle of its ids the context ends.
    for context in [2, 3, 4, 5] {
        let tokenizer = Tokenizer::new(vocabulary, context, Padding::End).expect("supported");
        let tokens = tokenizer.encode("art");
        assert_eq!(tokens.unpadded()[1..context - 1], word[..context - 2]);
        assert_eq!((tokens.end_position(), tokens.is_truncated()), (context - 1, context < 5));
    }
}

#[test]
fn a_word_may_be_looked_for_as_it_is_written() {
    let table = with_word("Ärger", added_flag::WHOLE_WORD, 1);
    let vocabulary = Vocabulary::load(table.bytes()).expect("a table with a word");
    let tokenizer = Tokenizer::new(vocabulary, 77, Padding::End).expect("77 is fine");
    let holds = |text: &str| tokenizer.encode(text).unpadded().contains(&49_408);
    assert!(holds("Ärger") && holds("viel Ärger!") && holds("(Ärger)") && holds("Ärger<|endoftext|>"));
    assert!(!holds("ärger") && !holds("ÄRGER") && !holds("Ärgers") && !holds("xÄrger") && !holds("éÄrger"));
    // Without the flag a part of a word is enough; and a text that begins with no letter needs no boundary before it.
    let table = with_word("Ärger", 0, 1);
    let vocabulary = Vocabulary::load(table.bytes()).expect("a table with a word");
    let tokenizer = Tokenizer::new(vocabulary, 77, Padding::End).expect("77 is fine");
    assert!(tokenizer.encode("Ärgers").unpadded().contains(&49_408));
    let table = with_word("\u{2605}x", added_flag::WHOLE_WORD, 1);
    let vocabulary = Vocabulary::load(table.bytes()).expect("a table with a word");
    let tokenizer = Tokenizer::new(vocabulary, 77, Padding::End).expect("77 is fine");
    assert!(tokenizer.encode("a\u{2605}x").unpadded().contains(&49_408));
    assert!(!tokenizer.encode("a\u{2605}xy").unpadded().contains(&49_408));
}

#[test]
fn lying_words_are_refused() {
    let word = || with_word("art", added_flag::NORMALIZED | added_flag::WHOLE_WORD, 3);
    let at = layout().added.end;
    word().put(at + ADDED_MORE, &[3]).refused_as(VocabularyError::Id { id: 49_411 });
    word().put(at, &u32::MAX.to_le_bytes()).refused_as(VocabularyError::Id { id: u32::MAX });
    word().put(at + ADDED_FLAGS, &[7]).refused_as(VocabularyError::Reserved);
    word().put(at + ADDED_TEXT, b"!").refused_as(VocabularyError::Added { index: 2 });
}

#[test]
fn lying_added_tokens_are_refused() {
    let at = layout().added.start;
    Changed::new().put(at + 4, &[0]).refused_as(VocabularyError::Added { index: 0 });
    Changed::new().put(at + 4, &[57]).refused_as(VocabularyError::Added { index: 0 });
    Changed::new().put(at + ADDED_TEXT, &[0xFF]).refused_as(VocabularyError::Added { index: 0 });
    Changed::new().put(at + ADDED_TEXT, b"=").refused_as(VocabularyError::Added { index: 1 });
    Changed::new().put(at + 4, &[12]).refused_as(VocabularyError::Reserved);
    Changed::new().put(at + 5, &[4]).refused_as(VocabularyError::Reserved);
    Changed::new().put(at + 6, &[2]).refused_as(VocabularyError::Id { id: 49_409 });
    Changed::new().put(at + 7, &[1]).refused_as(VocabularyError::Reserved);
    Changed::new().put(at + 63, &[1]).refused_as(VocabularyError::Reserved);
}

#[test]
fn lying_merges_are_refused() {
    let at = layout().merges.start;
    let first = BASE_TOKENS as u16;
    for (offset, token) in [(0, first), (2, first), (0, NO_TOKEN)] {
        Changed::new().half(at + offset, token).refused_as(VocabularyError::Merge { rank: 0 });
    }
    let lengths = layout().lengths.start;
    Changed::new().put(lengths, &[2]).refused_as(VocabularyError::TokenLength { token: 0 });
    Changed::new()
        .put(lengths + BASE_TOKENS, &[3])
        .refused_as(VocabularyError::TokenLength { token: BASE_TOKENS });
    // The longest token, doubled by the last merge.
    let longest =
        table()[layout().lengths].iter().position(|&length| length == 32).expect("one has 32") as u16;
    let last = merges() - 1;
    Changed::new()
        .half(at + 4 * last, longest)
        .half(at + 4 * last + 2, longest)
        .put(lengths + BASE_TOKENS + last, &[64])
        .refused_as(VocabularyError::TokenLength { token: BASE_TOKENS + last });
}

#[test]
fn a_lying_pair_index_is_refused() {
    let (pairs, starts) = (layout().by_pair.start, layout().pair_starts.start);
    let second = half_at(pairs + 2);
    Changed::new().half(pairs, second).refused_as(VocabularyError::PairIndex { position: 1 });
    Changed::new().half(pairs, u16::MAX).refused_as(VocabularyError::PairIndex { position: 0 });
    Changed::new().half(starts, 1).refused_as(VocabularyError::PairIndex { position: 0 });
    let last = layout().pair_starts.end - 2;
    let end = half_at(last);
    Changed::new().half(last, end + 1).refused_as(VocabularyError::PairIndex { position: usize::from(end) });
    // Two merges of the same left token in the wrong order.
    let left = (0..).find(|token| half_at(starts + 2 * token + 2) - half_at(starts + 2 * token) > 1);
    let at = usize::from(half_at(starts + 2 * left.expect("most tokens start several merges")));
    let (a, b) = (half_at(pairs + 2 * at), half_at(pairs + 2 * at + 2));
    Changed::new()
        .half(pairs + 2 * at, b)
        .half(pairs + 2 * at + 2, a)
        .refused_as(VocabularyError::PairIndex { position: at + 1 });
}

#[test]
fn a_lying_trie_is_refused() {
    let (children, tokens, labels) =
        (layout().first_children.start, layout().node_tokens.start, layout().labels.start);
    let node = |node| VocabularyError::Node { node };
    let token = |node| VocabularyError::NodeToken { node };
    // Children that would stand before their parent, beyond the end, or not right behind the ones before.
    Changed::new().word(children, 0).refused_as(node(0));
    Changed::new().word(children + 4, u32::MAX).refused_as(node(0));
    Changed::new().word(children + 4 * 600, 599).refused_as(node(599));
    Changed::new().word(children + 4 * nodes(), nodes() as u32 - 1).refused_as(node(nodes() - 1));
    // Labels out of order.
    Changed::new().put(labels, &[1]).refused_as(node(0));
    let first = word_at(children + 4 * usize::from(b'e')) as usize;
    Changed::new().put(labels + first, &[255]).refused_as(node(usize::from(b'e')));
    // Tokens that do not exist, stand twice, are missing or have another length than their path.
    Changed::new().half(tokens, NO_TOKEN).refused_as(token(0));
    Changed::new().half(tokens, half_at(tokens + 2)).refused_as(token(1));
    Changed::new().half(tokens, BASE_TOKENS as u16).refused_as(token(0));
    Changed::new().half(tokens + 2 * 512, NO_TOKEN - 1).refused_as(token(512));
    Changed::new().half(tokens + 2 * 512, 7).refused_as(token(512));
}

#[test]
fn a_trie_that_goes_deeper_than_any_token_is_refused() {
    // No merges; the last byte of all leads to a path of 40 nodes.
    let deep = BASE_TOKENS + 40;
    let layout = Layout::new(0, deep, 0, false).expect("a small table");
    let mut bytes = vec![0; layout.len()];
    bytes[..HEADER].copy_from_slice(&table()[..HEADER]);
    for (at, value) in [(field::MERGES, 0), (field::NODES, deep as u32), (field::ADDED, 0)] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    for node in 0..=deep {
        let first = if node < BASE_TOKENS { BASE_TOKENS } else { (node + 1).min(deep) };
        bytes[layout.first_children.start + 4 * node..][..4].copy_from_slice(&(first as u32).to_le_bytes());
    }
    for node in 0..deep {
        let token = if node < BASE_TOKENS { node as u16 } else { NO_TOKEN };
        bytes[layout.node_tokens.start + 2 * node..][..2].copy_from_slice(&token.to_le_bytes());
        bytes[layout.labels.start + node] = if node < BASE_TOKENS { node as u8 } else { b'x' };
    }
    bytes[layout.lengths.clone()].fill(1);
    let mut changed = Changed(vec![0; bytes.len() / 8]);
    bytemuck::cast_slice_mut(&mut changed.0).copy_from_slice(&bytes);
    changed.refused_as(VocabularyError::Node { node: BASE_TOKENS + 31 });
}

/// Whatever passes `load` must neither panic nor hang.
#[test]
fn damaged_tables_are_refused_or_harmless() {
    let mut random = Random::new(3);
    let text = "A photo of <|endoftext|> a cät's 3 naïve 😂 houses!! antidisestablishmentarianism".repeat(3);
    let mut harmless = 0;
    for round in 0..1500 {
        let mut table = Changed::new();
        for _ in 0..1 + random.below(3) {
            let at = if round % 3 == 0 { random.below(200) } else { random.below(table.bytes().len()) };
            let mut near = table.bytes()[at];
            near = if random.below(2) == 0 { near ^ (1 << random.below(8)) } else { random.below(256) as u8 };
            table = table.put(at, &[near]);
        }
        if let Ok(vocabulary) = Vocabulary::load(table.bytes()) {
            harmless += 1;
            let tokenizer = Tokenizer::new(vocabulary, 77, Padding::End).expect("77 is fine");
            let tokens = tokenizer.encode(&text);
            assert!(tokens.ids().iter().all(|&id| id < vocabulary.size()));
        }
    }
    assert!(harmless > 20, "only {harmless} damaged tables passed: the test lost its point");
}

#[test]
fn errors_are_one_sentence_each() {
    let errors = [
        VocabularyError::Misaligned.to_string(),
        VocabularyError::Length { expected: Some(1), found: 2 }.to_string(),
        VocabularyError::Length { expected: None, found: 2 }.to_string(),
        VocabularyError::Version { found: 9 }.to_string(),
        TokenizerError::Context { context: 1 }.to_string(),
        TokenizerError::Padding { id: 70_000, size: 49_408 }.to_string(),
    ];
    for error in errors {
        assert!(!error.is_empty() && !error.ends_with('.') && !error.contains('\n'), "{error}");
    }
    assert_eq!(
        VocabularyError::Version { found: 9 }.to_string(),
        "the vocabulary table has version 9, this program reads version 1"
    );
}

#[test]
fn a_tokenizer_takes_only_what_it_can_do() {
    for context in [0, 1, MAX_CONTEXT + 1, usize::MAX] {
        let error = Tokenizer::new(standard(), context, Padding::End).map(|_| ());
        assert_eq!(error, Err(TokenizerError::Context { context }));
    }
    let error = Tokenizer::new(standard(), 77, Padding::Id(49_408)).map(|_| ());
    assert_eq!(error, Err(TokenizerError::Padding { id: 49_408, size: 49_408 }));
}

#[test]
fn contexts_cut_and_pad() {
    let text = "one two three four";
    let long = Tokenizer::new(standard(), 77, Padding::Id(0)).expect("77 is fine").encode(text);
    assert_eq!((long.len(), long.is_truncated(), long.end_position()), (6, false, 5));
    assert!(long.ids()[6..].iter().all(|&id| id == 0) && long.ids().len() == 77);
    for context in [2, 3, 5, 6, 78, MAX_CONTEXT] {
        let tokens = Tokenizer::new(standard(), context, Padding::End).expect("supported").encode(text);
        let kept = (context - 1).min(5);
        assert_eq!(tokens.ids().len(), context);
        assert_eq!(tokens.unpadded()[..kept], long.unpadded()[..kept]);
        assert!(tokens.ids()[kept..].iter().all(|&id| id == 49_407));
        assert_eq!(tokens.is_truncated(), context < 6);
        assert_eq!(tokens.end_position(), kept);
    }
}

#[test]
fn an_end_token_in_the_text_moves_the_pooled_row() {
    let tokenizer = Tokenizer::new(standard(), 77, Padding::End).expect("77 is fine");
    let tokens = tokenizer.encode("a<|endoftext|>b");
    assert_eq!(tokens.unpadded(), [49_406, 320, 49_407, 321, 49_407]);
    assert_eq!((tokens.end_position(), tokens.len()), (2, 5));
}

#[test]
fn a_text_that_fits_exactly_is_not_truncated() {
    let tokenizer = Tokenizer::new(standard(), 77, Padding::End).expect("77 is fine");
    for (words, behind, truncated) in
        [(75, "", false), (75, " \u{3000}\n ", false), (76, "", true), (75, "<|endoftext|>", true)]
    {
        let text = String::from_iter(std::iter::repeat_n("cat ", words)) + behind;
        let tokens = tokenizer.encode(&text);
        assert_eq!(
            (tokens.len(), tokens.is_truncated()),
            (77, truncated),
            "{words} words, {behind:?} behind"
        );
    }
}
