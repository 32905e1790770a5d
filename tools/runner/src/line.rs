//! Lines to a device that answers, or to who asks it: sockets, serial ports, standard input and output, as `embedded-io` has them.

use std::io::{self, BufWriter, Read, Write};
use std::time::Duration;

use embedded_io::ErrorType;

/// Bytes that are written at once.
const BUFFER: usize = 8 << 10;

/// A line out of what is read and what is written.
pub(crate) struct Line<R, W: Write> {
    reader: R,
    writer: BufWriter<W>,
}

impl<R: Read, W: Write> Line<R, W> {
    pub(crate) fn new(reader: R, writer: W) -> Self {
        Self { reader, writer: BufWriter::with_capacity(BUFFER, writer) }
    }
}

impl<R, W: Write> ErrorType for Line<R, W> {
    type Error = io::Error;
}

impl<R: Read, W: Write> embedded_io::Read for Line<R, W> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl<R, W: Write> embedded_io::Write for Line<R, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A connection through a socket.
#[derive(Debug)]
pub(crate) enum Socket {
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
    Tcp(std::net::TcpStream),
}

/// Does the same with either kind.
macro_rules! either {
    ($socket:expr, $stream:ident => $work:expr) => {
        match $socket {
            #[cfg(unix)]
            Socket::Unix($stream) => $work,
            Socket::Tcp($stream) => $work,
        }
    };
}

impl Socket {
    /// The same connection once more.
    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(match self {
            #[cfg(unix)]
            Socket::Unix(stream) => Socket::Unix(stream.try_clone()?),
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone()?),
        })
    }

    /// Ends it for all who have it.
    pub(crate) fn shut_down(&self, how: std::net::Shutdown) {
        // One that has ended already has nothing to shut down.
        let _ = either!(self, stream => stream.shutdown(how));
    }

    /// The longest time that the other end may take nothing.
    pub(crate) fn limit_writing(&self, time: Duration) -> io::Result<()> {
        either!(self, stream => stream.set_write_timeout(Some(time)))
    }

    /// The longest time that the other end may say nothing.
    pub(crate) fn limit_reading(&self, time: Duration) -> io::Result<()> {
        either!(self, stream => stream.set_read_timeout(Some(time)))
    }
}

impl Read for &Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => (&mut &*stream).read(bytes))
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => (&mut &*stream).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
