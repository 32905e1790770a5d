//! What of the file stands in the buffer while it is read from front to back.

use core::ops::Range;

/// Bytes of the file in one half of the buffer, and blocks that follow them in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The half.
    pub(super) half: usize,
    /// Where its blocks begin in the file.
    start: u64,
    /// Bytes of its blocks.
    length: usize,
    /// Bytes before `start` that stand in front of the blocks.
    carried: usize,
    /// The block that follows.
    pub(super) next: u64,
    /// Blocks from `next` on that stand in the other half.
    pub(super) ahead: usize,
}

impl Window {
    /// Over `length` bytes from `start` on in the first half; block `next` follows.
    pub(super) fn new(start: u64, length: usize, next: u64) -> Self {
        Self { half: 0, start, length, carried: 0, next, ahead: 0 }
    }

    /// What it has of the file.
    pub(super) fn range(&self) -> Range<u64> {
        self.start - self.carried as u64..self.start + self.length as u64
    }

    /// Bytes of its blocks.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Whether it has the byte at `offset`, or will have when it moves on once.
    pub(super) fn reaches(&self, offset: u64) -> bool {
        let range = self.range();
        range.start <= offset && offset <= range.end
    }

    /// Where the byte at `offset`, which it has, stands in the half, whose blocks begin at `carry`.
    pub(super) fn place(&self, offset: u64, carry: usize) -> usize {
        (carry as u64 + offset - self.start) as usize
    }

    /// The same with `count` blocks more ahead.
    pub(super) fn with_ahead(self, count: usize) -> Self {
        Self { ahead: self.ahead + count, ..self }
    }

    /// The same moved on to the blocks ahead, with `carried` bytes in front of them; `bytes` tells how many blocks have.
    pub(super) fn moved(self, carried: usize, bytes: impl Fn(u64, usize) -> usize) -> Self {
        Self {
            half: 1 - self.half,
            start: self.start + self.length as u64,
            length: bytes(self.next, self.ahead),
            carried,
            next: self.next + self.ahead as u64,
            ahead: 0,
        }
    }
}
