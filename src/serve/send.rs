//! Messages to a line.

use embedded_io::Write;
use postcard::ser_flavors::Flavor;
use serde::Serialize;

use super::cobs::Stuffer;
use super::format::Header;
use super::message::Request;
use super::values::Sent;
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

/// Where the parts of a frame go; false where one is not taken.
type Taker<'t> = &'t mut dyn FnMut(&[u8]) -> bool;

/// What goes in a frame. Of each kind there is one function, which knows no line.
pub(super) trait Message {
    /// Makes a frame, a byte at a time: neither it nor the message is ever whole in memory.
    fn frame(&self, header: Header, take: Taker<'_>);
}

impl Message for Sent<'_> {
    fn frame(&self, header: Header, take: Taker<'_>) {
        frame(header, self, take);
    }
}

impl Message for Request<'_> {
    fn frame(&self, header: Header, take: Taker<'_>) {
        frame(header, self, take);
    }
}

fn frame(header: Header, message: &impl Serialize, take: Taker<'_>) {
    // Lengths of sequences are known, and nothing else is refused but what the line does not take, which it tells itself.
    let _ =
        postcard::serialize_with_flavor(&(header, message), Frame { take, stuffer: Stuffer::new(), crc: !0 });
}

/// Writes a message in a frame of its own.
pub(super) fn send<W: Write>(
    out: &mut W,
    header: Header,
    message: &impl Message,
) -> Result<(), SendError<W::Error>> {
    let mut sent = Ok(());
    message.frame(header, &mut |part| {
        sent = write_all(out, part);
        sent.is_ok()
    });
    sent
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
struct Frame<'t> {
    take: Taker<'t>,
    stuffer: Stuffer,
    crc: u32,
}

/// What is told where the line takes no more.
const FULL: postcard::Error = postcard::Error::SerializeBufferFull;

impl Frame<'_> {
    #[inline(never)]
    fn stuff(&mut self, byte: u8) -> postcard::Result<()> {
        let take = &mut self.take;
        self.stuffer.push(byte, |group| if take(group) { Ok(()) } else { Err(FULL) })
    }
}

impl Flavor for Frame<'_> {
    type Output = ();

    // Not compiled into each field of each message: the line is slower than a call.
    #[inline(never)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.crc = extend(self.crc, &[byte]);
        self.stuff(byte)
    }

    #[inline(never)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.crc = extend(self.crc, bytes);
        bytes.iter().try_for_each(|&byte| self.stuff(byte))
    }

    fn finalize(mut self) -> postcard::Result<()> {
        for byte in (!self.crc).to_le_bytes() {
            self.stuff(byte)?;
        }
        let take = &mut self.take;
        self.stuffer.finish(|group| if take(group) { Ok(()) } else { Err(FULL) })
    }
}
