//! What a plan is streamed from.

use core::fmt;

use embedded_io::{ErrorType, Read, ReadExactError, Seek, SeekFrom};

/// Storage that holds a plan.
pub trait Storage {
    /// Why it can't be read.
    type Error;

    /// Reads as many bytes as `into` has, from byte `offset` of the plan on.
    ///
    /// # Errors
    /// The storage's own, also where the plan ends before.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Self::Error>;

    /// The same, and calls `check` with the bytes once they are there, and does `work` meanwhile where the platform can: with a
    /// thread, or a transfer by the device itself. `work` is done whatever happens to the read. By itself it reads after the work.
    ///
    /// # Errors
    /// As [`read`](Self::read); then `check` need not have been called.
    fn read_while(
        &mut self,
        offset: u64,
        into: &mut [u8],
        check: &(dyn Fn(&[u8]) + Sync),
        work: impl FnOnce(),
    ) -> Result<(), Self::Error> {
        work();
        self.read(offset, into)?;
        check(into);
        Ok(())
    }
}

impl<S: Storage> Storage for &mut S {
    type Error = S::Error;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(offset, into)
    }

    fn read_while(
        &mut self,
        offset: u64,
        into: &mut [u8],
        check: &(dyn Fn(&[u8]) + Sync),
        work: impl FnOnce(),
    ) -> Result<(), Self::Error> {
        (**self).read_while(offset, into, check, work)
    }
}

/// Anything that `embedded_io` reads and seeks in.
#[derive(Clone, Copy, Debug)]
pub struct Seekable<T>(pub T);

/// Why something seekable can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekableError<E> {
    /// It ends before the plan does.
    End,
    /// Its own error.
    Other(E),
}

impl<E: fmt::Debug> fmt::Display for SeekableError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeekableError::End => f.write_str("it ends before the plan does"),
            SeekableError::Other(error) => write!(f, "{error:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for SeekableError<E> {}

impl<T: Read + Seek> Storage for Seekable<T> {
    type Error = SeekableError<<T as ErrorType>::Error>;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Self::Error> {
        self.0.seek(SeekFrom::Start(offset)).map_err(SeekableError::Other)?;
        // Reads are repeated until all bytes are there.
        self.0.read_exact(into).map_err(|error| match error {
            ReadExactError::UnexpectedEof => SeekableError::End,
            ReadExactError::Other(error) => SeekableError::Other(error),
        })
    }
}
