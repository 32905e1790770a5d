//! The other end of the line: a client.

use core::fmt;

use embedded_io::{Read, Write};

use super::format::{Header, Side};
use super::message::{Answer, Request};
use super::receive::{End, Receiver};
use super::send::{SendError, send, write_all};

/// Bytes that are read from a line at a time, at the most.
const CHUNK: usize = 256;

/// Asks a server, one request at a time.
pub struct Client<'b, L> {
    line: L,
    receiver: Receiver<'b>,
    chunk: [u8; CHUNK],
    /// Where the bytes of the chunk begin and end that nobody took yet.
    next: usize,
    end: usize,
    id: u32,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError<E> {
    /// The line failed.
    Line(SendError<E>),
    /// The line ended.
    Ended,
    /// A frame is longer than the buffer.
    TooLong {
        /// Bytes of the buffer.
        limit: usize,
    },
    /// A frame of the answer was damaged on the line: ask again.
    Damaged,
    /// An answer is none that this version knows.
    Malformed,
}

impl<E: fmt::Display> fmt::Display for ClientError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Line(error) => error.fmt(f),
            ClientError::Ended => f.write_str("the server closed the line"),
            ClientError::TooLong { limit } => {
                write!(f, "the server's answer has a frame of more than {limit} bytes")
            }
            ClientError::Damaged => f.write_str("the answer was damaged on the line: ask again"),
            ClientError::Malformed => f.write_str("the server's answer is not as the protocol has it"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for ClientError<E> {}

impl<'b, L: Read + Write> Client<'b, L> {
    /// A client on `line`. `buffer` takes the longest frame of an answer: that of a row of 4 bytes for each column, and 64 more.
    pub fn new(line: L, buffer: &'b mut [u8]) -> Self {
        Self { line, receiver: Receiver::new(buffer), chunk: [0; CHUNK], next: 0, end: 0, id: 0 }
    }

    /// The line.
    pub fn line(&mut self) -> &mut L {
        &mut self.line
    }

    /// Sends a request; its answers are [`answer`](Self::answer)s.
    ///
    /// # Errors
    /// [`ClientError::Line`].
    pub fn ask(&mut self, request: &Request<'_>) -> Result<(), ClientError<L::Error>> {
        self.id = self.id.wrapping_add(1).max(1);
        // Whatever the server has heard before ends here.
        let header = Header::new(Side::Client, self.id);
        write_all(&mut self.line, &[0]).map_err(ClientError::Line)?;
        send(&mut self.line, header, request).map_err(ClientError::Line)?;
        self.line.flush().map_err(|error| ClientError::Line(SendError::Line(error)))
    }

    /// The next answer to the request that was sent last, or to what of it arrived: a
    /// [`Problem::Damaged`](super::Problem::Damaged) that names no request is about it or about noise on the line before it. All else
    /// that the line brings is skipped: answers to requests before, noise.
    ///
    /// # Errors
    /// [`ClientError`]. Behind [`ClientError::Damaged`] the rest of the answer may still come, and is skipped with the next request.
    pub fn answer(&mut self) -> Result<Answer<'_>, ClientError<L::Error>> {
        let end = self.frame()?;
        match end {
            End::Damaged | End::Noise => return Err(ClientError::Damaged),
            End::TooLong => return Err(ClientError::TooLong { limit: self.receiver.limit() }),
            End::Frame => {}
        }
        let Some((header, message)) = Header::take(self.receiver.content()) else {
            return Err(ClientError::Malformed);
        };
        if !header.is_current() {
            return Err(ClientError::Malformed);
        }
        postcard::from_bytes(message).map_err(|_| ClientError::Malformed)
    }

    /// Reads up to the end of a frame of an answer, or of one that is damaged.
    fn frame(&mut self) -> Result<End, ClientError<L::Error>> {
        loop {
            while self.next < self.end {
                let byte = self.chunk.get(self.next).copied().unwrap_or(0);
                self.next += 1;
                let Some(end) = self.receiver.push(byte) else { continue };
                let header = Header::take(self.receiver.content()).map(|(header, _)| header);
                match (end, header) {
                    (End::Noise, _) => {}
                    (End::Damaged, _) => return Ok(end),
                    (_, Some(header))
                        if header.side() == Side::Server && [0, self.id].contains(&header.id) =>
                    {
                        return Ok(end);
                    }
                    _ => {}
                }
            }
            let read = self.line.read(&mut self.chunk);
            let read = read.map_err(|error| ClientError::Line(SendError::Line(error)))?;
            if read == 0 {
                return Err(ClientError::Ended);
            }
            (self.next, self.end) = (0, read.min(CHUNK));
        }
    }
}
