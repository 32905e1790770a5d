//! The sequences of a pass: what is known of each, while their ids stand at the front of the arena.

use super::arena::{values, values_mut};
use super::input::Sequence;
use crate::kernels::dispatch::Sequences;
use crate::plan::MAX_SEQUENCES;
use crate::tokenizer::Padding;

/// A sequence of a pass. Its ids have a place for each row that is wanted: first those of its own, before any padding, since
/// each text tower has its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Member {
    /// The place of its first id.
    first: u16,
    /// Places of its ids.
    places: u16,
    /// How many ids of its own it has.
    len: u16,
    /// The index of its first end token: the row that is pooled.
    end: u16,
    /// Rows that are computed, padding included.
    computed: u16,
    /// Rows at the front that are wanted.
    wanted: u16,
    truncated: bool,
}

impl Member {
    /// Of a sequence whose ids stand from place `first` on.
    fn new(sequence: &Sequence, first: usize) -> Self {
        let tokens = &sequence.tokens;
        // All are numbers of tokens of up to 16 contexts of 256.
        Self {
            first: first as u16,
            places: sequence.wanted.max(tokens.len()) as u16,
            len: tokens.len() as u16,
            end: tokens.end_position() as u16,
            computed: sequence.computed as u16,
            wanted: sequence.wanted as u16,
            truncated: tokens.is_truncated(),
        }
    }

    /// Of an image of so many rows, the first of which, the class token's, is pooled. It has no ids.
    fn of_image(rows: usize) -> Self {
        // No more than attention takes.
        let rows = rows as u16;
        Self { computed: rows, wanted: rows, ..Self::default() }
    }

    /// The ids in its places, of all that stand in the arena, or those of its own alone.
    fn ids<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        let first = usize::from(self.first);
        ids.get(first..ids.len().min(first + usize::from(self.places))).unwrap_or(&[])
    }

    /// The id of each row that is computed, as a text tower with `padding` takes it.
    pub(super) fn padded(
        &self,
        ids: &[u32],
        padding: Padding,
        end_id: u32,
    ) -> impl Iterator<Item = u32> + Clone {
        let (from, with) = padding.replaces(self.len.into(), self.end.into(), end_id);
        let ids = self.ids(ids);
        (0..usize::from(self.computed))
            .map(move |row| if row < from { ids.get(row).copied().unwrap_or(with) } else { with })
    }

    /// How many rows at the front are those of `sequence` too, for text towers with these paddings, the first of them that of
    /// the plan's tokenizer: it has filled the places of `ids` behind those that it leaves.
    pub(super) fn common_rows(
        &self,
        ids: &[u32],
        sequence: &Sequence,
        mut paddings: impl Iterator<Item = Padding>,
        filled: Padding,
        end_id: u32,
    ) -> usize {
        let other = Self::new(sequence, 0);
        let own = sequence.tokens.unpadded();
        let (from, _) = filled.replaces(self.len.into(), self.end.into(), end_id);
        // What the padding has replaced of the text's own ids is not known any more.
        let known = if from < usize::from(self.len) { from } else { usize::MAX };
        let common = |padding| {
            let both = self.padded(ids, padding, end_id).zip(other.padded(own, padding, end_id));
            both.take(known).take_while(|(one, other)| one == other).count()
        };
        let Some(first) = paddings.next() else { return 0 };
        paddings.map(common).fold(common(first), usize::min)
    }

    /// Bytes at the front of the arena up to its last id.
    pub(super) fn id_bytes(&self) -> usize {
        4 * usize::from(self.first + self.places)
    }

    /// The first id.
    pub(super) fn first_id(&self, ids: &[u32]) -> Option<u32> {
        self.ids(ids).first().copied()
    }

    /// The index of the row that is pooled.
    pub(super) fn end(&self) -> usize {
        self.end.into()
    }

    /// Rows at the front that are wanted.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.into()
    }

    /// Whether the text had more tokens than the context.
    pub(super) fn is_truncated(&self) -> bool {
        self.truncated
    }
}

/// The sequences of a pass.
pub(super) struct Batch {
    members: heapless::Vec<Member, MAX_SEQUENCES>,
    /// How many rows of each are computed.
    computed: heapless::Vec<usize, MAX_SEQUENCES>,
    /// Places of all ids.
    places: usize,
    /// Rows at the front that stand in the arena since the pass before.
    pub(super) kept: usize,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self { members: heapless::Vec::new(), computed: heapless::Vec::new(), places: 0, kept: 0 }
    }

    /// Adds a sequence, of which there are fewer than [`MAX_SEQUENCES`]; its ids go to the front of `arena`, if there is room:
    /// where there is not, there is none for the pass.
    pub(super) fn push(&mut self, sequence: &Sequence, arena: &mut [u8]) {
        let member = Member::new(sequence, self.places);
        let own = sequence.tokens.unpadded();
        self.places += usize::from(member.places);
        if let Some(bytes) = arena.get_mut(..4 * self.places)
            && let Some(place) = values_mut::<u32>(bytes).get_mut(member.first.into()..)
            && let Some(place) = place.get_mut(..own.len())
        {
            place.copy_from_slice(own);
        }
        let _ = self.members.push(member);
        let _ = self.computed.push(sequence.computed);
    }

    /// Adds an image of so many rows, of which there are fewer than [`MAX_SEQUENCES`].
    pub(super) fn push_image(&mut self, rows: usize) {
        let _ = self.members.push(Member::of_image(rows));
        let _ = self.computed.push(rows);
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The rows that are computed.
    pub(super) fn rows(&self) -> Sequences<'_> {
        Sequences(&self.computed)
    }

    /// Fills the places behind each sequence's own ids, as a tokenizer with `padding` does.
    pub(super) fn pad(&self, ids: &mut [u32], padding: Padding, end_id: u32) {
        for member in &self.members {
            let (from, with) = padding.replaces(member.len.into(), member.end.into(), end_id);
            let first = usize::from(member.first);
            if let Some(rest) = ids.get_mut(first + from..first + usize::from(member.wanted)) {
                rest.fill(with);
            }
        }
    }

    /// The ids of the rows that are wanted of sequence `index`, out of the front of the arena.
    pub(super) fn wanted_ids<'i>(&self, index: usize, arena: &'i [u8]) -> &'i [u32] {
        let Some(member) = self.members.get(index) else { return &[] };
        let ids = values(arena.get(..4 * self.places).unwrap_or(&[]));
        member.ids(ids).get(..member.wanted()).unwrap_or(&[])
    }
}
