//! How the arena is cut for a pass over several sequences.

/// How a plan's layout of the arena, made for one sequence, grows with what a pass has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Tokens of the context.
    pub(super) context: u16,
    /// Bytes of a context's ids, in front of the places.
    pub(super) ids: u32,
    /// Bytes at the front of the layout whose places have a row for each token, or are working memory.
    pub(super) tokens: u32,
    /// Bytes behind them, whose places have a row for each sequence.
    pub(super) sequence: u32,
    /// Whether the places of sequences are all behind those of tokens. Where they are not, all grow with the sequences.
    pub(super) apart: bool,
}

/// What a pass needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Contexts of rows, at least one.
    pub(crate) contexts: usize,
    /// Sequences.
    pub(crate) sequences: usize,
}

impl Cut {
    /// The room that `sequences` of `rows` rows together need.
    pub(crate) fn room(self, sequences: usize, rows: usize) -> Room {
        let contexts = rows.div_ceil(usize::from(self.context).max(1)).max(1);
        Room { contexts: if self.apart { contexts } else { contexts.max(sequences) }, sequences }
    }

    /// Bytes of all ids: they stand at the front of the arena, before the places.
    pub(crate) fn id_bytes(self, room: Room) -> usize {
        room.contexts.saturating_mul(self.ids as usize)
    }

    /// Bytes of arena, those of the ids included; the largest number where there is none that large.
    pub(crate) fn bytes(self, room: Room) -> usize {
        let tokens = room.contexts.saturating_mul(self.tokens as usize);
        let sequences = room.sequences.saturating_mul(self.sequence as usize);
        self.id_bytes(room).saturating_add(tokens).saturating_add(sequences)
    }

    /// Where a place at `offset` of the layout begins, in bytes behind the ids; the arena has the bytes.
    pub(crate) fn start(self, offset: u32, room: Room) -> usize {
        match offset.checked_sub(self.tokens) {
            None => offset as usize * room.contexts,
            Some(behind) => self.tokens as usize * room.contexts + behind as usize * room.sequences,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Cut = Cut { context: 77, ids: 320, tokens: 6400, sequence: 128, apart: true };

    #[test]
    fn rows_take_contexts_and_sequences_take_their_own() {
        let room = |sequences, rows| CUT.room(sequences, rows);
        assert_eq!(room(1, 5), Room { contexts: 1, sequences: 1 });
        assert_eq!(room(10, 77), Room { contexts: 1, sequences: 10 });
        assert_eq!(room(2, 78), Room { contexts: 2, sequences: 2 });
        assert_eq!(CUT.bytes(room(1, 77)), 320 + 6400 + 128);
        assert_eq!(CUT.bytes(room(10, 77)), 320 + 6400 + 10 * 128);
        assert_eq!(CUT.bytes(room(2, 154)), 2 * CUT.bytes(room(1, 77)));
        assert_eq!(CUT.start(64, room(3, 200)), 3 * 64);
        assert_eq!(CUT.start(6400 + 64, room(5, 200)), 3 * 6400 + 5 * 64);
        let mixed = Cut { tokens: 6528, sequence: 0, apart: false, ..CUT };
        assert_eq!(mixed.room(10, 77), Room { contexts: 10, sequences: 10 });
        assert_eq!(CUT.bytes(Room { contexts: usize::MAX / 2, sequences: 1 }), usize::MAX);
    }
}
