//! Messages to a line.

use embedded_io::Write;
use postcard::ser_flavors::Flavor;
use serde::Serialize;

use super::cobs::Stuffer;
use super::format::Header;
use crate::kernels::crc32c::extend;

/// Why a line took no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError<E> {
    /// Its own error.
    Line(E),
    /// It took none, and gave no error.
    Closed,
}

impl<E: core::fmt::Display> core::fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SendError::Line(error) => error.fmt(f),
            SendError::Closed => f.write_str("the line takes no more bytes"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for SendError<E> {}

/// Writes a message in a frame of its own, a byte at a time: neither is ever whole in memory.
pub(super) fn send<W: Write>(
    out: &mut W,
    header: Header,
    message: &impl Serialize,
) -> Result<(), SendError<W::Error>> {
    let mut failed = None;
    let frame = Frame { out, stuffer: Stuffer::new(), crc: !0, failed: &mut failed };
    let sent = postcard::serialize_with_flavor(&(header, message), frame);
    match (sent, failed) {
        (_, Some(error)) => Err(error),
        // Lengths of sequences are known, and nothing else is refused.
        (Ok(()) | Err(_), None) => Ok(()),
    }
}

/// All of `bytes`; the trait's own function panics where a line takes none.
pub(super) fn write_all<W: Write>(out: &mut W, mut bytes: &[u8]) -> Result<(), SendError<W::Error>> {
    while !bytes.is_empty() {
        let taken = out.write(bytes).map_err(SendError::Line)?;
        if taken == 0 {
            return Err(SendError::Closed);
        }
        bytes = bytes.get(taken..).unwrap_or(&[]);
    }
    Ok(())
}

/// Makes a frame of bytes.
struct Frame<'f, W: Write> {
    out: &'f mut W,
    stuffer: Stuffer,
    crc: u32,
    failed: &'f mut Option<SendError<W::Error>>,
}

impl<W: Write> Frame<'_, W> {
    fn told<T>(&mut self, written: Result<T, SendError<W::Error>>) -> postcard::Result<T> {
        written.map_err(|error| {
            *self.failed = Some(error);
            postcard::Error::SerializeBufferFull
        })
    }

    fn stuff(&mut self, byte: u8) -> postcard::Result<()> {
        let out = &mut *self.out;
        let written = self.stuffer.push(byte, |group| write_all(out, group));
        self.told(written)
    }
}

impl<W: Write> Flavor for Frame<'_, W> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.crc = extend(self.crc, &[byte]);
        self.stuff(byte)
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.crc = extend(self.crc, bytes);
        bytes.iter().try_for_each(|&byte| self.stuff(byte))
    }

    fn finalize(mut self) -> postcard::Result<()> {
        for byte in (!self.crc).to_le_bytes() {
            self.stuff(byte)?;
        }
        let out = &mut *self.out;
        let written = self.stuffer.finish(|group| write_all(out, group));
        self.told(written)
    }
}
