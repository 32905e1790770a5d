//! What a frame is made of: a header, a message, a checksum.

use serde::{Deserialize, Serialize};

/// The version of the protocol: of all that stands behind the header.
pub const VERSION: u8 = 1;

/// Set beside the version in answers, so that none is taken for a request: by a server whose own answers come back, as on a line with
/// an echo.
const ANSWER: u8 = 0x80;

/// Bytes of the checksum at the end: CRC-32C of header and message, little-endian.
pub(super) const CHECKSUM: usize = 4;

/// Bytes of the shortest frame, before it is stuffed: version, id, message and checksum.
pub(super) const SHORTEST: usize = 3 + CHECKSUM;

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The front of a frame, the same in every version: a byte and the id as a varint, as postcard has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    version: u8,
    /// The client's name for a request, which the answers to it repeat.
    pub(super) id: u32,
}

impl Header {
    pub(super) fn new(side: Side, id: u32) -> Self {
        let version = if side == Side::Server { VERSION | ANSWER } else { VERSION };
        Self { version, id }
    }

    /// The header at the front of a frame, and what is behind it.
    pub(super) fn take(frame: &[u8]) -> Option<(Self, &[u8])> {
        postcard::take_from_bytes(frame).ok()
    }

    pub(super) fn side(&self) -> Side {
        if self.version & ANSWER == 0 { Side::Client } else { Side::Server }
    }

    /// Whether the message is one of this version.
    pub(super) fn is_current(&self) -> bool {
        self.version & !ANSWER == VERSION
    }
}
