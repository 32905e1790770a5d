//! The memory of a stream.
//!
//! ```text
//! half 0    room for what is carried over from the half before, then blocks
//! half 1    the same
//! scratch   the arrays that were asked for last
//! ```
//! A half's bytes follow one another as in the file. Panels that its blocks have only the beginning of are copied in front of
//! the other half's blocks. While single rows are read, the blocks of both halves are a cache.

use core::ops::Range;

use super::error::BufferError;
use crate::copy::copy;
use crate::plan::format::{ALIGN, BLOCK};
use crate::plan::{EmbedPrecision, Op, Program};

/// Panels that a kernel's tile takes at the most.
pub(super) const GROUP: usize = crate::kernels::TILE_PANELS;

/// The most blocks in a half.
const MOST: usize = 32;

/// How a buffer is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Blocks in a half.
    blocks: usize,
    /// Bytes in front of them.
    carry: usize,
    /// Bytes behind the halves.
    scratch: usize,
}

impl Cut {
    /// For a plan, with so many blocks in a half.
    pub(super) fn of(program: &Program<'_>, blocks: usize) -> Result<Self, BufferError> {
        if !(1..=MOST).contains(&blocks) {
            return Err(BufferError::Blocks { given: blocks, most: MOST });
        }
        let (mut carry, mut scratch) = (0, 0);
        for step in program.steps() {
            let columns = step.out.columns as usize;
            let row = |bytes: usize| columns.saturating_mul(bytes).next_multiple_of(ALIGN);
            match step.op {
                Op::Embed(embed) => {
                    scratch = scratch.max(match embed.precision {
                        EmbedPrecision::Int8 => (row(1) + ALIGN + row(2)).max(2 * row(2)),
                        EmbedPrecision::F32 => 2 * row(4),
                    });
                }
                Op::Norm { .. } => (carry, scratch) = (carry.max(row(4)), scratch.max(2 * row(4))),
                Op::CachedRow { .. } => (carry, scratch) = (carry.max(row(4)), scratch.max(row(4))),
                Op::Linear { .. } => {
                    let panel = step.panels().map_or(0, |panels| panels.panel_bytes());
                    carry = carry.max(GROUP * panel);
                }
                _ => {}
            }
        }
        Ok(Self { blocks, carry, scratch })
    }

    /// Bytes of a half.
    fn half(self) -> usize {
        self.carry + self.blocks * BLOCK
    }

    /// Bytes of it all.
    pub(super) fn bytes(self) -> usize {
        2 * self.half() + self.scratch
    }
}

/// The memory, cut.
pub(super) struct Buffer<'a> {
    bytes: &'a mut [u8],
    cut: Cut,
    /// Which blocks the halves' places hold while they are a cache; `u64::MAX` for none.
    tags: [u64; 2 * MOST],
    /// The place that is overwritten next.
    oldest: usize,
}

impl<'a> Buffer<'a> {
    /// Of as many blocks as there is room for.
    pub(super) fn new(program: &Program<'_>, bytes: &'a mut [u8]) -> Result<Self, BufferError> {
        let least = Cut::of(program, 1)?;
        if bytes.len() < least.bytes() || !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
            let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGN);
            return Err(BufferError::Buffer { given: bytes.len(), needed: least.bytes(), aligned });
        }
        let blocks = 1 + (bytes.len() - least.bytes()) / (2 * BLOCK);
        let cut = Cut { blocks: blocks.min(MOST), ..least };
        Ok(Self { bytes, cut, tags: [u64::MAX; 2 * MOST], oldest: 0 })
    }

    /// Blocks in a half.
    pub(super) fn blocks(&self) -> usize {
        self.cut.blocks
    }

    /// Bytes in front of a half's blocks.
    pub(super) fn carry_bytes(&self) -> usize {
        self.cut.carry
    }

    /// All of a half.
    pub(super) fn half(&self, half: usize) -> &[u8] {
        let start = half * self.cut.half();
        self.bytes.get(start..start + self.cut.half()).unwrap_or(&[])
    }

    /// A part of the blocks of `half`, to be written, and all of the other half.
    pub(super) fn blocks_and_other(&mut self, half: usize, part: Range<usize>) -> (&mut [u8], &[u8]) {
        let (length, carry) = (self.cut.half(), self.cut.carry);
        let halves = self.bytes.get_disjoint_mut([0..length, length..2 * length]);
        let [first, second] = halves.unwrap_or([&mut [], &mut []]);
        let (this, other) = if half == 0 { (first, second) } else { (second, first) };
        (this.get_mut(carry + part.start..carry + part.end).unwrap_or(&mut []), other)
    }

    /// Copies the last `kept` bytes of the `length` in `half` to in front of the other half's blocks.
    pub(super) fn carry(&mut self, half: usize, length: usize, kept: usize) {
        let Cut { carry, .. } = self.cut;
        let from = half * self.cut.half() + carry + length - kept;
        let to = (1 - half) * self.cut.half() + carry - kept;
        self.move_to(from..from + kept, to);
    }

    /// Copies a part of `half` to the scratch memory at `at`.
    pub(super) fn copy_from_half(&mut self, half: usize, part: Range<usize>, at: usize) {
        let (from, to) = (half * self.cut.half(), 2 * self.cut.half() + at);
        self.move_to(from + part.start..from + part.end, to);
    }

    /// Copies a part to another place, which it does not overlap.
    fn move_to(&mut self, from: Range<usize>, to: usize) {
        let to = to..to + from.len();
        if let Ok([from, to]) = self.bytes.get_disjoint_mut([from, to]) {
            copy(to, from);
        }
    }

    /// A part of the scratch memory.
    pub(super) fn scratch(&self, part: Range<usize>) -> &[u8] {
        let start = 2 * self.cut.half();
        self.bytes.get(start + part.start..start + part.end).unwrap_or(&[])
    }

    /// The place of the cache that holds `block`.
    pub(super) fn slot_of(&self, block: u64) -> Option<usize> {
        self.tags.iter().take(2 * self.cut.blocks).position(|tag| *tag == block)
    }

    /// The place of the cache to be filled next; it holds nothing now.
    pub(super) fn take_slot(&mut self) -> usize {
        let slot = self.oldest;
        self.oldest = (slot + 1) % (2 * self.cut.blocks).max(1);
        self.fill_slot(slot, u64::MAX);
        slot
    }

    /// The half of a place of the cache, and its number there.
    pub(super) fn place_of(&self, slot: usize) -> (usize, usize) {
        let blocks = self.cut.blocks.max(1);
        (slot / blocks, slot % blocks)
    }

    /// The place holds `block` now.
    pub(super) fn fill_slot(&mut self, slot: usize, block: u64) {
        self.tags.get_mut(slot).into_iter().for_each(|tag| *tag = block);
    }

    /// Copies a part of a place of the cache to the scratch memory at `at`.
    pub(super) fn copy_from_slot(&mut self, slot: usize, part: Range<usize>, at: usize) {
        let (half, index) = self.place_of(slot);
        let start = self.cut.carry + index * BLOCK;
        self.copy_from_half(half, start + part.start..start + part.end, at);
    }

    /// The cache holds nothing any more.
    pub(super) fn forget_blocks(&mut self) {
        self.tags.fill(u64::MAX);
    }
}
