//! What both targets share: frames out of a fuzzer's bytes, and a line.

use std::collections::VecDeque;
use std::convert::Infallible;

use embedded_io::{ErrorType, Read, Write};

/// The pieces of `data` as a line brings them: a piece that begins with an even byte is noise, one with an odd byte is a frame
/// with a right checksum, which no fuzzer guesses. A zero ends each.
pub fn bytes(data: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    for piece in data.split(|&byte| byte == 0xff).filter(|piece| !piece.is_empty()) {
        let (kind, content) = (piece[0], &piece[1..]);
        if kind % 2 == 0 {
            line.extend_from_slice(content);
        } else {
            let mut frame = content.to_vec();
            frame.extend(cliptext::plan::format::crc32c(content).to_le_bytes());
            line.extend(cobs::encode_vec(&frame));
        }
        line.push(0);
    }
    line
}

/// A line whose other end has said everything already, or says it when something is written.
#[derive(Default)]
pub struct Line {
    pub incoming: VecDeque<u8>,
    pub written: Vec<u8>,
}

impl ErrorType for Line {
    type Error = Infallible;
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let count = into.len().min(self.incoming.len());
        into.iter_mut().zip(self.incoming.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
