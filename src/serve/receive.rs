//! Frames out of what a line brings.

use super::cobs::Unstuffer;
use super::format::{CHECKSUM, SHORTEST};
use crate::kernels::crc32c::extend;

/// The register of CRC-32C behind any message and its checksum.
const RESIDUE: u32 = 0xb798_b438;

/// What a zero ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A frame whose checksum is right, whole in the buffer.
    Frame,
    /// A frame whose checksum is right, of which the buffer has the beginning only.
    TooLong,
    /// A frame that is damaged or cut.
    Damaged,
    /// So little that it was no frame.
    Noise,
}

/// Takes the bytes of a line one by one and finds the frames among them, in a buffer of the caller's: the longest frame that it
/// takes is as long. Whatever came before, a zero ends it, and the next frame is found.
#[derive(Debug)]
pub struct Receiver<'b> {
    buffer: &'b mut [u8],
    /// Bytes of the frame so far, of which the buffer has the first.
    length: usize,
    unstuffer: Unstuffer,
    crc: u32,
    /// Bytes on the line since the last zero.
    raw: usize,
}

impl<'b> Receiver<'b> {
    /// One that has seen nothing.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, length: 0, unstuffer: Unstuffer::default(), crc: !0, raw: 0 }
    }

    /// The longest frame that it takes: bytes of header, message and checksum, before they are stuffed.
    pub fn limit(&self) -> usize {
        self.buffer.len()
    }

    /// Takes a byte; a zero ends what came since the last one.
    pub(super) fn push(&mut self, byte: u8) -> Option<End> {
        if byte != 0 {
            if self.raw == 0 {
                self.length = 0;
            }
            self.raw = self.raw.saturating_add(1);
            if let Some(byte) = self.unstuffer.push(byte) {
                if let Some(place) = self.buffer.get_mut(self.length) {
                    *place = byte;
                }
                self.length = self.length.saturating_add(1);
                self.crc = extend(self.crc, &[byte]);
            }
            return None;
        }
        let whole = self.unstuffer.finish();
        let right = core::mem::replace(&mut self.crc, !0) == RESIDUE;
        match core::mem::take(&mut self.raw) {
            0 => None,
            1..=SHORTEST => Some(End::Noise),
            _ if !whole || !right || self.length < SHORTEST => Some(End::Damaged),
            _ if self.length > self.buffer.len() => Some(End::TooLong),
            _ => Some(End::Frame),
        }
    }

    /// Header and message of the frame that was ended last, or the beginning of them. To be read before the next byte.
    pub(super) fn content(&self) -> &[u8] {
        let length = self.length.saturating_sub(CHECKSUM).min(self.buffer.len());
        self.buffer.get(..length).unwrap_or(&[])
    }
}
